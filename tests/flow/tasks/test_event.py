"""Events have Luigi's names and values."""

from __future__ import annotations

from typing import Any

from jubako.flow.ranges.range import RangeEvent
from jubako.flow.tasks.event import Event


def test_events_are_luigis(luigi: Any) -> None:
    for ours, theirs in ((Event, luigi.Event), (RangeEvent, luigi.tools.range.RangeEvent)):
        names = {name: value for name, value in vars(theirs).items() if name.isupper()}
        assert {name: value for name, value in vars(ours).items() if name.isupper()} == names
