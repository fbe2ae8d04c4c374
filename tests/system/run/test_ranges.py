"""Ranges in whole runs: Luigi's summary to the letter, and our lines that say what was left out."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

NOON = 1632052800  # 2021-09-19T12:00Z

PIPELINE = """
from jubako.flow.ranges.range import RangeDaily, RangeHourly, RangeMonthly
from jubako.flow.parameters import DateHourParameter, MonthParameter

class MyDailyTask(Task):
    date = DateParameter()

    def output(self):
        return LocalTarget(f"luigi-{self.date}")

    def run(self):
        if self.date == datetime.date(2021, 9, 13) and os.path.exists("bad-luck"):
            raise RuntimeError("the 13th")
        with self.output().open("w") as file:
            file.write(str(self.date))
"""

FRAME = "===== Luigi Execution Summary ====="


def daily(world: Any, start: str, **more: Any) -> Any:
    module = __import__(world.pipeline.source.module)
    return module.RangeDaily(of=world.MyDailyTask, start=datetime.date.fromisoformat(start), now=NOON, **more)


def test_range_runs_what_is_missing_and_then_nothing(world: Any) -> None:
    world.write(PIPELINE)
    world.run(world.MyDailyTask(datetime.date(2021, 9, 1)), box="none")
    result = world.run(daily(world, "2021-09-01"), box="none")
    assert result.format_summary() == (
        f"\n{FRAME}\n\nScheduled 19 tasks of which:\n* 19 ran successfully:\n"
        "    - 18 MyDailyTask(date=2021-09-02...2021-09-19)\n    - 1 RangeDaily(...)\n\n"
        f"This progress looks :) because there were no failed tasks or missing dependencies\n\n{FRAME}\n"
    )
    assert result.format_report()[0] == "RangeDaily of MyDailyTask: 19 wanted = 1 done before + 18 run"
    world.pipeline.tasks["MyDailyTask"].clear_instance_cache()
    again = world.run(daily(world, "2021-09-01"), box="none")
    assert again.format_summary() == (
        f"\n{FRAME}\n\nScheduled 1 tasks of which:\n* 1 complete ones were encountered:\n    - 1 RangeDaily(...)\n\n"
        "Did not run any tasks\n"
        f"This progress looks :) because there were no failed tasks or missing dependencies\n\n{FRAME}\n"
    )
    assert len(world.files()) == 19


@pytest.mark.parametrize("strict", [False, True])
def test_range_that_leaves_dates_out_says_how_many_and_why(world: Any, strict: bool) -> None:
    world.write(PIPELINE)
    result = world.run(daily(world, "2021-01-01"), box="none", strict=strict)
    assert "- 50 MyDailyTask(date=2021-06-12...2021-07-31)" in result.format_summary()
    assert result.format_report()[0] == (
        "RangeDaily of MyDailyTask: 262 wanted = 50 run + 162 outside the window (days back 100, days forward 0)"
        " + 50 over the limit (task limit 50)"
    )
    assert result.everything_there is not strict
    reason = "exit code 1: --strict counts the 212 that ranges left out as missing"
    assert (reason in result.format_report()) is strict
    assert result.to_json()["ranges"][0] == {
        "range": "RangeDaily of MyDailyTask", "wanted": 262, "done_before": 0, "run": 50, "outside": 162,
        "over_limit": 50, "failed": 0, "not_run": 0,
    }  # fmt: skip


def test_range_counts_what_failed(world: Any) -> None:
    world.write(PIPELINE)
    (world.folder / "bad-luck").touch()
    result = world.run(daily(world, "2021-09-10"), box="none")
    (account,) = result.accounts
    assert (account.wanted, account.run, account.failed, account.is_whole) == (10, 9, 1, False)
    assert not result
