"""Decorators that give a task class the parameters of others, so that it can require, copy or contain them.

    @requires(Readings)                 # Readings has date and city; so has Summary then, and it requires Readings
    class Summary(Task): ...

Names and behaviour are those of `luigi.util`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.register import Register

__all__ = ["common_params", "copies", "delegates", "inherits", "requires"]

C = TypeVar("C", bound=type)


def common_params(task_instance: Any, task_cls: Any) -> dict[str, Any]:
    """The values of `task_instance` for those parameters that `task_cls` has too."""
    if not isinstance(task_cls, Register):
        raise TypeError("task_cls must be an uninstantiated Task")
    given = task_instance.param_kwargs
    shared = [(name, parameter) for name, parameter in task_cls.get_params() if name in given]  # type: ignore[attr-defined]
    return dict(task_instance.get_param_values(shared, [], {name: given[name] for name, _ in shared}))


class inherits:
    """Gives a task class the parameters of others that it lacks, and `clone_parent` and `clone_parents` to make them.

    Classes given by name are cloned into a dict, others into a list.
    """

    def __init__(self, *tasks_to_inherit: Any, **kw_tasks_to_inherit: Any) -> None:
        if not tasks_to_inherit and not kw_tasks_to_inherit:
            raise TypeError("tasks_to_inherit or kw_tasks_to_inherit must contain at least one task")
        if tasks_to_inherit and kw_tasks_to_inherit:
            raise TypeError("Only one of tasks_to_inherit or kw_tasks_to_inherit may be present")
        self.tasks_to_inherit = tasks_to_inherit
        self.kw_tasks_to_inherit = kw_tasks_to_inherit

    def __call__(self, task_that_inherits: C) -> C:
        unnamed, named = self.tasks_to_inherit, self.kw_tasks_to_inherit
        cls: Any = task_that_inherits
        for inherited in (*unnamed, *named.values()):
            for name, parameter in inherited.get_params():
                if not hasattr(cls, name):
                    setattr(cls, name, parameter)

        def clone_parent(self: Any, **kwargs: Any) -> Any:
            return self.clone(unnamed[0], **kwargs)

        def clone_parents(self: Any, **kwargs: Any) -> Any:
            if named:
                return {name: self.clone(parent, **kwargs) for name, parent in named.items()}
            return [self.clone(parent, **kwargs) for parent in unnamed]

        if unnamed:
            cls.clone_parent = clone_parent
        cls.clone_parents = clone_parents
        return task_that_inherits


class requires:
    """As `inherits`, and makes the task require what it inherits from."""

    def __init__(self, *tasks_to_require: Any, **kw_tasks_to_require: Any) -> None:
        self._inherits = inherits(*tasks_to_require, **kw_tasks_to_require)

    def __call__(self, task_that_requires: C) -> C:
        cls: Any = self._inherits(task_that_requires)
        is_single = len(self._inherits.tasks_to_inherit) == 1

        def requires(self: Any) -> Any:
            return self.clone_parent() if is_single else self.clone_parents()

        cls.requires = requires
        return task_that_requires


class copies:
    """As `requires`, and makes `run()` copy the one input to the one output."""

    def __init__(self, task_to_copy: Any) -> None:
        self._requires = requires(task_to_copy)

    def __call__(self, task_that_copies: C) -> C:
        def run(self: Any) -> None:
            with self.input().open("r") as source, self.output().open("w") as target:
                for line in source:
                    target.write(line)

        return _derive(self._requires(task_that_copies), {"run": run})


def delegates(task_that_delegates: C) -> C:
    """Makes a task run those that its `subtasks()` names as a part of itself, and require what they require."""
    cls: Any = task_that_delegates
    if not hasattr(cls, "subtasks"):
        raise AttributeError(f'{cls} needs to implement the method "subtasks"')

    def deps(self: Any) -> list[Any]:
        return flatten(self.requires()) + [dep for task in flatten(self.subtasks()) for dep in flatten(task.deps())]

    def run(self: Any) -> None:
        for task in flatten(self.subtasks()):
            task.run()
        cls.run(self)

    return _derive(task_that_delegates, {"deps": deps, "run": run})


def _derive(cls: C, methods: dict[str, Callable[..., Any]]) -> C:
    """A subclass with `methods` that has the name, family and documentation of `cls`, and takes its place by name."""
    names = ("__module__", "__doc__", "__qualname__")
    body = {name: inspect.getattr_static(cls, name) for name in names if name in vars(cls)}
    derived: Any = type(cls)(cls.__name__, (cls,), {**body, "__qualname__": cls.__qualname__, **methods})
    derived._namespace_at_class_time = cls._namespace_at_class_time  # type: ignore[attr-defined]
    return derived  # type: ignore[no-any-return]
