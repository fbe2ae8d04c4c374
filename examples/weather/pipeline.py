"""A year of hourly temperatures in two cities: summarised day by day and month by month, drawn as one page.

    jubako run examples/weather YearReport --year 2010 --workers 2
    jubako backfill examples/weather DailySummary --from 2010-03-01 --to 2010-04-01

Every task runs in a box, is checked against the raw rows by code that shares nothing with the code that made the
result (`recount`), and is published whole or not at all. The standard library and jubako are all it needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import page
import recount
from readings import FILES, UNIT, hours_of, readings_of, summarise

from jubako import DateParameter, ExternalTask, LocalTarget, Month, MonthParameter, Parameter, Task, Year, YearParameter

OUT = Path(__file__).resolve().parent / "out"


class Readings(ExternalTask):
    """The raw rows of one city. No task makes them: they have to be there."""

    city = Parameter(description="a city there is a file for")

    def output(self) -> LocalTarget:
        return LocalTarget(str(FILES[self.city]))


class DailySummary(Task):
    """Hours present and missing, minimum, maximum and mean of one day, in each city."""

    date = DateParameter(description="the day to summarise")

    def requires(self) -> dict[str, Readings]:
        return {city: Readings(city=city) for city in FILES}

    def output(self) -> LocalTarget:
        return LocalTarget(str(OUT / f"daily/{self.date:%Y/%Y-%m-%d}.json"))

    def run(self) -> None:
        cities = {}
        for city, raw in self.input().items():
            with raw.open() as file:
                cities[city] = summarise(readings_of(self.date, file), hours_of(self.date))
        write_json(self.output(), {"date": self.date.isoformat(), "unit": UNIT, "cities": cities})

    def check(self) -> None:
        day = self.date.isoformat()
        expected = {f"{day}T{hour:02}:00" for hour in range(24)}
        for city, summary in read_json(self.output())["cities"].items():
            found = recount.temperatures(FILES[city], day)
            refuse(f"{city}, {day}", recount.differences(summary, found, expected))


class MonthlySummary(Task):
    """The same figures for a month, in each city, and its days."""

    month = MonthParameter(description="the month to summarise")

    def requires(self) -> list[DailySummary]:
        return [DailySummary(date=day) for day in Month(self.month.year, self.month.month)]

    def output(self) -> LocalTarget:
        return LocalTarget(str(OUT / f"monthly/{self.month:%Y-%m}.json"))

    def run(self) -> None:
        days = [read_json(target) for target in self.input()]
        cities = {city: together([day["cities"][city] for day in days]) for city in FILES}
        month = f"{self.month:%Y-%m}"
        write_json(self.output(), {"month": month, "unit": UNIT, "cities": cities, "days": days})

    def check(self) -> None:
        month = f"{self.month:%Y-%m}"
        expected = recount.hours_in(self.month.year, self.month.month)
        for city, summary in read_json(self.output())["cities"].items():
            found = recount.temperatures(FILES[city], month)
            refuse(f"{city}, {month}", recount.differences(summary, found, expected))


class YearReport(Task):
    """One self-contained HTML page: a calendar heat map for each city, the monthly table, the missing hours."""

    year = YearParameter(description="the year to draw")

    def requires(self) -> list[MonthlySummary]:
        return [MonthlySummary(month=month) for month in months_of(self.year.year)]

    def output(self) -> LocalTarget:
        return LocalTarget(str(OUT / f"report/{self.year:%Y}.html"))

    def run(self) -> None:
        months = [read_json(target) for target in self.input()]
        with self.output().open("w") as file:
            file.write(page.render(self.year.year, UNIT, months))

    def check(self) -> None:
        """Read the page back and compare what it shows with the raw rows."""
        with self.output().open() as file:
            shown = page.read_back(ElementTree.fromstring(file.read()))
        year = self.year.year
        expected = {hour for month in range(1, 13) for hour in recount.hours_in(year, month)}
        raw = {city: recount.temperatures(file, str(year)) for city, file in FILES.items()}
        wrong = []
        if shown.days != {city: sorted({hour[:10] for hour in expected}) for city in raw}:
            wrong.append("a calendar does not have one square for each day")
        if shown.missing != {(hour, city) for city, found in raw.items() for hour in expected - found.keys()}:
            wrong.append("the list of missing hours is not what is missing")
        for (month, city), (hours, missing, low, mean, high) in shown.months.items():
            found = [temperature for hour, temperature in raw[city].items() if hour.startswith(month)]
            gap = len(recount.hours_in(year, int(month[5:]))) - len(found)
            if (hours, missing, low, high) != (len(found), gap, min(found, default=None), max(found, default=None)):
                wrong.append(f"{city}, {month}: the table says {hours}, {missing}, {low}, {high}")
            if found and abs(mean - sum(found) / len(found)) > 0.06:
                wrong.append(f"{city}, {month}: the table says a mean of {mean}")
        if len(shown.months) != 12 * len(FILES):
            wrong.append(f"the table has {len(shown.months)} entries")
        refuse(f"the page of {year}", wrong)


def months_of(year: int) -> list[Any]:
    """The first day of each of the year's months."""
    return [day for day in Year(year) if day.day == 1]


def together(days: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of a month from the summaries of its days."""
    present = sum(day["hours_present"] for day in days)
    known = [day for day in days if day["hours_present"]]
    total = round(sum(day["sum"] for day in known), 1)
    return {
        "hours_present": present,
        "hours_missing": [hour for day in days for hour in day["hours_missing"]],
        "min": min((day["min"] for day in known), default=None),
        "max": max((day["max"] for day in known), default=None),
        "mean": round(total / present, 2) if present else None,
        "sum": total if present else None,
    }


def refuse(what: str, wrong: list[str]) -> None:
    """Fail the check, saying all that is wrong."""
    if wrong:
        raise ValueError(f"{what}: {'; '.join(wrong)}")


def read_json(target: LocalTarget) -> dict[str, Any]:
    with target.open() as file:
        content: dict[str, Any] = json.load(file)
    return content


def write_json(target: LocalTarget, content: dict[str, Any]) -> None:
    with target.open("w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
