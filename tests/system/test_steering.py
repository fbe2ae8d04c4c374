"""A backfill that is listed, paused, let go on and cancelled from another terminal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from started import start

PIPELINE = """
import time
from pathlib import Path
from jubako import DateParameter, LocalTarget, Task

class Day(Task):
    date = DateParameter()

    def output(self):
        return LocalTarget(f"days/{self.date}")

    def run(self):
        Path(f"started-{self.date}").touch()
        while not Path(f"go-{self.date}").exists():
            time.sleep(0.01)
        self.output().open("w").close()
"""


def say(place: Path, *words: str) -> str:
    process = start(place, "backfill", *words)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return out


def listed(place: Path) -> dict[str, Any]:
    (row,) = json.loads(say(place, "--list", "--format", "json"))["backfills"]
    return {name: row[name] for name in ("range", "outcome", "done", "failed", "to_run")}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begun(place: Path) -> list[str]:
    return sorted(path.name[-2:] for path in place.glob("started-*"))


def test_backfill_is_paused_let_go_on_and_cancelled_from_another_terminal(tmp_path: Path) -> None:
    (tmp_path / "days.py").write_text(PIPELINE)
    words = ("--from", "2010-03-01", "--to", "2010-03-06", "--box", "none", "--workers", "2")
    run = start(tmp_path, "backfill", "days.py", "Day", *words, "--durability", "relaxed")
    wait_until(lambda: begun(tmp_path) == ["01", "02"])
    (run_id,) = os.listdir(tmp_path / "state/stage")

    said = say(tmp_path, "--pause", run_id)
    assert said.startswith(f"Run {run_id} (Day 2010-03-01...2010-03-05) finishes what runs and starts nothing more.")
    assert run.stderr is not None
    assert "paused from another terminal" in run.stderr.readline()
    for day in ("01", "02", "03"):
        (tmp_path / f"go-2010-03-{day}").touch()
    range_ = "Day 2010-03-01...2010-03-05"
    wait_until(lambda: listed(tmp_path)["done"] == 2)
    assert listed(tmp_path) == {"range": range_, "outcome": "paused", "done": 2, "failed": 0, "to_run": 5}
    assert begun(tmp_path) == ["01", "02"]

    assert say(tmp_path, "--resume", run_id) == f"Run {run_id} ({range_}) goes on.\n"
    wait_until(lambda: begun(tmp_path) == ["01", "02", "03", "04", "05"])
    say(tmp_path, "--cancel", run_id)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 130, out
    assert "Day 2010-03-01...2010-03-05: 5 wanted = 3 run + 2 not run" in out
    assert say(tmp_path, "--list") == ""
