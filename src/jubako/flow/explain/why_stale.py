"""What has changed since a task that is done was made, for `jubako why`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jubako.flow.clock import SystemClock
from jubako.flow.explain.why_answer import Fact, Why
from jubako.flow.ledger.history import History
from jubako.flow.staleness.stale import find_stale_by_history
from jubako.records import replace

__all__ = ["explain_changes"]

_SHOWN: Final = 5


def explain_changes(answer: Why, history: History, pipeline: str, tell_time: Callable[[float], str]) -> Why:
    """`answer`, about a task that is done and tracks changes, with what has changed since."""
    task = answer.task
    found = find_stale_by_history([task], history, pipeline, SystemClock().wall_s())
    facts = list(answer.facts)
    if task in found.unknown:
        facts.append(Fact("change", "made before changes were tracked: what it was made of is not known"))
    if task in found.unread:
        facts.append(Fact("change", "its code cannot be read: changes of it are not seen"))
    if task in found.troubles:
        facts.append(Fact("change", f"whether it is stale cannot be told: {found.troubles[task]}"))
    causes = found.stale.get(task, ())
    if causes:
        made = history.list_made(pipeline, [task.task_id])[task.task_id]
        facts += [Fact("change", cause.text) for cause in causes]
        more = f", and {len(causes) - 1} more" if len(causes) > 1 else ""
        since = f"since run {made.run_id} ({tell_time(made.made_s)}){more}"
        sentence = f"{task} is done, and stale: {causes[0].text} {since}; --stale makes it again"
    elif task in found.below:
        others = [Fact("change", f"{other}: {of_other[0].text}") for other, of_other in found.stale.items()]
        facts += others[:_SHOWN]
        other = next(iter(found.stale))
        sentence = (
            f"{task} is done, and depends on {other}, which is stale; --stale makes that again, then this if need be"
        )
    else:
        return replace(answer, facts=facts)
    again = len(found.stale) + len(found.below)
    return replace(answer, reason="stale", sentence=sentence, facts=facts, to_run=again)
