"""What the raw files hold: hourly temperatures of two cities, and how to get one day out of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

UNIT = "°F"
DATA = Path(__file__).resolve().parent / "data"
FILES = {"Seattle": DATA / "seattle-temps.csv", "San Francisco": DATA / "sf-temps.csv"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One row: the temperature at one hour. `tenths` is exact; the files have one decimal."""

    hour: datetime
    tenths: int


def readings_of(day: date, file: Iterable[str]) -> list[Reading]:
    """The readings of one day, whatever the order of the columns. Only that day's rows are taken apart."""
    lines = iter(file)
    columns = next(lines)
    mark = day.strftime("%Y/%m/%d")
    rows = csv.DictReader([columns, *(line for line in lines if mark in line)])
    return [
        Reading(
            hour=datetime.strptime(row["date"][:16], "%Y/%m/%d %H:%M"),
            tenths=round(float(row["temp"]) * 10),
        )
        for row in rows
    ]


def summarise(readings: list[Reading], expected: list[datetime]) -> dict[str, object]:
    """Hours present and missing, min, max, mean and sum of the readings. A day without any has None for all four."""
    tenths = [reading.tenths for reading in readings]
    present = {reading.hour for reading in readings}
    return {
        "hours_present": len(present),
        "hours_missing": [hour.isoformat(timespec="minutes") for hour in expected if hour not in present],
        "min": min(tenths) / 10 if tenths else None,
        "max": max(tenths) / 10 if tenths else None,
        "mean": round(sum(tenths) / len(tenths) / 10, 2) if tenths else None,
        "sum": sum(tenths) / 10 if tenths else None,
    }


def hours_of(day: date) -> list[datetime]:
    """The 24 hours a day should have."""
    midnight = datetime(day.year, day.month, day.day)
    return [midnight + timedelta(hours=hour) for hour in range(24)]
