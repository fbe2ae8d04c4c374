"""Claims: what is asserted about a result, how far it may be off and why, and what recomputing it says.

    tenth = Tolerance(absolute=0.05, reason="rounded to a tenth")
    Claim("mean of Seattle", stated, recomputed, unit="°C", tolerance=tenth).require()

For a task's `check()`, and for whatever else recomputes numbers by other means than they were made by.
"""

from __future__ import annotations

from jubako.errors import WorkError
from jubako.records import record
from jubako.verify.tolerance import EXACT, Tolerance, agree, distance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.verify.tolerance import Agreement, Number

__all__ = ["Claim", "require_all"]


@record
class Claim:
    """A number that was stated, and the same recomputed."""

    what: str  # "mean temperature of Seattle"
    stated: Number
    recomputed: Number
    unit: str = ""
    tolerance: Tolerance = EXACT

    @property
    def verdict(self) -> Agreement:
        """same, within or different."""
        return agree(self.stated, self.recomputed, self.tolerance)

    @property
    def holds(self) -> bool:
        """True if the recomputed number is close enough to the stated one."""
        return self.verdict != "different"

    def describe(self) -> str:
        """ "mean: stated 7.25 °C, recomputed 7.31 °C, off by 0.06 °C; allowed: absolute 0.05 (rounded)"."""
        unit = f" {self.unit}" if self.unit else ""
        text = f"{self.what}: stated {self.stated}{unit}, recomputed {self.recomputed}{unit}"
        absolute, _ = distance(self.stated, self.recomputed)
        if absolute > 0:
            text += f", off by {absolute:.3g}{unit}"
        return text if self.tolerance.is_exact else f"{text}; allowed: {self.tolerance.describe()}"

    def require(self) -> None:
        """WorkError, with the whole sentence, unless the claim holds."""
        require_all([self])


def require_all(claims: Iterable[Claim]) -> None:
    """WorkError that names every claim that does not hold."""
    broken = [claim.describe() for claim in claims if not claim.holds]
    if broken:
        raise WorkError("; ".join(broken))
