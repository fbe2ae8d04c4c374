"""How a run has ended, in one of four words: what hooks, metrics and lineage tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from jubako.flow.result import RunResult

__all__ = ["OUTCOMES", "Outcome", "find_outcome"]

Outcome = Literal["success", "failure", "missing", "interrupted"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("success", "failure", "missing", "interrupted")


def find_outcome(result: RunResult | None, error: BaseException | None = None) -> Outcome:
    """How a run has ended that has a result, or broke off with an error."""
    if result is None:
        return "interrupted" if isinstance(error, KeyboardInterrupt) else "failure"
    if result.interrupted:
        return "interrupted"
    if result.everything_there:
        return "success"
    return "failure" if result.errors else "missing"
