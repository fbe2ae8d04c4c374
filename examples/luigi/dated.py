"""A pipeline written for Luigi, not for jubako: an interval from the command line, and one file for every day.

jubako luigi --module dated RangeDaily --of MyDailyTask --start 2021-09-01
"""

import luigi


class IntervalTask(luigi.Task):
    """Shows what an interval is. It has no output, so it runs each time."""

    interval = luigi.DateIntervalParameter()

    def complete(self):
        return False

    def run(self):
        days = self.interval.dates()
        print(type(self.interval), days[0], "to", days[-1])


class MyDailyTask(luigi.Task):
    """Writes one file for one day."""

    date = luigi.DateParameter()

    def output(self):
        return luigi.LocalTarget(self.date.strftime("out/%Y-%m-%d.txt"))

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self.date:%A}\n")
