"""The metaclass of tasks: every class by its family name, and the same task object for the same arguments.

Two things are kept here for the whole process: the list of task classes, and one task per class and values. A task
costs a few hundred bytes; `Register.clear_instance_cache()` lets go of all of them.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from jubako.errors import InputError
from jubako.flow.parameters.parameter import Parameter
from jubako.flow.tasks.signature import Signature, find_parameters

__all__ = [
    "Register",
    "TaskClassAmbigiousException",
    "TaskClassException",
    "TaskClassNotFoundException",
    "find_signature",
    "load_task",
]

# Changing one of these changes the family, and so the signature, of a class.
_NAMING = frozenset({"task_namespace", "_namespace_at_class_time", "get_task_family", "get_task_namespace", "__name__"})

_SUGGESTION_DISTANCE = 5


class TaskClassException(InputError):
    """No task class can be told from a name."""


class TaskClassNotFoundException(TaskClassException):
    """No task class has the name; the message suggests those that come near."""


class TaskClassAmbigiousException(TaskClassException):
    """Several task classes have the name (spelt as in Luigi)."""


class Register(ABCMeta):
    """Metaclass of `Task`: finds classes by name and keeps one task per class and values."""

    AMBIGUOUS_CLASS: ClassVar[Any] = object()  # stands for a family that several unrelated classes have

    _reg: ClassVar[list[Any]] = []
    _default_namespace_dict: ClassVar[dict[str, str]] = {}  # module (or a parent of it, "" = all) -> namespace
    _instances: ClassVar[dict[Any, dict[tuple[Any, ...], Any]] | None] = {}  # class -> values -> task; None: no cache

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Register:
        cls = super().__new__(mcs, name, bases, namespace, **kwargs)
        type.__setattr__(cls, "_namespace_at_class_time", mcs._get_namespace(cls.__module__))
        mcs._reg.append(cls)
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """The task of this class with these arguments: the one made before, or a new one."""
        signature = cls.__dict__.get("_signature") or find_signature(cls)
        values = signature.resolve(args, kwargs)
        instances = Register._instances
        if instances is None:
            return cls._make(signature, values, args, kwargs)
        tasks = instances.get(cls)
        if tasks is None:
            tasks = instances.setdefault(cls, {})
        try:
            task = tasks.get(values)
        except TypeError:  # unhashable values: nothing to find the task by
            return cls._make(signature, values, args, kwargs)
        if task is None:
            # Made before it is kept: an __init__ may raise. setdefault: of two threads both get the first one's.
            task = tasks.setdefault(values, cls._make(signature, values, args, kwargs))
        return task

    def __setattr__(cls, name: str, value: Any) -> None:
        if name in _NAMING or isinstance(value, Parameter) or _is_parameter(cls, name):
            _forget_signatures(cls)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        _forget_signatures(cls)
        super().__delattr__(name)

    @property
    def task_family(cls) -> str:
        family: str = cls.get_task_family()  # type: ignore[attr-defined]  # of Task
        return family

    @classmethod
    def clear_instance_cache(mcs) -> None:
        """Forgets all tasks made so far: the same arguments then make a new task."""
        Register._instances = {}

    @classmethod
    def disable_instance_cache(mcs) -> None:
        """From now on every call makes a new task."""
        Register._instances = None

    @classmethod
    @contextmanager
    def forgetting_new_tasks(mcs) -> Iterator[None]:
        """Of the tasks that are made within the block none is kept after it, so that millions can be looked at."""
        instances = Register._instances
        before = {cls: len(tasks) for cls, tasks in (instances or {}).items()}
        try:
            yield
        finally:
            for cls, tasks in (instances or {}).items():
                for _ in range(len(tasks) - before.get(cls, 0)):
                    tasks.popitem()  # the youngest

    @classmethod
    def task_names(mcs) -> list[str]:
        """The families of all visible task classes, sorted."""
        return sorted(mcs._get_reg())

    @classmethod
    def tasks_str(mcs) -> str:
        return ",".join(mcs.task_names())

    @classmethod
    def get_task_cls(mcs, name: str) -> Any:
        """The task class with this family; raises with suggestions when there is none, or more than one."""
        found = mcs._get_reg().get(name)
        if found is None:
            raise TaskClassNotFoundException(mcs._missing_task_msg(name))
        if found is mcs.AMBIGUOUS_CLASS:
            places = ", ".join(sorted({c.__module__ for c in mcs._reg if c.get_task_family() == name}))
            raise TaskClassAmbigiousException(
                f"Task {name!r} is ambiguous", hint=f"classes of this name are in: {places}"
            )
        return found

    @classmethod
    def get_all_params(mcs) -> Iterator[tuple[str, bool, str, Parameter[Any]]]:
        """For each parameter of each class: family, has no section of its own, parameter name, parameter."""
        for family, cls in mcs._get_reg().items():
            if cls is not mcs.AMBIGUOUS_CLASS:
                for name, parameter in cls.get_params():
                    yield family, not cls.use_cmdline_section, name, parameter

    @classmethod
    def _get_reg(mcs) -> dict[str, Any]:
        """Family -> class, made anew each time because families can change."""
        reg: dict[str, Any] = {}
        for cls in mcs._reg:
            if not cls._visible_in_registry:
                continue
            name = cls.get_task_family()
            known = reg.get(name)
            # A subclass may take over its base's name (decorators make such); unrelated classes may not share one.
            if known is None or (known is not mcs.AMBIGUOUS_CLASS and issubclass(cls, known)):
                reg[name] = cls
            else:
                reg[name] = mcs.AMBIGUOUS_CLASS
        return reg

    @classmethod
    def _set_reg(mcs, reg: dict[str, Any]) -> None:
        """Makes the classes of `reg` the only ones known; the inverse of `_get_reg`."""
        mcs._reg = [cls for cls in reg.values() if cls is not mcs.AMBIGUOUS_CLASS]

    @classmethod
    def _get_namespace(mcs, module_name: str) -> str:
        """The namespace declared for the module or the nearest parent of it that has one."""
        parts = module_name.split(".")
        for length in range(len(parts), 0, -1):
            namespace = mcs._default_namespace_dict.get(".".join(parts[:length]))
            if namespace:
                return namespace
        return mcs._default_namespace_dict.get("", "")

    @classmethod
    def _missing_task_msg(mcs, name: str) -> str:
        alike = [other for other in mcs.task_names() if abs(len(name) - len(other)) <= _SUGGESTION_DISTANCE]
        near = sorted((_edit_distance(name, other), other) for other in alike)
        suggested = [other for distance, other in near if distance <= _SUGGESTION_DISTANCE and distance < len(other)]
        if suggested:
            return f"No task {name}. Did you mean:\n" + "\n".join(suggested)
        return f"No task {name}. Candidates are: {mcs.tasks_str()}"

    def make_passing(cls, name: str, values: Sequence[Any], others: Mapping[str, Any]) -> list[Any]:
        """The tasks with each of `values` as `name`, and `others`, kept nowhere. What none asks for is not worked out.

        Equal to those that a call makes, at a third of the cost: to be asked something once and let go.
        """
        signature = find_signature(cls)
        if not signature.plain or not values:
            return [cls(**{name: value}, **others) for value in values]
        place, normalize = signature.names.index(name), signature.by_name[name].normalize
        same = cls(**{name: values[0]}, **others)._values
        before, after = same[:place], same[place + 1 :]
        tasks = []
        for value in values:
            task: Any = object.__new__(cls)  # type: ignore[arg-type]  # every class of this metaclass is one of tasks
            task._values = (*before, normalize(value), *after)
            for parameter, given in zip(signature.names, task._values, strict=True):
                setattr(task, parameter, given)
            tasks.append(task)
        return tasks

    def _make(cls, signature: Signature, values: tuple[Any, ...], args: Any, kwargs: Any) -> Any:
        if signature.plain:  # no __init__ of the class's own: don't resolve the arguments twice
            task: Any = object.__new__(cls)  # type: ignore[arg-type]  # every class of this metaclass is one of tasks
            task._fill(signature, values)
            return task
        return super().__call__(*args, **kwargs)


def find_signature(cls: Any) -> Signature:
    """The signature of a task class, made when it has none or has changed."""
    signature: Signature | None = cls.__dict__.get("_signature")
    if signature is None:
        root: Any = [base for base in cls.__mro__ if isinstance(base, Register)][-1]
        plain = cls.__init__ is root.__init__ and cls.__new__ is root.__new__
        signature = Signature(cls.get_task_family(), find_parameters(cls), plain=plain)
        type.__setattr__(cls, "_signature", signature)
    return signature


def load_task(module: str | None, task_name: str, params_str: dict[str, str]) -> Any:
    """The task with these texts as parameters; `module` is imported first so that its classes are known."""
    if module is not None:
        __import__(module)
    return Register.get_task_cls(task_name).from_str_params(params_str)


def _is_parameter(cls: type, name: str) -> bool:
    return any(isinstance(vars(base).get(name), Parameter) for base in cls.__mro__)


def _forget_signatures(cls: Any) -> None:
    """Drops the signature of `cls` and of everything derived from it."""
    if "_signature" in cls.__dict__:
        type.__delattr__(cls, "_signature")
    for derived in type.__subclasses__(cls):
        _forget_signatures(derived)


def _edit_distance(a: str, b: str) -> int:
    """How many characters to insert, delete or replace to make `b` of `a` (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, char_a in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, char_b in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (char_a != char_b))
    return row[-1]
