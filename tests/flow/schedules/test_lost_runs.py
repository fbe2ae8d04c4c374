"""Runs that were killed are told of by the scheduler that has started them."""

from __future__ import annotations

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from jubako.errors import InputError
from jubako.flow.notices.hooks import CommandHook, Secret, WebHook
from jubako.flow.observer import Note
from jubako.flow.schedules.cron import Cron
from jubako.flow.schedules.firings import Rule
from jubako.flow.schedules.lost_runs import LostRuns
from jubako.flow.schedules.schedule import Schedule
from jubako.flow.schedules.scheduler import Ended, Started

NIGHTLY = Schedule("nightly", Rule(Cron("0 6 * * *"), ZoneInfo("UTC")), "all", "queue", lambda _moment: [])


def test_hooks_are_told_of_runs_that_were_killed_and_of_no_others(tmp_path: Path) -> None:
    said: list[Note] = []
    hooks = [
        CommandHook(["sh", "-c", f"cat > {tmp_path}/message-$$"]),
        CommandHook(["false"], "broken"),
        CommandHook(["sh", "-c", f"touch {tmp_path}/success"], on=["success"]),
    ]
    with LostRuns(hooks, "/data/p.py", said.append) as lost:
        for event in (
            Started(NIGHTLY, 21_600),
            Ended(NIGHTLY, 21_600, 0, 1.0),
            Ended(NIGHTLY, 21_600, 1, 1.0),
            Ended(NIGHTLY, 21_600, -9, 1.0),
            Ended(NIGHTLY, 108_000, 1, 0.0, problem="no more processes"),
        ):
            lost.tell(event)
    messages = [json.loads(file.read_text()) for file in tmp_path.glob("message-*")]
    assert sorted((message["asked"], message["outcome"], message["problem"]) for message in messages) == [
        ("nightly 1970-01-01 06:00 UTC", "failure", "it was killed by SIGKILL"),
        ("nightly 1970-01-02 06:00 UTC", "failure", "it could not be started: no more processes"),
    ]
    assert not (tmp_path / "success").exists()
    assert [note.text for note in said] == ["hook broken (false) was not delivered: exit code 1"] * 2


def test_hook_without_its_secret_is_found_before_anything_is_lost() -> None:
    with pytest.raises(InputError, match="the environment has no NO_SUCH_SECRET"):
        LostRuns([WebHook("https://x", secret=Secret(env="NO_SUCH_SECRET"))], "/data/p.py", lambda _note: None)
