"""What a task is: a class says what depends on what and how to make it; its parameters say which one is meant.

    class DailySummary(Task):
        date = DateParameter()

        def requires(self): return RawData(self.date)
        def output(self): return LocalTarget(f"summary/{self.date}.json")
        def run(self): ...
        def check(self): ...                # optional: recompute something independently

A task is done when its outputs exist. Names and behaviour are Luigi's; beyond them are `box`, `check` and
`after_publish`. A task's `repr` stars concealed values, which Luigi shows; its id is Luigi's.
"""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

from jubako.flow.parameters.parameter import Parameter, ParameterVisibility
from jubako.flow.tasks.bulk import BulkCompleteNotImplementedError
from jubako.flow.tasks.namespaces import SAME_AS_PYTHON_MODULE, auto_namespace, namespace
from jubako.flow.tasks.nesting import flatten, flatten_output, getpaths
from jubako.flow.tasks.register import Register, find_signature
from jubako.flow.tasks.signature import Signature, task_id_str

if TYPE_CHECKING:
    from jubako.boxes.spec import Box

__all__ = [
    "BulkCompleteNotImplementedError",
    "Config",
    "ExternalTask",
    "Task",
    "WrapperTask",
    "auto_namespace",
    "flatten",
    "flatten_output",
    "getpaths",
    "namespace",
    "task_id_str",
]

logger = logging.getLogger("jubako")

_NOT_SPECIFIED = "__not_user_specified"

C = TypeVar("C", bound="Task")
F = TypeVar("F", bound=Callable[..., Any])


class _TaskId:
    """The id of a task, worked out when it is first asked for and then an attribute of the task's own."""

    def __get__(self, task: Any, cls: Any) -> str:
        if task is None or "_values" not in vars(task):
            raise AttributeError("task_id")
        task_id = find_signature(cls).task_id(task._values)
        task.task_id = task_id
        return task_id


