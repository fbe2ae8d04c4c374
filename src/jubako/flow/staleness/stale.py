"""Which tasks that are done are stale: made of something else than what is there now. What --stale runs.

    stale      tracks changes, and its code, a setting or an input is not what it was made of
    below      depends on a stale task, and runs after that, unless its own inputs turn out to be the same as before
    unknown    tracks changes, and was published before it did: left alone, and said

Everything that the tasks asked for require is looked through, done or not: what is stale may lie below what is done.
A task that is not done is no reason by itself: an intermediate file that was deleted is made again only if something
that it was made of has changed. An input that is not there cannot be compared, and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from jubako.flow.fingerprints.content_digest import ContentDigests
from jubako.flow.fingerprints.fingerprint import Cause, Fingerprint, find_causes, take_fingerprint
from jubako.flow.fingerprints.fingerprint_book import Made
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.graph import is_external
from jubako.flow.graph.standing import Broken, Standing
from jubako.flow.ledger.history import History
from jubako.flow.staleness.tracking import describe_trouble
from jubako.flow.tasks.task import Task
from jubako.records import field, record

__all__ = ["Staleness", "find_stale", "find_stale_by_history"]

_SHOWN: Final = 8


@record
class Staleness:
    """What was found. `below` maps each task that depends on a stale one to the digests of its inputs as they were:
    when it was published, if that is known, else now.
    """

    stale: Mapping[Any, Sequence[Cause]]
    below: Mapping[Any, Mapping[str, str | None]]
    unknown: Sequence[Any] = ()
    troubles: Mapping[Any, str] = field(default_factory=dict)
    tracking: int = 0  # how many tasks track changes
    unread: Sequence[Any] = ()  # tasks whose code cannot be read: changes of it are not seen

    def describe(self) -> list[str]:
        """What is stale and why, a line for each class and reason; and what is not known."""
        groups: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        for task, causes in self.stale.items():
            more = f", and {len(causes) - 1} more" if len(causes) > 1 else ""
            groups[task.get_task_family(), causes[0].text + more].append(task)
        lines = [f"stale: {_name(tasks)}: {text}" for (_, text), tasks in groups.items()]
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"stale: and {len(lines) - _SHOWN} more reasons; 'jubako why' says them task by task"]
        for tasks in _by_family(self.unknown):
            lines.append(f"{_name(tasks)}: published before changes were tracked, so what was used is not known")
        for tasks in _by_family(self.unread):
            lines.append(f"{_name(tasks)}: the code cannot be read, so changes of it are not seen")
        lines += [f"{task}: whether it is stale cannot be told: {why}" for task, why in self.troubles.items()]
        if not self.tracking:
            lines.append("no task here tracks changes (tracks_changes = True), so none can be seen to be stale")
        return lines


def find_stale(
    tasks: Sequence[Any],
    take: Callable[[Any], Fingerprint],
    read: Callable[[Sequence[str]], Mapping[str, Made]],
) -> Staleness:
    """Looks through `tasks` and all that they require. `read` answers what is recorded of tasks, by id."""
    found, required_by = _explore(tasks)
    tracking = [task for task in found if task.tracks_changes and _has_run(task)]
    recorded = read([task.task_id for task in tracking])
    done = dict(zip(tracking, Standing(targets_exist).look(tracking), strict=True))
    stale: dict[Any, Sequence[Cause]] = {}
    unknown: list[Any] = []
    troubles: dict[Any, str] = {}
    prints: dict[Any, Fingerprint] = {}
    unread: list[Any] = []
    for task in tracking:
        made = recorded.get(task.task_id)
        before = None if made is None else Fingerprint.load(made.made_of)
        if before is None:
            if done[task] is True:
                unknown.append(task)
            continue
        try:
            now = take(task)
            causes = find_causes(before, now)
        except Exception as error:  # noqa: BLE001  (input() and settings are the task's own code)
            troubles[task] = describe_trouble(error)
            continue
        prints[task] = before
        if now.code is None or before.code is None:
            unread.append(task)
        if causes:
            stale[task] = causes
    reached = _find_below(stale, required_by)
    for task in reached:
        if all(cause.kind == "input" for cause in stale.get(task, ())):
            stale.pop(task, None)  # what it takes is made again first: only then it is seen whether that has changed
    below = {task: _inputs_of(task, prints, take) for task in reached if task not in stale}
    return Staleness(stale, below, unknown, troubles, len(tracking), unread)


def find_stale_by_history(tasks: Sequence[Any], history: History, pipeline: str, wall_s: float) -> Staleness:
    """`find_stale` for who only looks. `wall_s` is now, in seconds since 1970."""
    digests = ContentDigests(history.find_digest, lambda: wall_s)
    return find_stale(
        tasks, lambda task: take_fingerprint(task, digests.take), lambda ids: history.list_made(pipeline, ids)
    )


def _explore(tasks: Sequence[Any]) -> tuple[list[Any], Mapping[Any, Sequence[Any]]]:
    """All that `tasks` need, themselves included, and who requires each."""
    required_by: defaultdict[Any, list[Any]] = defaultdict(list)
    standing = Standing(targets_exist)
    found = dict.fromkeys(tasks)
    queue = list(found)
    for task in queue:  # grows while it is walked
        if is_external(task):
            continue
        required = standing.requirements(task)
        if isinstance(required, Broken):
            continue  # the run says so, if it gets there
        for other in required:
            required_by[other].append(task)
            if other not in found:
                found[other] = None
                queue.append(other)
    return queue, required_by


def _find_below(stale: Iterable[Any], required_by: Mapping[Any, Sequence[Any]]) -> list[Any]:
    """What depends on stale tasks, the nearest first; a wrapper has no outputs, so nothing comes through it."""
    below: dict[Any, None] = {}
    queue = list(stale)
    for task in queue:  # grows while it is walked
        for other in required_by.get(task, ()):
            if other not in below and _has_run(other):
                below[other] = None
                queue.append(other)
    return list(below)


def _inputs_of(task: Any, prints: Mapping[Any, Fingerprint], take: Callable[[Any], Fingerprint]) -> Mapping[str, Any]:
    """Digests of a task's inputs when it was published, or else as they are now; none that could ever be found again
    where that cannot be told.
    """
    if task in prints:
        return prints[task].inputs
    try:
        return take(task).inputs
    except Exception:  # noqa: BLE001  (input() is the task's own code: then it simply runs)
        return {"": None}


def _has_run(task: Any) -> bool:
    return type(task).run is not Task.run and not is_external(task)


def _by_family(tasks: Iterable[Any]) -> Iterable[Sequence[Any]]:
    families: defaultdict[str, list[Any]] = defaultdict(list)
    for task in tasks:
        families[task.get_task_family()].append(task)
    return families.values()


def _name(tasks: Sequence[Any]) -> str:
    return str(tasks[0]) if len(tasks) == 1 else f"{tasks[0]} and {len(tasks) - 1} more of {tasks[0].get_task_family()}"
