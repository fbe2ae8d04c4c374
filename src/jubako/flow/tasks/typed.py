"""Tasks whose annotations are parameters: what `jubako.Task`, `ExternalTask`, `WrapperTask` and `Config` are.

    class DailySummary(Task):
        date: Annotated[datetime.date, "the day to make"]
        city: str = "Oslo"
        retries = IntParameter(default=3)       # a parameter object, as in Luigi: both mix

An attribute is a parameter if the body of such a class annotates it, unless
    its name starts with _, or it is annotated as ClassVar or Final,
    its value is a parameter object already, or a function, property or the like,
    a class it derives from has it as something else than a parameter (`priority`, `resources`, `box` ...).
Bodies of other classes are not read: under Luigi's names tasks derive from `task.Task` itself, so that there an
annotation means what it means to Luigi, nothing.

Parameters count in the order of the body, annotated or not; one that replaces an inherited one keeps its place.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, Final, dataclass_transform, get_origin, get_type_hints

from jubako.flow.parameters.errors import AnnotationException, ParameterException
from jubako.flow.parameters.parameter import Parameter, next_place, no_value
from jubako.flow.tasks import task as classic
from jubako.flow.tasks.annotations import make_parameter
from jubako.flow.tasks.register import Register

__all__ = ["Config", "ExternalTask", "Task", "TypedRegister", "WrapperTask"]

_NO_PARAMETER = re.compile(r"[\s'\"]*([\w.]+\.)?(ClassVar|Final)\b")  # in an annotation that is still text


class _Body(dict[str, Any]):
    """The `__annotations__` of a class body while it runs: also where it stands, and in which order names came."""

    def __init__(self, frame: Any) -> None:
        super().__init__()
        self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        self.names = {**frame.f_globals, **frame.f_locals}
        self.counters: dict[str, int] = {}

    def __setitem__(self, name: str, annotation: Any) -> None:
        self.counters.setdefault(name, next_place())
        super().__setitem__(name, annotation)


class TypedRegister(Register):
    """Metaclass of the tasks here: makes parameters of annotations when a class is defined.

    `kw_only=True` in a class statement: what its body annotates can be given by name only, as in dataclasses.
    """

    if sys.version_info < (3, 14):  # from then on a body doesn't set annotations while it runs

        @classmethod
        def __prepare__(mcs, name: str, bases: tuple[type, ...], /, **kwargs: Any) -> dict[str, Any]:
            return {"__annotations__": _Body(sys._getframe(1))}

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, kw_only: bool = False, **kwargs: Any
    ) -> TypedRegister:
        body = namespace.get("__annotations__")
        if isinstance(body, _Body):  # it holds on to a frame's variables, and must not stay in the class
            namespace = {**namespace, "__annotations__": dict(body)}
        cls: Any = super().__new__(mcs, name, bases, namespace, **kwargs)
        for attribute, annotation in inspect.get_annotations(cls).items():
            if not _is_parameter(cls, attribute, annotation):
                continue
            parameter = _make(cls, attribute, annotation, body if isinstance(body, _Body) else None)
            parameter.positional = parameter.positional and not kw_only
            setattr(cls, attribute, parameter)
        return cls  # type: ignore[no-any-return]


@dataclass_transform(eq_default=False)
class Task(classic.Task, metaclass=TypedRegister):
    """One piece of work: what it requires, what it makes, how. What its body annotates are its parameters.

    The same class with the same parameters is the same object. Two tasks are equal when class and id are.
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        # What asks for tasks (isinstance, event handlers) means all of them, however they declare their parameters.
        return True if cls is Task and classic.Task in other.__mro__ else NotImplemented


class ExternalTask(Task, classic.ExternalTask):
    """Something made elsewhere: it has an output, and no `run`."""


class WrapperTask(Task, classic.WrapperTask):
    """A name for several tasks: done when they are."""


class Config(Task, classic.Config):
    """Settings by name: parameters without work."""


def _is_parameter(cls: type, name: str, annotation: Any) -> bool:
    """True if an annotated attribute is a parameter, by the rule at the head of the file."""
    if name.startswith("_"):
        return False
    if isinstance(annotation, str):
        if _NO_PARAMETER.match(annotation):
            return False
    elif (get_origin(annotation) or annotation) in (ClassVar, Final):
        return False
    value = vars(cls).get(name)
    if isinstance(value, Parameter) or hasattr(type(value), "__get__"):
        return False
    return isinstance(_inherited(cls, name), (Parameter, type(no_value)))


def _make(cls: type, name: str, annotation: Any, body: _Body | None) -> Parameter[Any]:
    """The parameter for an annotated attribute; AnnotationException, with the place, if there is none."""
    module = sys.modules.get(cls.__module__)
    names = body.names if body is not None else vars(module) if module is not None else {}
    try:
        parameter = make_parameter(_resolve(annotation, names, vars(cls)), vars(cls).get(name, no_value))
    except ParameterException as error:
        place = body.place if body is not None else getattr(module, "__file__", None) or cls.__module__
        raise AnnotationException(f"{place}: {cls.__qualname__}.{name}: {error.message}", hint=error.hint) from error
    inherited = _inherited(cls, name)
    if isinstance(inherited, Parameter):
        parameter._counter = inherited._counter
    else:
        parameter._counter = body.counters[name] if body is not None else next_place()
    return parameter


def _resolve(annotation: Any, names: Mapping[str, Any], class_names: Mapping[str, Any]) -> Any:
    """An annotation with the texts in it replaced by what they mean where the class stands."""
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, dict(class_names), dict(names), include_extras=True)["it"]
    except NameError as error:
        raise ParameterException(
            f"there is no {error.name} for {annotation!r}",
            hint="what an annotation names is defined above the class, and not imported under TYPE_CHECKING only",
        ) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise ParameterException(f"{annotation!r} is no type: {error}", hint="ClassVar marks what is none") from error


def _inherited(cls: type, name: str) -> Any:
    """What the classes that `cls` derives from have as `name`, or `no_value`."""
    return next((vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)), no_value)