class Task(metaclass=Register):
    """One piece of work: what it requires, what it makes, how.

    The same class with the same parameters is the same object. Two tasks are equal when class and id are.
    """

    priority: Any = 0  # higher runs earlier
    disabled: Any = False
    resources: Any = {}  # name -> how many of it are taken while the task runs  # noqa: RUF012  (Luigi's contract)
    worker_timeout: Any = None  # seconds for run and check; 0 or None: no limit of its own
    max_batch_size: Any = float("inf")
    retry_count: Any = None  # None, here and below: what the run says
    retry_delay_s: Any = None  # seconds before a second try
    retry_backoff: Any = None  # how many times longer each further wait is
    retry_delay_max_s: Any = None
    disable_hard_timeout: Any = None
    disable_window: Any = None  # seconds within which so many failures ...
    disable_after: Any = None  # ... disable the task for a while
    owner_email: Any = None
    accepts_messages: Any = False
    use_cmdline_section: Any = True
    box: Box | None = None  # how the task's box is made; None: what the run says
    tracks_changes: Any = False  # what it is made of is recorded, so that --stale can tell when that has changed
    code_version: Any = None  # stands for the task's code where reading it would say too little, or too much
    verification: Any = None  # how outputs made again are compared with these: a `jubako.verify.Rules`

    # Set while the task runs, by whoever runs it.
    set_tracking_url: Callable[[str], None] | None = None
    set_status_message: Callable[[str], None] | None = None
    set_progress_percentage: Callable[[float], None] | None = None

    task_namespace: Any = _NOT_SPECIFIED
    task_id = _TaskId()

    _visible_in_registry = True
    _namespace_at_class_time: ClassVar[str]
    _event_callbacks: ClassVar[dict[type, dict[str, dict[Callable[..., Any], None]]]] = {}  # inner dicts: ordered sets
    _values: tuple[Any, ...]  # of the parameters, in the signature's order

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        signature = find_signature(type(self))
        self._fill(signature, signature.resolve(args, kwargs))

    # -- what a pipeline overrides -------------------------------------------------------------------------------

    def requires(self) -> Any:
        """The tasks that must be done before this one: one, or any nesting of lists and dicts of them."""
        return []

    def output(self) -> Any:
        """The targets this task makes: one, or any nesting of lists and dicts of them. It is done when all exist."""
        return []

    def run(self) -> Any:
        """Makes the output. As a generator it may yield tasks that turn out to be required."""

    def complete(self) -> bool:
        """Tells if the task is done: if it has outputs and all of them exist."""
        outputs = flatten(self.output())
        if not outputs:
            warnings.warn(f"Task {self!r} without outputs has no custom complete() method", stacklevel=2)
            return False
        return all(output.exists() for output in outputs)

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[Any]) -> Iterable[Any]:
        """Those of `parameter_tuples` whose tasks are done; to be overridden where asking once for all is cheaper."""
        raise BulkCompleteNotImplementedError()

    def on_success(self) -> Any:
        """Called after the task has succeeded; in a box, after its outputs were published."""

    def on_failure(self, exception: BaseException) -> Any:
        """Called after `run()` raised; returns the text by which the failure is explained."""
        return "Runtime error:\n" + "".join(traceback.format_exception(exception))

    def process_resources(self) -> Any:
        """What the task takes while it runs, for templates that add to `resources`."""
        return self.resources

    def _requires(self) -> Any:
        """All requirements, for templates that add to `requires()`."""
        return flatten(self.requires())

    # -- what a pipeline uses ------------------------------------------------------------------------------------

    def input(self) -> Any:
        """The outputs of what `requires()` names, in the same structure."""
        return getpaths(self.requires())

    def deps(self) -> list[Any]:
        """All required tasks, flat."""
        return flatten(self._requires())

    @overload
    def clone(self, cls: None = None, **kwargs: Any) -> Self: ...
    @overload
    def clone(self, cls: type[C], **kwargs: Any) -> C: ...
    def clone(self, cls: type[Task] | None = None, **kwargs: Any) -> Any:
        """The task of `cls` (default: this one's) with the same values wherever names agree, but for `kwargs`."""
        cls = type(self) if cls is None else cls
        values = {name: getattr(self, name) for name in find_signature(cls).names if hasattr(self, name)}
        values.update((name, kwargs[name]) for name in find_signature(cls).names if name in kwargs)
        return cls(**values)

    def has_check(self) -> bool:
        """Tells if the task has a `check()`, which recomputes something about its outputs before they are published.

        `check()` runs apart from `run()` and shares no memory with it. When it raises or returns False, nothing of the
        run is published. It is not defined here, so that having one means having written one.
        """
        return callable(getattr(type(self), "check", None))

    def has_after_publish(self) -> bool:
        """Tells if the task has an `after_publish()`: called at least once after publishing, must be idempotent."""
        return callable(getattr(type(self), "after_publish", None))

    # -- events --------------------------------------------------------------------------------------------------

    @classmethod
    def event_handler(cls, event: str) -> Callable[[F], F]:
        """Decorator: the function is called with whatever `event` of a task of this class comes with."""

        def register(callback: F) -> F:
            cls._event_callbacks.setdefault(cls, {}).setdefault(event, {})[callback] = None
            return callback

        return register

    @classmethod
    def remove_event_handler(cls, event: str, callback: Callable[..., Any]) -> None:
        del cls._event_callbacks[cls][event][callback]

    def trigger_event(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Calls the handlers of `event`. What they raise is logged, and doesn't disturb the task."""
        if not self._event_callbacks:
            return
        for cls, handlers in list(self._event_callbacks.items()):
            if isinstance(self, cls):
                for callback in list(handlers.get(event, ())):
                    try:
                        callback(*args, **kwargs)
                    except KeyboardInterrupt:
                        return
                    except BaseException:  # a callback is a guest: its failure is not the task's
                        logger.exception("Error in event callback for %r", event)

    # -- identity ------------------------------------------------------------------------------------------------

    @property
    def task_family(self) -> str:
        return self.get_task_family()

    @property
    def task_module(self) -> str:
        return type(self).__module__

    @classmethod
    def get_task_family(cls) -> str:
        """The class's name with its namespace, by which it is known on the command line."""
        space = cls.get_task_namespace()
        return f"{space}.{cls.__name__}" if space else cls.__name__

    @classmethod
    def get_task_namespace(cls) -> str:
        if cls.task_namespace != _NOT_SPECIFIED:
            given: str = cls.task_namespace
            return given
        if cls._namespace_at_class_time == SAME_AS_PYTHON_MODULE:
            return cls.__module__
        return cls._namespace_at_class_time

    @property
    def param_kwargs(self) -> dict[str, Any]:
        """The value of each parameter by name: arguments that make this task again."""
        return dict(zip(find_signature(type(self)).names, self._values, strict=True))

    @property
    def param_args(self) -> tuple[Any, ...]:
        warnings.warn("Use of param_args has been deprecated.", DeprecationWarning, stacklevel=2)
        return self._values

    @property
    def disable_window_seconds(self) -> Any:
        warnings.warn(
            "Use of `disable_window_seconds` has been deprecated, use `disable_window` instead",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.disable_window

    def initialized(self) -> bool:
        """Tells if `Task.__init__` has been through."""
        return hasattr(self, "task_id")

    def __hash__(self) -> int:
        return hash(self.task_id)

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self.task_id == other.task_id)

    def __repr__(self) -> str:
        return find_signature(type(self)).describe(self._values)

    # -- parameters ----------------------------------------------------------------------------------------------

    @classmethod
    def get_params(cls) -> list[tuple[str, Parameter[Any]]]:
        """The parameters by name, in the order in which positional arguments fill them."""
        return list(find_signature(cls).parameters)

    @classmethod
    def get_param_names(cls, include_significant: bool = False) -> list[str]:
        return [name for name, parameter in cls.get_params() if include_significant or parameter.significant]

    @classmethod
    def batch_param_names(cls) -> list[str]:
        return [name for name, parameter in cls.get_params() if parameter.has_batch_method()]

    @property
    def batchable(self) -> bool:
        """Tells if several tasks of this class can run as one."""
        return bool(self.batch_param_names())

    @classmethod
    def get_param_values(
        cls, params: list[tuple[str, Parameter[Any]]], args: Iterable[Any], kwargs: Mapping[str, Any]
    ) -> list[tuple[str, Any]]:
        """The value of each of `params` for a call with these arguments."""
        signature = Signature(cls.get_task_family(), params)
        return list(zip(signature.names, signature.resolve(tuple(args), kwargs), strict=True))

    @classmethod
    def from_str_params(cls, params_str: Mapping[str, Any]) -> Self:
        """The task whose parameters are written as in `params_str`; a list of texts is one value by `batch_method`."""
        values: dict[str, Any] = {}
        signature = find_signature(cls)
        for name, parameter in signature.parameters:
            if name in params_str:
                text = params_str[name]
                if isinstance(text, list):
                    values[name] = parameter.combine([signature.parse(name, item) for item in text])
                else:
                    values[name] = signature.parse(name, text)
        return cls(**values)

    def to_str_params(self, only_significant: bool = False, only_public: bool = False) -> dict[str, str]:
        """The text of each parameter, from which `from_str_params` makes the task again; without PRIVATE ones."""
        return {
            name: parameter.serialize(value)
            for (name, parameter), value in zip(find_signature(type(self)).parameters, self._values, strict=True)
            if (parameter.significant or not only_significant)
            and (parameter.visibility == ParameterVisibility.PUBLIC or not only_public)
            and parameter.visibility != ParameterVisibility.PRIVATE
        }

    @contextmanager
    def no_unpicklable_properties(self) -> Iterator[None]:
        """Within the block the task can be pickled: what is set while it runs is put aside."""
        names = [n for n in ("set_tracking_url", "set_status_message", "set_progress_percentage") if n in vars(self)]
        aside: dict[str, Any] = {name: vars(self).pop(name) for name in names}
        try:
            yield
        finally:
            vars(self).update(aside)

    def _fill(self, signature: Signature, values: tuple[Any, ...]) -> None:
        """Gives this new task its values, and with them its id."""
        for name, value in zip(signature.names, values, strict=True):
            setattr(self, name, value)
        self._values = values
        signature.warn_about(values)
        self.task_id = signature.task_id(values)


class ExternalTask(Task):
    """Something made elsewhere: it has an output, and no `run`."""

    run = None  # type: ignore[assignment]  # what tells an external task from others


class WrapperTask(Task):
    """A name for several tasks: done when they are."""

    def complete(self) -> bool:
        return all(task.complete() for task in flatten(self.requires()))


class Config(Task):
    """Settings by name: parameters without work."""
