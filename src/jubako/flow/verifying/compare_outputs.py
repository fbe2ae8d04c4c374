"""What a box has made of a task that is done, compared with what is published of it. Nothing is published here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from jubako.boxes.spec import StagedOutput
from jubako.boxes.transactions.signature import describe_change, take_signature
from jubako.errors import JubakoError
from jubako.flow.attempts import Prepared
from jubako.flow.verifying.verification import OutputVerdict
from jubako.verify.compare import Rules, compare
from jubako.verify.findings import Comparison

__all__ = ["compare_outputs", "find_change"]


def compare_outputs(prepared: Prepared, rules: Rules, keep: Callable[[StagedOutput], str]) -> list[OutputVerdict]:
    """How each declared output compares. `keep` is told of files that are different, and says where it keeps them."""
    found = []
    for staged in prepared.staged:
        published = staged.path
        if os.path.islink(published) and not os.path.islink(staged.staged):
            published = os.path.realpath(published)
        comparison = compare(published, staged.staged, rules, name=staged.path)
        kept = keep(staged) if comparison.verdict == "different" else ""
        found.append(OutputVerdict(staged.path, comparison, kept))
    for target, staged in prepared.sent:
        found.append(OutputVerdict(staged.path, _compare_stored(target, staged.staged, rules)))
    for target in prepared.other_targets:
        found.append(OutputVerdict(str(target), Comparison("cannot", "", reason="it is no file of this machine")))
    return found


def find_change(prepared: Prepared) -> str:
    """What has changed of outputs and inputs since the task was started, in words; "" if nothing has."""
    before = [*zip((output.path for output in prepared.outputs), prepared.expected, strict=True), *prepared.inputs]
    for path, was in before:
        now = take_signature(path)
        if now != was:
            return f"{path} was changed: {describe_change(was, now)}"
    return ""


def _compare_stored(target: Any, staged: str, rules: Rules) -> Comparison:
    """What is staged for a target in a store, compared with what is there, of which a copy is made for that."""
    published = f"{staged}-published"
    try:
        target.fetch(published)
    except (OSError, JubakoError) as error:
        return Comparison("cannot", "", reason=str(error))
    if not os.path.lexists(staged) or os.path.isdir(published) != os.path.isdir(staged):
        return Comparison("cannot", "", reason="the task has put it into the store itself")
    return compare(published, staged, rules, name=target.path)
