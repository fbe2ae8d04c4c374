"""A task named so that another process, which has the same pipeline loaded, can make it again.

Tasks themselves are not sent: an unpickled task would not be the one that the register keeps for its values. A
reference holds where the class is and the values of its parameters: of all, for another process; of those that are
public, for the ledger.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jubako.errors import InputError
from jubako.flow.parameters import MissingParameterException, Parameter, ParameterVisibility
from jubako.flow.tasks.external import externalize
from jubako.flow.tasks.register import Register
from jubako.records import record

__all__ = ["TaskReference", "dump_references", "load_references", "refer"]


@record
class TaskReference:
    """Which task. Picklable as far as the values are."""

    module: str
    qualname: str
    family: str
    values: Mapping[str, Any]
    is_external: bool = False

    def resolve(self) -> Any:
        """The task in this process; InputError if its class is not loaded here."""
        cls = self._find_class()
        if self.is_external and cls.run is not None:
            cls = externalize(cls)
        try:
            return cls(**self.values)
        except MissingParameterException as error:
            left_out = [
                name for name, parameter in cls.get_params() if name not in self.values and not _is_public(parameter)
            ]
            if not left_out:
                raise
            raise InputError(
                f"{self.family} conceals {' and '.join(left_out)}, which was not written down",
                hint="ask for the task again, or put the value into settings",
            ) from error

    def _find_class(self) -> Any:
        found: Any = sys.modules.get(self.module)
        for name in self.qualname.split("."):
            found = getattr(found, name, None)
        if isinstance(found, Register) and found.task_family == self.family:
            return found
        return Register.get_task_cls(self.family)


def refer(task: Any, *, concealed: bool = True) -> TaskReference:
    """The reference of `task`, with or without what it conceals."""
    cls = type(task)
    values = task.param_kwargs
    if not concealed:
        values = {name: values[name] for name, parameter in cls.get_params() if _is_public(parameter)}
    return TaskReference(cls.__module__, cls.__qualname__, cls.task_family, values, task.run is None)


def dump_references(tasks: Sequence[Any]) -> bytes:
    """Tasks as bytes for another process. InputError naming the task whose values cannot be pickled."""
    for task in tasks:
        try:
            pickle.dumps(refer(task))
        except Exception as error:  # whatever a value's own __reduce__ raises
            raise InputError(
                f"{task} cannot be handed to another process: {error}",
                hint="parameter values have to be picklable: define their classes at the top of a module",
            ) from error
    return pickle.dumps([refer(task) for task in tasks])


def load_references(data: bytes) -> list[Any]:
    """The tasks that `dump_references` was given, made in this process."""
    references: list[TaskReference] = pickle.loads(data)
    return [reference.resolve() for reference in references]


def _is_public(parameter: Parameter[Any]) -> bool:
    return parameter.visibility is ParameterVisibility.PUBLIC
