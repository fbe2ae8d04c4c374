"""The answer to "why would a run run this task, or not", as a value. Reasons: `flow.explain.why`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jubako.records import field, record

__all__ = ["Fact", "Verdict", "Why"]

Verdict = Literal["done", "running", "would_run", "incomplete", "cannot"]


@record
class Fact:
    """Something an answer rests on. `kind`: output, attempt, run, chain, need, range, owed, change."""

    kind: str
    text: str
    path: str = ""
    run: str = ""


@record
class Why:
    """The answer about one task. `to_run` counts the tasks that a run would run for it, itself included."""

    task: Any
    verdict: Verdict
    reason: str
    sentence: str
    facts: Sequence[Fact] = ()
    chain: Sequence[Any] = field(default_factory=tuple)  # from the task to what stands in its way
    to_run: int = 0
