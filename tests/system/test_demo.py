"""The demonstration: a year of real hourly data through the real command, its figures counted once more here, and what
the two faulty tasks leave behind."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from example_runs import copy_examples, jubako

MISSING = "2010-03-14T03:00"

pytestmark = pytest.mark.box


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return copy_examples(tmp_path)


def run_year(place: Path, *options: str) -> dict[str, Any]:
    arguments = ("run", "examples/weather", "YearReport", "--year", "2010", "--workers", "2", "--format", "json")
    result = jubako(place, *arguments, "--durability", "relaxed", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def raw_hours(place: Path, file: str) -> dict[str, dict[str, float]]:
    """Temperature by hour by day, by the plainest reading of the file there is."""
    days: dict[str, dict[str, float]] = defaultdict(dict)
    with (place / "examples/weather/data" / file).open(newline="") as stream:
        for row in csv.DictReader(stream):
            day, hour = row["date"].split(" ")
            days[day.replace("/", "-")][hour[:5]] = float(row["temp"])
    return days


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_demo_of_a_year_is_right_about_every_day_and_done_once(place: Path) -> None:
    first = run_year(place)
    assert first["counts"]["done"] == 365 + 12 + 1
    assert first["mode"] == "host"
    out = place / "examples/weather/out"

    cities = {"Seattle": "seattle-temps.csv", "San Francisco": "sf-temps.csv"}
    for city, file in cities.items():
        days = raw_hours(place, file)
        assert len(days) == 365
        for day, hours in days.items():
            summary = json.loads((out / f"daily/2010/{day}.json").read_text())["cities"][city]
            missing = [f"{day}T{hour:02}:00" for hour in range(24) if f"{hour:02}:00" not in hours]
            assert (summary["hours_present"], summary["hours_missing"]) == (len(hours), missing)
            assert (summary["min"], summary["max"]) == (min(hours.values()), max(hours.values()))
            assert summary["mean"] == pytest.approx(sum(hours.values()) / len(hours), abs=0.006)
    march = json.loads((out / "monthly/2010-03.json").read_text())["cities"]
    assert all(city["hours_missing"] == [MISSING] and city["hours_present"] == 743 for city in march.values())

    page = (out / "report/2010.html").read_text()
    tree = ElementTree.fromstring(page)
    assert len([element for element in tree.iter() if element.get("data-day")]) == 2 * 365
    assert [element.get("data-hour") for element in tree.iter() if element.get("data-hour")] == [MISSING] * 2
    assert not re.search(r"\b(?:src|href)=|@import|url\((?!#)", page), "the page needs something else"
    assert (
        len([element for element in tree.iter() if element.tag.endswith("svg") and element.get("role") == "img"]) == 2
    )

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    second = run_year(place)
    assert second["counts"]["done"] == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_demo_with_a_wrong_summary_is_refused_by_its_check_and_publishes_nothing(place: Path) -> None:
    readings = place / "examples/weather/readings.py"
    readings.write_text(readings.read_text().replace('"min": min(tenths)', '"min": max(tenths)'))
    result = jubako(place, "run", "examples/weather", "DailySummary", "--date", "2010-03-14")
    assert result.returncode == 1
    assert "min is 51.8, not 41.6" in result.stdout
    assert not (place / "examples/weather/out/daily").exists()


def test_task_that_fails_half_way_leaves_nothing(place: Path) -> None:
    before = everything_in(place / "examples")
    result = jubako(place, "run", "examples/faulty", "HalfWay")
    assert result.returncode == 1
    assert "division by zero" in result.stdout
    after = [path for path in everything_in(place / "examples") if "__pycache__" not in path]
    assert after == before
    assert not (place / "examples/faulty/out").exists()
    assert list((place / "state/stage").iterdir()) == []


def test_stray_write_is_reported_and_dropped(place: Path) -> None:
    result = jubako(place, "run", "examples/faulty", "Untidy")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"added {place}/examples/faulty/out/debug.log" in result.stdout
    assert everything_in(place / "examples/faulty/out") == ["report.txt"]


def test_stray_write_refused_fails_the_task(place: Path) -> None:
    result = jubako(place, "run", "examples/faulty", "Untidy", "--undeclared", "fail")
    assert result.returncode == 1
    assert "debug.log" in result.stdout
    assert not (place / "examples/faulty/out/report.txt").exists()


def test_backfill_of_days_runs_what_is_missing_and_says_so(place: Path) -> None:
    words = ("backfill", "examples/weather", "DailySummary", "--from", "2010-03-10", "--inclusive")
    assert jubako(place, *words, "--to", "2010-03-12").returncode == 0
    dry = jubako(place, *words, "--to", "2010-03-20", "--dry-run")
    assert dry.stdout.splitlines() == [
        "DailySummary 2010-03-10...2010-03-20: 11 wanted, 3 done before, 8 to run (2010-03-13...2010-03-20)",
        "    2010-03-13...2010-03-20",
    ]
    (place / "examples/weather/out/daily/2010/2010-03-11.json").unlink()
    result = jubako(place, *words, "--to", "2010-03-20", "--newest-first", "--format", "json")
    assert result.returncode == 0, result.stdout + result.stderr
    backfill = json.loads(result.stdout)["backfill"]
    assert (backfill["wanted"], backfill["done_before"], backfill["run"], backfill["failed"]) == (11, 2, 9, 0)
    assert len(everything_in(place / "examples/weather/out/daily/2010")) == 11
