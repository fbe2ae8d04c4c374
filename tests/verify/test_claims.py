"""Claims: what holds, what doesn't, and the sentence about it."""

from __future__ import annotations

import pytest

from jubako.errors import WorkError
from jubako.verify import Claim, Tolerance, require_all

TENTH = Tolerance(absolute=0.05, reason="rounded to a tenth", unit="°C")


def test_claim_that_holds_raises_nothing() -> None:
    claim = Claim("mean", 7.25, 7.29, unit="°C", tolerance=TENTH)
    assert (claim.verdict, claim.holds) == ("within", True)
    claim.require()


def test_claims_that_do_not_hold_are_all_named() -> None:
    claims = [
        Claim("mean", 7.25, 7.75, unit="°C", tolerance=TENTH),
        Claim("rows", 24, 24),
        Claim("sum", 1, 2),
    ]
    with pytest.raises(WorkError) as refused:
        require_all(claims)
    mean = "mean: stated 7.25 °C, recomputed 7.75 °C, off by 0.5 °C; allowed: absolute 0.05 °C (rounded to a tenth)"
    assert refused.value.message == f"{mean}; sum: stated 1, recomputed 2, off by 1"
