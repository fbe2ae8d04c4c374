"""SIGKILL at any system call of a run: what was finished stays finished, and the ledger is whole and tells no lies.

Here tasks run without a box, in the process that is killed; what a killed publisher leaves is in
`tests/system/test_kill_matrix.py`. `make test` takes a seeded sample of the moments, `make soak` all of them.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from crash.tracer import count_calls, kill_at
from jubako.boxes.state import StateRoot, open_state_root
from jubako.flow.ledger.history import open_history
from jubako.flow.parameters import IntParameter
from jubako.flow.run.runner import run
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.task import Task

COUNT = 5
MADE = "made whole " * 1000


class Link(Task):
    """One of a chain: each requires the one before."""

    n = IntParameter()
    folder = ""

    def requires(self) -> list[Task]:
        return [Link(self.n - 1)] if self.n else []

    def output(self) -> LocalTarget:
        return LocalTarget(f"{self.folder}/{self.n}")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write(MADE)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    monkeypatch.setattr(Link, "folder", str(tmp_path / "out"))
    return lambda: run([Link(COUNT - 1)], state=str(tmp_path / "state"), box="none", durability="relaxed")


def check_killed_at(moments: Iterable[int], work: Callable[[], object], folder: Path) -> None:
    for moment in moments:
        shutil.rmtree(folder / "out", ignore_errors=True)
        shutil.rmtree(folder / "state", ignore_errors=True)
        kill_at(work, moment)
        finished = {path.name for path in (folder / "out").glob("?")}
        assert finished == {str(n) for n in range(len(finished))}, moment
        assert all((folder / "out" / name).read_text() == MADE for name in finished), moment
        state = open_state_root(str(folder / "state"))
        recorded = attempts_of(state)
        assert {label for label, outcome in recorded} <= {f"Link(n={n})" for n in finished}, moment
        assert all(outcome == "published" for _, outcome in recorded), moment

        result = run([Link(COUNT - 1)], state=state.path, box="none", durability="relaxed")
        assert result.everything_there, moment
        again = attempts_of(state)[: COUNT - len(finished)]
        assert [label for label, _ in again] == [f"Link(n={n})" for n in reversed(range(len(finished), COUNT))], moment
        assert len(attempts_of(state)) == len(recorded) + len(again), moment
        with open_history(state.path) as history:
            newest, *others = (known.outcome for known in history.list_runs())
            assert newest == "ok", moment
            assert others in ([], ["killed"]) or (others == ["ok"] and len(finished) == COUNT), moment
        with closing(sqlite3.connect(state.ledger_path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), moment
            assert connection.execute("SELECT count(*) FROM leases").fetchone() == (0,), moment


def attempts_of(state: StateRoot) -> list[tuple[str, str]]:
    """Label and outcome of each, the newest first."""
    with open_history(state.path) as history:
        return [(attempt.label, attempt.outcome) for attempt in history.list_attempts(limit=100)]


def test_run_killed_now_and_then_loses_at_most_what_was_not_finished(
    work: Callable[[], object], tmp_path: Path
) -> None:
    moments = random.Random(20100101).sample(range(count_calls(work)), 25)
    check_killed_at(moments, work, tmp_path)


@pytest.mark.soak
def test_run_killed_at_each_call_loses_at_most_what_was_not_finished(
    work: Callable[[], object], tmp_path: Path
) -> None:
    check_killed_at(range(count_calls(work)), work, tmp_path)
