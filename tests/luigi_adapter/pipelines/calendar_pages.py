"""The tasks of two articles: date intervals without output, and one dated file a day, a month or an hour."""

from __future__ import annotations

import luigi


class IntervalTask(luigi.Task):
    interval = luigi.DateIntervalParameter()

    def complete(self):
        return False

    def run(self):
        days = self.interval.dates()
        print(type(self.interval), days[0], days[-1], len(days))
        try:
            print(self.interval.next(), self.interval.prev())
        except NotImplementedError:
            print("no neighbours")


class MyDailyTask(luigi.Task):
    date = luigi.DateParameter()

    def output(self):
        return luigi.LocalTarget(self.date.strftime("files/luigi-%Y-%m-%d"))

    def run(self):
        with self.output().open("w") as file:
            file.write("x")


class MyMonthlyTask(luigi.Task):
    date = luigi.MonthParameter()

    def output(self):
        return luigi.LocalTarget(self.date.strftime("files/luigi-%Y-%m"))

    def run(self):
        with self.output().open("w") as file:
            file.write("x")


class MyHourlyTask(luigi.Task):
    date = luigi.DateHourParameter()

    def output(self):
        return luigi.LocalTarget(self.date.strftime("files/luigi-%Y-%m-%dT%H"))

    def run(self):
        with self.output().open("w") as file:
            file.write("x")
