"""Comparing what was published with what comes out again: tolerances, comparators by file type, claims.

Knows nothing of boxes, tasks or runs: `flow.verifying` makes outputs again and has them compared here. A task's
`check()` and a pipeline's own comparators use the names below.
"""

from __future__ import annotations

from jubako.verify.claims import Claim, require_all
from jubako.verify.comparators import comparator
from jubako.verify.compare import Rules, compare
from jubako.verify.content import File
from jubako.verify.findings import Comparison, Difference, Findings, Incomparable, Unreadable
from jubako.verify.report import Entry, Report, entry_of_claim, entry_of_comparison
from jubako.verify.tolerance import EXACT, Tolerance

__all__ = [
    "EXACT",
    "Claim",
    "Comparison",
    "Difference",
    "Entry",
    "File",
    "Findings",
    "Incomparable",
    "Report",
    "Rules",
    "Tolerance",
    "Unreadable",
    "comparator",
    "compare",
    "entry_of_claim",
    "entry_of_comparison",
    "require_all",
]
