"""What a scheduler counts of itself."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from prometheus_client.parser import text_string_to_metric_families

from jubako.flow.schedules.cron import Cron
from jubako.flow.schedules.firings import Rule
from jubako.flow.schedules.schedule import Schedule
from jubako.flow.schedules.schedule_meter import ScheduleMeter
from jubako.flow.schedules.schedule_plan import Dropped
from jubako.flow.schedules.scheduler import Ended, GivenUp, Started

HOURLY = Schedule("hourly", Rule(Cron("0 * * * *"), ZoneInfo("UTC")), "all", "queue", lambda _moment: [])


def test_firings_are_counted_from_nought_by_what_became_of_them() -> None:
    meter = ScheduleMeter("/data/p.py", [HOURLY], lambda: 7300.0)
    for event in (
        Started(HOURLY, 0),
        Ended(HOURLY, 0, 0, 1.0),
        Started(HOURLY, 3600),
        Ended(HOURLY, 3600, -9, 1.0),
        Ended(HOURLY, 3600, 1, 0.0, problem="no more processes"),
        GivenUp(HOURLY, Dropped("missed", (0, 3600, 7200))),
        Started(HOURLY, 7200),
    ):
        meter.tell(event)
    found = {
        (sample.name, sample.labels.get("outcome", "")): sample.value
        for family in text_string_to_metric_families(meter.format())
        for sample in family.samples
        if sample.labels["schedule"] == "hourly" and sample.labels["pipeline"] == "/data/p.py"
    }
    firings = "jubako_schedule_firings_total"
    assert found == {
        (firings, "done"): 1,
        (firings, "failed"): 2,
        (firings, "missed"): 3,
        (firings, "busy"): 0,
        (firings, "limit"): 0,
        ("jubako_schedule_running", ""): 1,
        ("jubako_schedule_next_timestamp_seconds", ""): 10_800,
    }
