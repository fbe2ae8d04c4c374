"""Two things that run by themselves: a count of each day's orders, and a page of the week every Monday.

    jubako schedule examples/nightly --list
    jubako schedule examples/nightly

The orders are made up here; what a day's come to is always the same.
"""

from __future__ import annotations

import datetime
import random
from pathlib import Path

from jubako import DateParameter, LocalTarget, Task, schedule

OUT = Path(__file__).resolve().parent / "out"


@schedule(cron="30 2 * * *", timezone="Europe/Berlin", catch_up="all")
class DailyOrders(Task):
    """How many orders a day had. Counted in the night after it."""

    date = DateParameter(description="the day to count")

    def output(self) -> LocalTarget:
        return LocalTarget(str(OUT / f"{self.date}.txt"))

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write(f"{random.Random(str(self.date)).randrange(1000)}\n")


class WeeklyPage(Task):
    """The seven days before a Monday."""

    monday = DateParameter(description="the Monday after the week")

    def requires(self) -> list[DailyOrders]:
        return [DailyOrders(date=self.monday - datetime.timedelta(days=ago)) for ago in range(7, 0, -1)]

    def output(self) -> LocalTarget:
        return LocalTarget(str(OUT / f"week-before-{self.monday}.txt"))

    def run(self) -> None:
        counts = []
        for day in self.input():
            with day.open() as file:
                counts.append(int(file.read()))
        with self.output().open("w") as file:
            file.write(f"{counts} {sum(counts)}\n")


@schedule(cron="0 7 * * MON", timezone="Europe/Berlin")
def weekly_page(moment: datetime.datetime) -> WeeklyPage:
    """What is due on a Monday morning."""
    return WeeklyPage(monday=moment.date())
