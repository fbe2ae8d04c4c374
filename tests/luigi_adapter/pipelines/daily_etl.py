"""A daily extract, transform and load: raw readings from outside, cleaned day by day, loaded, reported by month."""

from __future__ import annotations

import csv
import datetime
import json

import luigi
from luigi.util import inherits, requires


class Warehouse(luigi.Config):
    """Where things are; set in luigi.cfg."""

    root = luigi.Parameter(default="warehouse")
    unit = luigi.ChoiceParameter(default="celsius", choices=["celsius", "fahrenheit"])


class Readings(luigi.ExternalTask):
    """A file a sensor has written."""

    date = luigi.DateParameter()
    station = luigi.Parameter(default="oslo")

    def output(self):
        return luigi.LocalTarget(f"raw/{self.station}/{self.date:%Y/%m-%d}.csv")


@requires(Readings)
class Clean(luigi.Task):
    """Readings without what cannot be a temperature."""

    limit = luigi.FloatParameter(default=60.0, significant=False)

    def output(self):
        return luigi.LocalTarget(f"{Warehouse().root}/clean/{self.station}-{self.date}.json")

    def run(self):
        with self.input().open() as source:
            values = [float(row["value"]) for row in csv.DictReader(source)]
        kept = [value for value in values if abs(value) < self.limit]
        if Warehouse().unit == "fahrenheit":
            kept = [value * 9 / 5 + 32 for value in kept]
        with self.output().open("w") as target:
            json.dump(kept, target)


@requires(Clean)
class Load(luigi.Task):
    """One line of the fact table for a day."""

    priority = 10

    def output(self):
        return luigi.LocalTarget(f"{Warehouse().root}/facts/{self.station}-{self.date}.txt")

    def run(self):
        with self.input().open() as source, self.output().open("w") as target:
            values = json.load(source)
            target.write(f"{self.date} {len(values)} {sum(values):.1f}\n")


@inherits(Load)
class MonthReport(luigi.Task):
    """All days of a month."""

    date = None
    month = luigi.MonthParameter()

    def requires(self):
        first = datetime.date(self.month.year, self.month.month, 1)
        days = [first + datetime.timedelta(days=n) for n in range(31)]
        return [self.clone(Load, date=day) for day in days if day.month == first.month]

    def output(self):
        return luigi.LocalTarget(f"{Warehouse().root}/report-{self.month:%Y-%m}.txt")

    def run(self):
        with self.output().open("w") as target:
            for day in self.input():
                with day.open() as source:
                    target.write(source.read())
