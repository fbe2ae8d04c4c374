"""Records: classes of named values, like frozen dataclasses with slots, that cost next to nothing to define or to make.

    @record
    class Mount:
        target: str
        flags: int = 0
        below: list[str] = field(default_factory=list)

The standard dataclasses write and compile six methods for every class (0.4 ms each, of which a program that starts a
hundred pays forty) and import `inspect` to do so. Here all classes share their methods; only `__init__` is one of its
own, and it is made when a class turns out to be constructed often, from a template that all classes of that many fields
share. Slots are filled through their descriptors, which being frozen does not forbid.

What holds, and for type checkers too: values are given by position or name; a value that is made anew comes from
`field`; `__post_init__` runs after construction; records are equal if they are of one class and so are their values;
frozen ones have a hash and refuse assignment with AttributeError; `match`, `pickle` and `copy.replace` work. A record
inherits from nothing.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType
    from typing import Any, TypeVar, dataclass_transform, overload

    T = TypeVar("T")

__all__ = ["as_dict", "field", "record", "replace"]

_FEW = (
    10  # constructions: most records of a command line are made once, and to make an `__init__` takes as long as fifty
)
_Function: Any = type(lambda: None)
_templates: dict[tuple[int, tuple[int, ...], bool], CodeType] = {}


class _Made:
    """Stands for a default that is made anew for each record."""

    __slots__ = ("default_factory",)

    def __init__(self, default_factory: Callable[[], Any]) -> None:
        self.default_factory = default_factory


def field(*, default_factory: Callable[[], T]) -> T:
    """The default of a field: what `default_factory()` returns, called for each record that isn't given a value."""
    return _Made(default_factory)  # type: ignore[return-value]


def as_dict(record: Any) -> dict[str, Any]:
    """The values of a record by name; records among them stay what they are."""
    return {name: getattr(record, name) for name in record.__slots__}


def replace(record: T, **changes: Any) -> T:
    """A record like this one but for `changes`, constructed anew: TypeError names what is no field of it."""
    return type(record)(**as_dict(record) | changes)


if TYPE_CHECKING:

    @overload
    def record(cls: type[T], /) -> type[T]: ...
    @overload
    @dataclass_transform(frozen_default=True, field_specifiers=(field,))
    def record(*, frozen: bool = True, kw_only: bool = False) -> Callable[[type[T]], type[T]]: ...


def record(cls=None, /, *, frozen=True, kw_only=False):  # type: ignore[no-untyped-def]
    """Make a record of a class that annotates its fields; a plain one is frozen. Methods of its own are kept."""

    def make(cls: type[T]) -> type[T]:
        return _make_record(cls, frozen=frozen, kw_only=kw_only)

    return make if cls is None else make(cls)


def _make_record(cls: type[T], *, frozen: bool, kw_only: bool) -> type[T]:
    """The class with slots for what it annotates, which a class can only be given when it is made."""
    if cls.__bases__ != (object,):
        raise TypeError(f"{cls.__qualname__} can't be a record: it inherits from another class")
    own = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
    names = tuple(own.get("__annotations__", ()))
    defaults = {name: own.pop(name) for name in names if name in own}
    if not kw_only and (late := [name for name in names[: -len(defaults) or None] if name in defaults]):
        raise TypeError(f"{cls.__qualname__}: a field without a default follows {late[0]!r}, which has one")
    constructed = 0

    def early_init(self: Any, *args: Any, **values: Any) -> None:
        nonlocal constructed
        constructed += 1
        if constructed > _FEW or (kw_only and args) or not _fill(self, args, values, defaults):
            init = made.__init__ = _make_init(made, defaults, kw_only=kw_only)
            init(self, *args, **values)

    shared = {**(_FROZEN if frozen else _MUTABLE), "__init__": early_init, "__match_args__": () if kw_only else names}
    made: Any = type(cls.__name__, (), {**shared, **own, "__slots__": names, "__qualname__": cls.__qualname__})
    made.__signature__ = _Signature(defaults, kw_only=kw_only)
    made.__record_values__ = attrgetter(*names) if len(names) > 1 else _few_values
    made.__record_setters__ = tuple(made.__dict__[name].__set__ for name in names)
    return made  # type: ignore[no-any-return]


