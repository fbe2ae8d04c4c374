"""What tests of commands that look at the past share: a state root with a ledger of its own, and the command."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from jubako.boxes.state import StateRoot, open_state_root
from jubako.boxes.transactions.database import open_database
from jubako.cli.main import main
from jubako.flow.ledger.ledger import AttemptRecord, Ledger, LedgerRun
from jubako.testing.ledger import begin_fake_run


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def say_here(*words: str) -> Said:
    """Runs `jubako` with these words in this process, which may be a forked child where no fixture is at hand."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main(words)
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            return Said(ended.code, out.getvalue(), err.getvalue())


class Past:
    """A ledger that runs can be put into by hand."""

    def __init__(self, state: StateRoot, ledger: Ledger) -> None:
        self.state = state
        self.ledger = ledger

    def begin(self, run_id: str, pipeline: str, *attempts: AttemptRecord) -> LedgerRun:
        """A run that is not over, and has made these attempts."""
        run = begin_fake_run(self.ledger, run_id, pipeline)
        with run.transaction():
            run.record(attempts)
        return run

    def record(self, run_id: str, pipeline: str, *attempts: AttemptRecord, status: str = "SUCCESS") -> None:
        """A run that has ended."""
        run = self.begin(run_id, pipeline, *attempts)
        failed = sum(attempt.outcome != "published" for attempt in attempts)
        started_s = 1_700_000_000.0
        run.end(status, {"done": len(attempts) - failed, "failed": failed}, started_s + 90.0)
        self.ledger.connection.execute("UPDATE runs SET started_s = ? WHERE run_id = ?", (started_s, run_id))


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Past]:
    state = open_state_root(str(tmp_path / "state"))
    monkeypatch.setenv("JUBAKO_STATE", state.path)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "200")
    with closing(open_database(state.ledger_path, durability="relaxed")) as connection:
        yield Past(state, Ledger(connection))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs `jubako` with these words in this process."""

    def run(*words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, said.out, said.err)

    return run
