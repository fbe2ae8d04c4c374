"""What goes of old history, with a clock that is moved by hand."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.database import open_database
from jubako.boxes.run_lock import lock_new_run
from jubako.boxes.state import StateRoot, open_state_root
from jubako.flow.history import History
from jubako.flow.ledger import AttemptRecord, Ledger
from jubako.flow.retention import KEPT, KeptRun, Limits, plan_pruning, prune
from jubako.testing import FakeClock
from jubako.testing.ledger import begin_fake_run

DAY_S = 86_400


class World:
    """A state root with runs in it."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, state: StateRoot) -> None:
        self.folder = folder
        self.connection = connection
        self.state = state
        self.clock = FakeClock(wall_s=1e9)

    def run(
        self, run_id: str, outcome: str = "published", *, size: int = 10, task: str = "", ends: bool = True
    ) -> None:
        """One attempt at a task that prints `size` bytes."""
        run = begin_fake_run(Ledger(self.connection), run_id, clock=self.clock)
        with run.transaction():
            run.record([AttemptRecord("1", task or f"T_{run_id}", "T()", outcome)])
        (self.folder / "logs" / run_id).mkdir()
        (self.folder / "logs" / run_id / "1.log").write_bytes(b"x" * size)
        if ends:
            run.end("SUCCESS", {}, self.clock.wall_s(), log_bytes=size)
        self.clock.advance(1)

    def prune(self, **limits: float) -> None:
        prune(self.connection, self.state, self.clock.wall_s(), KEPT._replace(**limits))

    def left(self) -> list[str]:
        """Runs that are still there, by name: each with its row, its attempt and its log, or the test fails."""
        logs = sorted(path.name for path in (self.folder / "logs").iterdir())
        assert logs == sorted(run.run_id for run in History(self.connection).list_runs())
        attempts = self.connection.execute("SELECT run_id FROM attempts JOIN runs ON runs.number = run").fetchall()
        assert logs == sorted(run_id for (run_id,) in attempts)
        assert self.connection.execute("SELECT count(*) FROM attempts").fetchone() == (len(attempts),)
        return logs


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    state = open_state_root(str(tmp_path / "state"))
    connection = open_database(state.ledger_path, durability="relaxed")
    yield World(tmp_path / "state", connection, state)
    connection.close()


def test_prune_by_age_takes_runs_with_their_attempts_and_logs(world: World) -> None:
    world.run("a", "failed")
    world.clock.advance(50 * DAY_S)
    world.run("b")
    world.clock.advance(39 * DAY_S)
    world.prune()
    assert world.left() == ["a", "b"]
    world.clock.advance(2 * DAY_S)
    world.prune()
    assert world.left() == ["b"]


def test_prune_by_size_takes_the_oldest_until_the_rest_fits(world: World) -> None:
    for run_id in ("a", "b", "c", "d"):
        world.run(run_id, size=100)
    world.prune(log_bytes=400)
    assert world.left() == ["a", "b", "c", "d"]
    world.prune(log_bytes=250)
    assert world.left() == ["c", "d"]


def test_prune_by_size_spares_the_last_attempt_at_a_task_that_failed(world: World) -> None:
    world.run("a", "failed", size=100, task="mended")
    world.run("b", "failed", size=100, task="broken")
    world.run("c", "failed", size=100, task="broken")
    world.run("d", "published", size=100, task="mended")
    world.prune(log_bytes=0)
    assert world.left() == ["c"]
    world.clock.advance(91 * DAY_S)
    world.prune(log_bytes=0)
    assert world.left() == []


def test_prune_by_number_takes_the_oldest(world: World) -> None:
    for run_id in ("a", "b", "c"):
        world.run(run_id)
    world.prune(runs=2)
    assert world.left() == ["b", "c"]


def test_prune_leaves_living_runs_and_those_that_wait_for_recovery_alone(world: World) -> None:
    lock = lock_new_run(world.state, "living")
    world.run("living", ends=False)
    world.run("dead", ends=False)
    (world.folder / "stage" / "dead").mkdir()  # its lock has gone with it, its staged outputs not yet
    world.clock.advance(1000 * DAY_S)
    world.prune(runs=0, log_bytes=0)
    assert world.left() == ["dead", "living"]
    os.close(lock)
    (world.folder / "stage" / "living" / "lock").unlink()
    (world.folder / "stage" / "living").rmdir()
    world.prune()
    assert world.left() == ["dead"]


def test_prune_measures_the_logs_of_a_killed_run_once(world: World) -> None:
    world.run("killed", size=1000, ends=False)
    world.run("next", size=10)
    world.prune()
    sizes = dict(world.connection.execute("SELECT run_id, log_bytes FROM runs").fetchall())
    assert sizes == {"killed": 1000, "next": 10}
    world.prune(log_bytes=500)
    assert world.left() == ["next"]


def test_prune_killed_between_rows_and_files_is_finished_by_the_next(world: World) -> None:
    world.run("a")
    world.run("b")
    world.connection.execute("DELETE FROM attempts WHERE run = 1")
    world.connection.execute("DELETE FROM runs WHERE run_id = 'a'")
    world.prune()
    assert world.left() == ["b"]


def test_prune_by_several_at_once_is_pruning_once(world: World) -> None:
    for number in range(40):
        world.run(f"r{number:02}", size=100)
    start = threading.Barrier(4)

    def prune_too() -> None:
        connection = open_database(world.state.ledger_path, durability="relaxed")
        start.wait()
        prune(connection, world.state, world.clock.wall_s(), Limits(log_bytes=150))
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(prune_too) for _ in range(4)]:
            done.result()
    assert world.left() == ["r39"]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50), st.booleans()), max_size=12),
    st.integers(0, 200),
    st.integers(0, 12),
    st.integers(0, 300),
)
def test_plan_pruning_of_any_runs_keeps_to_every_limit(
    entries: list[tuple[int, int, bool]], age_s: int, count: int, log_bytes: int
) -> None:
    entries.sort()
    runs = [KeptRun(number, str(number), float(at), size) for number, (at, size, _) in enumerate(entries)]
    wanted = {number for number, (_, _, is_wanted) in enumerate(entries) if is_wanted}
    limits = Limits(age_s, count, log_bytes)
    gone = plan_pruning(runs, 200.0, limits, find_wanted=lambda: wanted)
    left = [run for run in runs if run not in gone]
    assert len(set(gone)) == len(gone)
    assert len(left) <= count
    assert all(run.started_s >= 200 - age_s for run in left)
    spare = [run for run in left if run.number not in wanted and run.log_bytes]
    total = sum(run.log_bytes for run in left)
    assert total <= log_bytes or not spare
    for_size = [run for run in gone if run.started_s >= 200 - age_s and run.number >= len(runs) - count]
    assert not for_size or total + for_size[-1].log_bytes > log_bytes  # no more than had to go
    assert all(run.number not in wanted for run in for_size)
