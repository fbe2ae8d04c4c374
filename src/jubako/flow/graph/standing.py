"""Whether tasks are done, asked for many at once: one listing per directory instead of a question per target.

    plain      the outputs of all plain tasks are asked in bulk
    wrapper    done when everything it requires is; followed without recursion, and asked in the same bulk
    own        a complete() of the task's own is called, once

A task is asked once; a `requires()` that had to be called for it is kept for whoever explores the graph. Whatever a
task raises becomes `Broken`, with its traceback: it is that task's scheduling that failed, not the run.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from jubako.errors import BugError, InputError, JubakoError
from jubako.flow.targets.outputs import find_targets
from jubako.flow.targets.target import StorageUnreachable, Target
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Task, WrapperTask

__all__ = ["Answer", "Broken", "Standing", "ask_complete", "ask_family", "describe_broken"]

# Targets asked for at once: not all there are, which need not be in memory together, but those of a large folder, or
# it would be listed again and again.
_BULK: Final = 100_000


class Broken(NamedTuple):
    """Asking a task something raised."""

    sentence: str
    traceback: str
    error: BaseException


Answer = bool | Broken
ExistMany = Callable[[Sequence[Target]], Sequence[bool]]


class Standing:
    """Asks tasks, and remembers answers until `forget`. `exist_many` answers for targets, in order.

    `see_outputs` is told the targets of every task that was asked, `see_wrapper` each wrapper that was looked through.
    """

    def __init__(
        self,
        exist_many: ExistMany,
        see_outputs: Callable[[Any, Sequence[Any]], None] | None = None,
        see_wrapper: Callable[[Any], None] | None = None,
    ) -> None:
        self._exist_many = exist_many
        self._see_outputs = see_outputs
        self._see_wrapper = see_wrapper
        self._answers: dict[Any, Answer] = {}
        self._requirements: dict[Any, list[Any]] = {}

    def look(self, tasks: Iterable[Any]) -> list[Answer]:
        """Which of `tasks` are done, in order."""
        answers = self._answers
        tasks = list(tasks)
        self._resolve(list(dict.fromkeys(task for task in tasks if task not in answers)))
        return [answers[task] for task in tasks]

    def forget(self) -> None:
        """Drops what is remembered: the next question is asked anew."""
        self._answers = {}
        self._requirements = {}

    def requirements(self, task: Any) -> list[Any] | Broken:
        """What `task` requires, flat and looked over; calls its requires() unless a wrapper's was called already."""
        known = self._requirements.pop(task, None)
        return self._ask_requirements(task) if known is None else known

    def _resolve(self, tasks: list[Any]) -> None:
        """Fills in the answer of each of `tasks`, and of what wrappers among them require."""
        wrappers: list[Any] = []
        plain: list[tuple[Any, list[Any]]] = []
        asked = 0
        seen: set[Any] = set()
        for task in tasks:  # grows while it is walked: wrappers add what they require
            complete = type(task).complete
            try:
                if complete is WrapperTask.complete and "complete" not in vars(task):
                    seen = seen or set(tasks)
                    wrappers.append(task)
                    new = self._expand(task, seen)
                    tasks.extend(new)
                    if self._see_wrapper is not None:
                        self._see_wrapper(task)
                    continue
                is_plain = complete is Task.complete and "complete" not in vars(task)
                targets = find_targets(task) if is_plain else flatten(task.output())
                if self._see_outputs is not None:
                    self._see_outputs(task, targets)
                if is_plain:
                    plain.append((task, targets))
                    asked += len(targets)
                else:
                    self._answers[task] = _as_bool(task.complete())
            except Exception as error:  # noqa: BLE001  (the task's own code)
                self._answers[task] = describe_broken(task, "complete()", error)
            if asked >= _BULK:
                self._ask_plain(plain)
                plain, asked = [], 0
        if plain:
            self._ask_plain(plain)
        self._settle(wrappers)

    def _expand(self, wrapper: Any, seen: set[Any]) -> list[Any]:
        """What `wrapper` requires and nobody has been asked about yet."""
        required = self._ask_requirements(wrapper)
        if isinstance(required, Broken):
            self._answers[wrapper] = required
            return []
        self._requirements[wrapper] = required
        new = [task for task in dict.fromkeys(required) if task not in seen and task not in self._answers]
        seen.update(new)
        return new

    def _ask_plain(self, plain: list[tuple[Any, list[Any]]]) -> None:
        answers = _ask_plain([task for task, _ in plain], [targets for _, targets in plain], self._exist_many)
        self._answers.update(zip([task for task, _ in plain], answers, strict=True))

    def _settle(self, wrappers: list[Any]) -> None:
        """Answers for wrappers once what they require is answered: depth first, with a list instead of recursion."""
        for wrapper in wrappers:
            stack = [wrapper]
            entered: set[Any] = set()
            while stack:
                task = stack[-1]
                if task in self._answers:
                    stack.pop()
                    continue
                required = self._requirements[task]
                open_ones = [other for other in required if other not in self._answers and other not in entered]
                if open_ones and task not in entered:
                    entered.add(task)
                    stack.extend(open_ones)
                    continue
                # A requirement that is still open goes round to this task: a cycle, which the graph will name.
                answers = (self._answers.get(other, False) for other in required)
                # As its complete() says, which asks them in order until one is not done: the first that is not tells.
                self._answers[task] = next((answer for answer in answers if answer is not True), True)
                stack.pop()

    def _ask_requirements(self, task: Any) -> list[Any] | Broken:
        cls = type(task)
        if cls.requires is Task.requires and cls._requires is Task._requires and cls.deps is Task.deps:
            return []
        try:
            required = list(task.deps())
            for other in required:
                if isinstance(other, Target):
                    raise InputError(
                        f"requires() of {task} gives a target, {other!r}", hint="Wrap it in an ExternalTask class."
                    )
                if not isinstance(other, Task):
                    raise InputError(f"requires() of {task} gives {other!r}, which is not a task")
            return required
        except Exception as error:  # noqa: BLE001  (the task's own code)
            return describe_broken(task, "requires()", error)


