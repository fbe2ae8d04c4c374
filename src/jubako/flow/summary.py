"""The execution summary, word for word as Luigi 3.8 prints it: a pure function of tasks grouped by status.

    ===== Luigi Execution Summary =====

    Scheduled 19 tasks of which:
    * 19 ran successfully:
        - 18 MyDailyTask(date=2021-09-02...2021-09-19)
        - 1 RangeDaily(...)

    This progress looks :) because there were no failed tasks or missing dependencies

    ===== Luigi Execution Summary =====

Nothing is added to or taken from Luigi's text here; what Luigi leaves out is said in lines after it
(`flow.accounting`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from heapq import nsmallest
from typing import Any, Final, Protocol

from jubako.flow.parameters.parameter import CONCEALED, ParameterVisibility
from jubako.records import field, record

__all__ = ["Groups", "RunStatus", "Summarised", "format_lines", "format_summary", "get_status"]

_TITLE: Final = "Luigi Execution Summary"
_MANY_IN_A_ROW: Final = 110  # a row of serialized values is cut at 200 characters, so no more of them can be needed

_HUMAN: Final[Mapping[str, str]] = {
    "already_done": "complete ones were encountered",
    "completed": "ran successfully",
    "failed": "failed",
    "scheduling_error": "failed scheduling",
    "still_pending": "were left pending, among these",
    "still_pending_ext": "were missing external dependencies",
    "run_by_other_worker": "were being run by another worker",
    "upstream_failure": "had failed dependencies",
    "upstream_missing_dependency": "had missing dependencies",
    "upstream_run_by_other_worker": "had dependencies that were being run by other worker",
    "upstream_scheduling_error": "had dependencies whose scheduling failed",
    "not_run": "was not granted run permission by the scheduler",
}
_INDENTED: Final = frozenset(list(_HUMAN)[5:])


class Summarised(Protocol):
    """What the summary asks of a task; Luigi's own tasks satisfy it too."""

    @property
    def task_family(self) -> str:
        """The name its lines are grouped under."""

    def get_params(self) -> Sequence[tuple[str, Any]]:
        """Names and parameter objects, in order."""


class RunStatus(Enum):
    """How a run looks, with Luigi's names, smileys and sentences."""

    SUCCESS = (":)", "there were no failed tasks or missing dependencies")
    SUCCESS_WITH_RETRY = (":)", "there were failed tasks but they all succeeded in a retry")
    FAILED = (":(", "there were failed tasks")
    FAILED_AND_SCHEDULING_FAILED = (":(", "there were failed tasks and tasks whose scheduling failed")
    SCHEDULING_FAILED = (":(", "there were tasks whose scheduling failed")
    NOT_RUN = (":|", "there were tasks that were not granted run permission by the scheduler")
    MISSING_EXT = (":|", "there were missing external dependencies")

    @property
    def sentence(self) -> str:
        """The line that closes the summary."""
        smiley, reason = self.value
        return f"This progress looks {smiley} because {reason}"


@record
class Groups:
    """Tasks by status. A pending task may be in several of the groups from `upstream_failure` on."""

    already_done: Sequence[Summarised] = ()
    completed: Sequence[Summarised] = ()
    ever_failed: Sequence[Summarised] = ()  # also those that succeeded later; never printed
    failed: Sequence[Summarised] = ()
    scheduling_error: Sequence[Summarised] = ()
    still_pending_ext: Sequence[Summarised] = ()
    still_pending_not_ext: Sequence[Summarised] = ()
    run_by_other_worker: Sequence[Summarised] = ()
    upstream_failure: Sequence[Summarised] = ()
    upstream_missing_dependency: Sequence[Summarised] = ()
    upstream_run_by_other_worker: Sequence[Summarised] = ()
    upstream_scheduling_error: Sequence[Summarised] = ()
    not_run: Sequence[Summarised] = ()
    other_workers: Mapping[str, int] = field(default_factory=dict)  # how many of these tasks each of them ran


def get_status(groups: Groups) -> RunStatus:
    """The worst thing that happened, by Luigi's order of badness."""
    if groups.ever_failed:
        if not groups.failed:
            return RunStatus.SUCCESS_WITH_RETRY
        return RunStatus.FAILED_AND_SCHEDULING_FAILED if groups.scheduling_error else RunStatus.FAILED
    if groups.scheduling_error:
        return RunStatus.SCHEDULING_FAILED
    if groups.not_run:
        return RunStatus.NOT_RUN
    return RunStatus.MISSING_EXT if groups.still_pending_ext else RunStatus.SUCCESS


def format_summary(groups: Groups, *, summary_length: int = 5, title: str = _TITLE) -> str:
    """The framed text, beginning and ending with a line feed. At most `summary_length` lines a group; 0: all."""
    return "\n".join(format_lines(groups, summary_length=summary_length, title=title))


def format_lines(groups: Groups, *, summary_length: int = 5, title: str = _TITLE) -> list[str]:
    """The same line by line, for who must not take a line feed in a parameter's value for the end of one."""
    frame = f"===== {title} ====="
    return ["", frame, "", *_format_body(groups, summary_length), "", frame, ""]


