"""Parameters whose values name something else: a task class, a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from jubako.flow.parameters.parameter import NoValue, Parameter, ParameterOptions, no_value

if TYPE_CHECKING:
    from jubako.flow.tasks.task import Task

__all__ = ["PathParameter", "TaskParameter"]


class TaskParameter(Parameter["type[Task]"]):
    """A task class, by the name of its family."""

    def parse(self, x: str) -> type[Task]:
        from jubako.flow.tasks.register import Register  # a cycle: tasks are made of parameters

        found: type[Task] = Register.get_task_cls(x)
        return found

    def serialize(self, x: type[Task]) -> str:
        return x.get_task_family()


class PathParameter(Parameter[Path]):
    """A path. `absolute=True` resolves it against the working directory; `exists=True` refuses one that isn't there."""

    def __init__(
        self,
        default: Path | NoValue = no_value,
        *,
        absolute: bool = False,
        exists: bool = False,
        **options: Unpack[ParameterOptions],
    ) -> None:
        self.absolute = absolute
        self.exists = exists
        super().__init__(default, **options)

    def normalize(self, x: Any) -> Path:
        path = Path(x)
        if self.absolute:
            path = path.absolute()
        if self.exists and not path.exists():
            raise ValueError(f"The path {path} does not exist.")
        return path
