"""What goes of old history, with a clock that is moved by hand."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import rmtree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.run_lock import is_run_locked, lock_new_run
from jubako.boxes.state import StateRoot, open_state_root
from jubako.boxes.transactions.database import open_database
from jubako.errors import HostError
from jubako.flow.ledger.history import History
from jubako.flow.ledger.ledger import AttemptRecord, Ledger
from jubako.flow.ledger.retention import KEPT, KeptRun, Limits, plan_pruning, prune
from jubako.flow.ledger.run_id import make_run_id
from jubako.flow.ledger.task_log import NAMES
from jubako.kernel import mounts
from jubako.kernel.filesystems import tmpfs
from jubako.testing import FakeClock
from jubako.testing.ledger import begin_fake_run

DAY_S = 86_400
Runner = Callable[[Callable[[], None]], None]


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
        (self.folder / "logs" / run_id / NAMES).touch()
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


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    state = open_state_root(str(folder / "state"))
    with closing(open_database(state.ledger_path, durability="relaxed")) as connection:
        Ledger(connection)  # makes its tables
        yield World(folder / "state", connection, state)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


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


def test_prune_leaves_a_paused_backfill_alone_however_long_it_waits(world: World) -> None:
    lock = lock_new_run(world.state, "paused")
    world.run("paused", ends=False)
    assert Ledger(world.connection).wish("paused", "pause")
    world.clock.advance(1000 * DAY_S)
    world.prune(runs=0, log_bytes=0)
    assert world.left() == ["paused"]
    (run,) = History(world.connection, lambda run_id: is_run_locked(world.state, run_id)).list_runs()
    assert (run.outcome, run.wish) == ("paused", "pause")
    os.close(lock)


def test_prune_takes_a_backfill_that_was_killed_while_it_was_paused_as_any_other(world: World) -> None:
    world.run("killed", ends=False)
    assert Ledger(world.connection).wish("killed", "pause")
    world.clock.advance(91 * DAY_S)
    world.prune()
    assert world.left() == []


def test_prune_measures_the_logs_of_a_killed_run_once(world: World) -> None:
    world.run("killed", size=1000, ends=False)
    world.run("next", size=10)
    world.prune()
    sizes = dict(world.connection.execute("SELECT run_id, log_bytes FROM runs").fetchall())
    assert sizes == {"killed": 1000, "next": 10}
    world.prune(log_bytes=500)
    assert world.left() == ["next"]


def test_prune_killed_between_files_and_rows_is_finished_by_the_next(world: World) -> None:
    world.run("a", size=100)
    world.run("b", size=100)
    rmtree(world.folder / "logs" / "a")
    world.prune(log_bytes=150)
    assert world.left() == ["b"]


def test_prune_that_cannot_measure_a_run_records_no_size_and_does_the_rest(world: World) -> None:
    world.run("killed", ends=False)
    world.run("old", size=1000)
    world.run("new")
    rmtree(world.folder / "logs" / "killed")
    (world.folder / "logs" / "killed").touch()  # cannot be listed, by root neither
    with pytest.raises(HostError) as caught:
        world.prune(log_bytes=500)
    path = f"{world.folder}/logs/killed"
    assert caught.value.message == f"the logs of an earlier run cannot be measured or removed: {path}: Not a directory"
    assert path in caught.value.hint
    assert world.left() == ["killed", "new"]
    assert world.connection.execute("SELECT log_bytes FROM runs").fetchall() == [(None,), (10,)]


@pytest.mark.box
def test_prune_that_cannot_remove_the_logs_of_runs_keeps_their_rows_and_does_the_rest(in_namespace: Runner) -> None:
    def attempt() -> None:
        with open_world(Path.cwd()) as world:
            for run_id in ("a", "b", "c", "d"):
                world.run(run_id)
            for run_id in ("a", "b"):
                mounts.attach(tmpfs(size_bytes=1 << 20), f"{world.folder}/logs/{run_id}")
            with pytest.raises(HostError, match=r"logs of 2 earlier runs .*/logs/a: Device or resource busy"):
                world.prune(runs=1)
            assert world.left() == ["a", "b", "d"]
            for run_id in ("a", "b"):
                mounts.umount2(f"{world.folder}/logs/{run_id}", 0)
            world.prune(runs=1)
            assert world.left() == ["d"]

    in_namespace(attempt)


def test_prune_without_a_folder_of_logs_says_what_is_wrong(world: World) -> None:
    (world.folder / "logs").rmdir()
    with pytest.raises(HostError, match=f"old history cannot be tidied: .*{world.folder}/logs"):
        world.prune()


def test_prune_takes_what_no_run_is_known_of_only_if_it_is_an_old_folder_of_a_run(world: World) -> None:
    logs = world.folder / "logs"
    old, young, file, link = (make_run_id(number) for number in range(4))
    for name in (old, young, "my-run", f"{old}.bak"):
        (logs / name).mkdir()
    for name in (file, "my-notes.txt"):
        (logs / name).touch()
    (logs / link).symlink_to("my-run")
    for path in logs.iterdir():
        changed_s = world.clock.wall_s() - (89 if path.name == young else 91) * DAY_S
        os.utime(path, (changed_s, changed_s), follow_symlinks=False)
    world.prune()
    assert {path.name for path in logs.iterdir()} == {young, file, link, "my-run", f"{old}.bak", "my-notes.txt"}


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