def _format_body(groups: Groups, summary_length: int) -> list[str]:
    not_run = sum(
        len(tasks)
        for tasks in (
            groups.already_done,
            groups.scheduling_error,
            groups.still_pending_ext,
            groups.still_pending_not_ext,
        )
    )
    total = not_run + len(groups.completed) + len(groups.failed)
    if total == 0:
        return ["Did not schedule any tasks"]
    lines = [f"Scheduled {total} tasks of which:"]
    for status, human in _HUMAN.items():
        if status == "still_pending":
            pending = len(groups.still_pending_ext) + len(groups.still_pending_not_ext)
            if pending:
                lines.append(f"* {pending} {human}:")
            continue
        tasks: Sequence[Summarised] = getattr(groups, status)
        if tasks:
            indent = "    " if status in _INDENTED else ""
            lines.append(f"{indent}* {len(tasks)} {human}:")
            lines.extend(_format_families(tasks, indent + "    ", summary_length))
    lines.extend(_format_other_workers(groups.other_workers))
    if total == not_run:
        lines.extend(["Did not run any tasks"] if groups.other_workers else ["", "Did not run any tasks"])
    else:
        lines.append("")
    lines.append(get_status(groups).sentence)
    return lines


def _format_other_workers(workers: Mapping[str, int]) -> list[str]:
    if not workers:
        return []
    lines = ["", "The other workers were:"]
    for count, (worker, tasks) in enumerate(workers.items()):
        if count > 3 and count < len(workers) - 1:
            # Luigi ends this line without a line feed, so the blank line after it is missing there.
            return [*lines, f"    and {len(workers) - count} other workers"]
        lines.append(f"    - {worker} ran {tasks} tasks")
    return [*lines, ""]


def _format_families(tasks: Iterable[Summarised], indent: str, summary_length: int) -> list[str]:
    by_family: defaultdict[str, list[Summarised]] = defaultdict(list)
    for task in tasks:
        by_family[task.task_family].append(task)
    lines: list[str] = []
    for family in sorted(by_family):
        if 0 < summary_length <= len(lines):
            lines.append(f"{indent}...")
            break
        lines.append(f"{indent}- {len(by_family[family])} {_format_family(family, by_family[family])}")
    return lines


def _format_family(family: str, tasks: Sequence[Summarised]) -> str:
    """One line for all tasks of a family. "First" is first by text, as Luigi sorts them."""
    first = min(tasks, key=str)
    params = first.get_params()
    if not params:
        return f"{family}()"
    names_length, text_length = sum(len(name) for name, _ in params), len(str(first))
    if names_length > 60 or text_length > 200:
        return f"{family}(...)"
    if len(tasks) == 2 and len(params) > 1 and (names_length > 40 or text_length > 100):
        return f"{family}(...)"
    if len(params) == 1:
        name, param = params[0]
        chain = _find_chain({getattr(task, name) for task in tasks}, param, at_least=4)
        if chain is not None:
            return f"{family}({name}={_show_chain(param, chain)})"
        return f"{family}({name}={_format_values(tasks, name)})"
    values = {name: {getattr(task, name) for task in tasks} for name, _ in params}
    varying = [(name, param) for name, param in params if len(values[name]) > 1]
    if len(varying) == 1:
        name, param = varying[0]
        chain = _find_chain(values[name], param, at_least=3)
        if chain is not None:
            ranging = _show_chain(param, chain)
            parts = [
                f"{other}={ranging if other == name else _show(own, getattr(first, other))}" for other, own in params
            ]
            return f"{family}({', '.join(parts)})"
    if len(tasks) == 1:
        return str(first)
    if len(tasks) == 2:
        return f"{first} and {max(tasks, key=str)}"
    return f"{first} ..."


def _find_chain(values: set[Any], param: Any, *, at_least: int) -> tuple[Any, Any] | None:
    """First and last of `values` if each is the next of another but one; None if there is a gap, or too few."""
    if len(values) < at_least:
        return None
    following = {param.next_in_enumeration(value) for value in values}
    first, after_last = values - following, following - values
    if len(first) != 1 or len(after_last) != 1:
        return None
    last = next(value for value in values if param.next_in_enumeration(value) in after_last)
    chain = (next(iter(first)), last)
    return None if None in chain else chain


def _show_chain(param: Any, chain: tuple[Any, Any]) -> str:
    return f"{_show(param, chain[0])}...{_show(param, chain[1])}" if _is_public(param) else CONCEALED


def _show(param: Any, value: Any) -> str:
    """The value as text, unless it is to be concealed: there Luigi's summary says more."""
    text: str = param.serialize(value) if _is_public(param) else CONCEALED
    return text


def _is_public(param: Any) -> bool:
    return bool(param.visibility == ParameterVisibility.PUBLIC)


def _format_values(tasks: Sequence[Summarised], name: str) -> str:
    """The values, comma separated, cut with "..." where Luigi cuts (never leaving exactly one out for length 30)."""
    row = ""
    if not _is_public(tasks[0].get_params()[0][1]):
        return CONCEALED
    for count, task in enumerate(nsmallest(_MANY_IN_A_ROW, tasks, key=str)):
        is_last = count == len(tasks) - 1
        if (len(row) >= 30 and count > 2 and not is_last) or len(row) > 200:
            return row + "..."
        param = task.get_params()[0][1]
        row += param.serialize(getattr(task, name)) + ("" if is_last else ",")
    return row