class _Signature:
    """The signature of a record, for `help` and `inspect.signature`: made when one of them asks for it."""

    __slots__ = ("_defaults", "_is_kw_only")

    def __init__(self, defaults: Mapping[str, Any], *, kw_only: bool) -> None:
        self._defaults, self._is_kw_only = defaults, kw_only

    def __get__(self, record: object, cls: Any) -> Any:
        import inspect  # takes as long as a hundred records

        kind = inspect.Parameter.KEYWORD_ONLY if self._is_kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = []
        for name, annotation in cls.__annotations__.items():
            default = self._defaults.get(name, inspect.Parameter.empty)
            shown = default.default_factory() if type(default) is _Made else default
            parameters.append(inspect.Parameter(name, kind, default=shown, annotation=annotation))
        return inspect.Signature(parameters)


def _fill(self: Any, args: tuple[Any, ...], values: dict[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Fills a record as its `__init__` would; False if the arguments are wrong, which that can explain."""
    names: tuple[str, ...] = self.__slots__
    given = {**defaults, **dict(zip(names, args, strict=False)), **values}
    if len(args) > len(names) or not values.keys() <= set(names[len(args) :]) or len(given) < len(names):
        return False
    for name, setter in zip(names, self.__record_setters__, strict=True):
        value = given[name]
        setter(self, value.default_factory() if type(value) is _Made else value)
    if hasattr(self, "__post_init__"):
        self.__post_init__()
    return True


def _make_init(cls: Any, defaults: Mapping[str, Any], *, kw_only: bool) -> Any:
    """The `__init__` of a record: a template with the names of its fields in it."""
    names: tuple[str, ...] = cls.__slots__
    made = tuple(i for i, name in enumerate(names) if type(defaults.get(name)) is _Made)
    template = _find_template(len(names), made, post_init=hasattr(cls, "__post_init__"))
    code = template.replace(
        co_varnames=("self", *names),
        co_qualname=f"{cls.__qualname__}.__init__",  # in the texts of TypeErrors
        co_argcount=1 if kw_only else 1 + len(names),
        co_kwonlyargcount=len(names) if kw_only else 0,
    )
    setters = {f"set{i}": setter for i, setter in enumerate(cls.__record_setters__)}
    init = _Function(code, setters | {f"made{i}": defaults[names[i]] for i in made})
    init.__defaults__ = None if kw_only else tuple(defaults.values())
    init.__kwdefaults__ = dict(defaults) if kw_only else None
    return init


def _find_template(count: int, made: tuple[int, ...], *, post_init: bool) -> CodeType:
    """The code of an `__init__` with `count` fields, of which those numbered in `made` have a default made anew."""
    key = (count, made, post_init)
    if key not in _templates:
        body = [
            f" set{i}(self, made{i}.default_factory() if value{i} is made{i} else value{i})\n"
            if i in made
            else f" set{i}(self, value{i})\n"
            for i in range(count)
        ]
        arguments = "".join(f", value{i}" for i in range(count))
        end = " self.__post_init__()\n" if post_init else " pass\n"
        namespace: dict[str, Any] = {}
        exec(f"def __init__(self{arguments}):\n{''.join(body)}{end}", namespace)
        _templates[key] = namespace["__init__"].__code__
    return _templates[key]


def _few_values(self: Any) -> tuple[Any, ...]:
    """What `attrgetter` would give if it made a tuple of one value, or of none, too."""
    return tuple(getattr(self, name) for name in self.__slots__)


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
    return f"{type(self).__qualname__}({values})"


def _eq(self: Any, other: object) -> bool:
    values: Callable[[object], tuple[Any, ...]] = type(self).__record_values__
    return values(self) == values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_getstate(self))


def _getstate(self: Any) -> tuple[Any, ...]:
    return type(self).__record_values__(self)  # type: ignore[no-any-return]


def _setstate(self: Any, state: tuple[Any, ...]) -> None:
    for setter, value in zip(self.__record_setters__, state, strict=True):
        setter(self, value)


def _refuse(self: object, name: str, *_value: object) -> None:
    verb = "set" if _value else "deleted"
    raise AttributeError(f"{type(self).__qualname__} is frozen: {name!r} can't be {verb}", name=name, obj=self)


_MUTABLE = {
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": None,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
    "__replace__": replace,
}
_FROZEN = {**_MUTABLE, "__hash__": _hash, "__setattr__": _refuse, "__delattr__": _refuse}
