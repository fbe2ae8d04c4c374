"""The same figures a second way, straight from the raw text. For checks: shares no code with `readings`."""

from __future__ import annotations

import math
import re
import statistics
from calendar import monthrange
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def temperatures(file: Path, period: str) -> dict[str, float]:
    """Temperature by hour, "2010-03-14T04:00", of every row whose date begins with `period`, "2010-03"."""
    start = re.escape(period.replace("-", "/"))
    row = re.compile(rf"^(?:(-?[\d.]+),)?({start}[\d/]*) (\d\d:\d\d)(?::00)?(?:,(-?[\d.]+))?$", re.MULTILINE)
    return {
        f"{day.replace('/', '-')}T{hour}": float(before or after)
        for before, day, hour, after in row.findall(file.read_text())
    }


def hours_in(year: int, month: int) -> set[str]:
    """Every hour the month should have."""
    days = monthrange(year, month)[1]
    return {f"{year}-{month:02}-{day:02}T{hour:02}:00" for day in range(1, days + 1) for hour in range(24)}


def differences(summary: Mapping[str, Any], found: Mapping[str, float], expected: set[str]) -> list[str]:
    """What a summary says that the raw rows don't; empty when all of it is so."""
    wanted: dict[str, object] = {
        "hours_present": len(found),
        "hours_missing": sorted(expected - found.keys()),
        "min": min(found.values(), default=None),
        "max": max(found.values(), default=None),
    }
    wrong = [f"{name} is {summary[name]}, not {value}" for name, value in wanted.items() if summary[name] != value]
    mean = statistics.fmean(found.values()) if found else None
    if (mean is None) != (summary["mean"] is None) or (mean and not math.isclose(mean, summary["mean"], abs_tol=0.006)):
        wrong.append(f"mean is {summary['mean']}, not {mean}")
    return wrong