def ask_family(tasks: Sequence[Any], exist_many: ExistMany) -> list[Answer]:
    """Which of `tasks`, all different and of one class, are done, in order. Nothing is remembered."""
    if not tasks or type(tasks[0]).complete is not Task.complete or any("complete" in vars(task) for task in tasks):
        return Standing(exist_many).look(tasks)
    answers: list[Answer] = [False] * len(tasks)
    places, outputs = [], []
    for place, task in enumerate(tasks):
        try:
            outputs.append(find_targets(task))
            places.append(place)
        except Exception as error:  # noqa: BLE001  (the task's own code)
            answers[place] = describe_broken(task, "complete()", error)
    for place, answer in zip(places, _ask_plain([tasks[place] for place in places], outputs, exist_many), strict=True):
        answers[place] = answer
    return answers


def ask_complete(task: Any) -> bool:
    """`task.complete()`, without Luigi's warning for a task that has no outputs: such a task is never complete."""
    if type(task).complete is Task.complete and "complete" not in vars(task):
        targets = find_targets(task)
        return bool(targets) and all(target.exists() for target in targets)
    done: bool = task.complete()
    return done


def _ask_plain(tasks: Sequence[Any], outputs: Sequence[list[Any]], exist_many: ExistMany) -> list[Answer]:
    """Which of `tasks`, whose outputs decide that, are done. One without outputs never is, as in Luigi."""
    try:
        exists = iter(exist_many(list(chain.from_iterable(outputs))))
    except Exception as error:  # noqa: BLE001  (one target's own exists() raised: ask one by one to find whose)
        gone: dict[Any, StorageUnreachable] = {}
        if isinstance(error, StorageUnreachable) and error.storage is not None:
            gone[error.storage] = error
        return [_ask_targets(task, targets, gone) for task, targets in zip(tasks, outputs, strict=True)]
    found = [list(islice(exists, len(targets))) for targets in outputs]
    return [bool(those) and all(those) for those in found]


def _ask_targets(task: Any, targets: Sequence[Any], gone: dict[Any, StorageUnreachable]) -> Answer:
    """If `task` is done. `gone` are storages that nobody answers for, with what they said: they are asked once."""
    try:
        return bool(targets) and all(_as_bool(_ask_target(target, gone)) for target in targets)
    except Exception as error:  # noqa: BLE001  (the target's own code)
        return describe_broken(task, "complete()", error)


def _ask_target(target: Any, gone: dict[Any, StorageUnreachable]) -> object:
    storage = getattr(target, "fs", None)
    if storage is not None and storage in gone:
        known = gone[storage]
        raise StorageUnreachable(known.message, hint=known.hint) from known  # itself, it would grow with each raise
    try:
        return target.exists()
    except StorageUnreachable as error:
        gone[storage] = error
        raise


def _as_bool(value: object) -> bool:
    if value is not True and value is not False:
        raise InputError(f"Return value of Task.complete() must be boolean (was {value!r})")
    return value


def describe_broken(task: Any, what: str, error: Exception) -> Broken:
    """What asking `task` for `what` came to."""
    is_ours = isinstance(error, JubakoError) and not isinstance(error, BugError)
    reason = str(error) if is_ours else f"{what} raised {type(error).__name__}: {error}"
    return Broken(reason, "".join(traceback.format_exception(error)), error)
