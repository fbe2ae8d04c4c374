"""Recovery decides from what it finds, so the tests make what it may find: a run is killed at a certain rename, then
the world is changed by hand, then recovery runs."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from crash.tracer import kill_at, observe
from crash.world import NEW, OLD, World
from jubako.boxes.transactions.journal import EntryState
from jubako.boxes.transactions.move import Progress
from jubako.boxes.transactions.recovery import Recovered, Way, plan_recovery, recover
from jubako.boxes.transactions.stage import StageArea
from jubako.kernel.syscall_numbers import find_number

RENAMEAT2 = find_number("renameat2", os.uname().machine)
# The moves of the world's run, each one rename; those before them are the trial of the mount.
TREE, DELETED, NEW_FILE, REPLACED, MARK = range(5)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "state", tmp_path / "outputs")


def kill_before(world: World, move: int) -> None:
    """A run killed when it is about to carry out its move of that number."""
    world.make()
    numbers: list[int] = []
    observe(world.publish, lambda call: numbers.append(call.number), lambda call: None)
    renames = [at for at, number in enumerate(numbers) if number == RENAMEAT2][-5:]
    world.make()
    assert kill_at(world.publish, renames[move]).killed


def staged(world: World, number: int) -> Path:
    return world.state_path / "stage" / "run" / "attempt" / str(number)


# --- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", list(itertools.product(Progress, Progress)))
def test_way_of_every_pair_of_moves_follows_from_the_table(progress):
    found = set(progress)
    if found & {Progress.LOST, Progress.WRONG}:
        expected = Way.BACK
    elif found <= {Progress.BEFORE, Progress.DONE}:
        expected = Way.FORWARD
    else:
        expected = Way.WAIT
    assert plan_recovery(EntryState.FORWARD, progress) is expected
    assert plan_recovery(EntryState.BACK, progress) is Way.BACK


# --- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("move", range(5))
def test_run_killed_between_moves_is_rolled_forward_and_swept(world, move):
    kill_before(world, move)
    report = world.recover()
    assert world.seen() == NEW
    assert world.leftovers() == []
    (recovered,) = report.rolled_forward
    assert (recovered.run_id, recovered.id, recovered.label) == ("run", "attempt", "Task(x=1)")
    assert [os.path.basename(path) for path in recovered.targets] == ["tree", "deleted", "new", "replaced", "mark"]
    assert (report.rolled_back, report.needs_person, report.swept) == ((), (), ("run",))


def test_rolled_forward_files_keep_what_was_edited_since(world):
    kill_before(world, MARK)
    (world.outputs / "replaced").write_text("new file, edited")
    world.recover()
    assert world.seen() == NEW | {"replaced": "new file, edited"}


def test_record_is_called_where_the_row_is_closed(world):
    kill_before(world, MARK)
    seen = []

    def record(connection: sqlite3.Connection, recovered: Recovered, published: bool) -> None:
        seen.append((connection.in_transaction, recovered.id, published))

    state, journal = world.open()
    recover(journal, state, record=record)
    recover(journal, state, record=record)
    journal.connection.close()
    assert seen == [(True, "attempt", True)]


def test_failing_record_leaves_everything_to_the_next_recovery(world):
    kill_before(world, MARK)

    def record(connection: sqlite3.Connection, recovered: Recovered, published: bool) -> None:
        raise KeyboardInterrupt

    state, journal = world.open()
    with pytest.raises(KeyboardInterrupt):
        recover(journal, state, record=record)
    journal.connection.close()
    assert len(world.recover().rolled_forward) == 1
    assert world.seen() == NEW


# --- somebody else was there -----------------------------------------------------------------------------------------


def test_target_changed_before_its_move_waits_and_says_what_to_do(world):
    kill_before(world, REPLACED)
    (world.outputs / "replaced").write_text("somebody's")
    for _ in range(2):
        report = world.recover()
        (waiting,) = report.needs_person
        assert f"{world.outputs}/replaced was changed by another program" in waiting.words
        assert f"move {staged(world, 2)} over it" in waiting.words
        assert f"remove {staged(world, 2)}" in waiting.words
        assert (world.outputs / "replaced").read_text() == "somebody's"
        assert staged(world, 2).read_text() == NEW["replaced"]
        assert "mark" not in world.seen()


def test_person_publishes_by_moving_the_staged_file_over_the_target(world):
    kill_before(world, REPLACED)
    (world.outputs / "replaced").write_text("somebody's")
    world.recover()
    os.rename(staged(world, 2), world.outputs / "replaced")
    assert len(world.recover().rolled_forward) == 1
    assert world.seen() == NEW
    assert world.leftovers() == []


def test_person_gives_up_by_removing_the_staged_file(world):
    kill_before(world, REPLACED)
    (world.outputs / "replaced").write_text("somebody's")
    world.recover()
    staged(world, 2).unlink()
    (back,) = world.recover().rolled_back
    assert "is gone" in back.words
    assert world.seen() == OLD | {"replaced": "somebody's"}
    assert world.leftovers() == []


def test_published_file_replaced_by_somebody_waits_and_is_kept_either_way(world):
    kill_before(world, MARK)
    (world.outputs / "theirs").write_text("somebody's")
    os.rename(world.outputs / "theirs", world.outputs / "replaced")
    (waiting,) = world.recover().needs_person
    assert f"remove the old version at {staged(world, 2)}" in waiting.words
    staged(world, 2).unlink()
    assert len(world.recover().rolled_back) == 1
    assert world.seen() == OLD | {"replaced": "somebody's"}
    assert world.leftovers() == []


def test_deleted_file_made_again_by_somebody_stays_and_the_rest_goes_forward(world):
    kill_before(world, DELETED)
    (world.outputs / "theirs").write_text("somebody's")
    os.rename(world.outputs / "theirs", world.outputs / "deleted")
    assert len(world.recover().rolled_forward) == 1
    assert world.seen() == NEW | {"deleted": "somebody's"}


@pytest.mark.parametrize("gone", ["tree", "replaced"])
def test_exchange_with_somebody_elses_version_is_taken_back_whole(world, gone):
    """Killed after the exchange and before looking at what came out: simulated by changing what came out."""
    kill_before(world, MARK)
    aside = staged(world, 0 if gone == "tree" else 2)
    if gone == "tree":
        shutil.rmtree(aside)
        aside.mkdir()
        (aside / "theirs").write_text("somebody's")
    else:
        aside.write_text("somebody's, longer than before")
    (back,) = world.recover().rolled_back
    assert "at the moment of publishing" in back.words
    seen = world.seen()
    if gone == "tree":
        expected = {name: text for name, text in OLD.items() if not name.startswith("tree")}
        assert seen == expected | {"tree/theirs": "somebody's"}
    else:
        assert seen == OLD | {"replaced": "somebody's, longer than before"}
    assert world.leftovers() == []


def test_folder_that_is_another_one_now_waits_and_touches_nothing(world):
    kill_before(world, REPLACED)
    os.rename(world.outputs, world.outputs.parent / "moved")
    world.outputs.mkdir()
    (waiting,) = world.recover().needs_person
    assert "is its file system mounted?" in waiting.words
    assert list(world.outputs.iterdir()) == []
    world.outputs.rmdir()
    os.rename(world.outputs.parent / "moved", world.outputs)
    assert len(world.recover().rolled_forward) == 1
    assert world.seen() == NEW


# --- back ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("move", range(5))
def test_transaction_turned_back_is_undone_from_any_point(world, move):
    kill_before(world, move)
    _, journal = world.open()
    journal.turn_back("run", "attempt", "a reason")
    journal.connection.close()
    (back,) = world.recover().rolled_back
    assert back.words == "a reason"
    assert world.seen() == OLD
    assert world.leftovers() == []


def test_data_that_taking_back_would_lose_is_kept_and_named(world):
    kill_before(world, MARK)
    _, journal = world.open()
    journal.turn_back("run", "attempt", "a reason")
    journal.connection.close()
    aside = staged(world, 2)
    aside.write_text("somebody's")  # displaced by us, and not what we expected
    (world.outputs / "theirs").write_text("somebody else's")
    os.rename(world.outputs / "theirs", world.outputs / "replaced")
    (waiting,) = world.recover().needs_person
    assert f"kept at {aside}" in waiting.words
    assert aside.read_text() == "somebody's"
    os.rename(aside, world.outputs / "theirs")
    assert len(world.recover().rolled_back) == 1
    assert world.seen() == OLD | {"replaced": "somebody else's", "theirs": "somebody's"}
    assert world.leftovers() == []


# --- several processes ------------------------------------------------------------------------------------------------


def test_living_run_is_left_alone(world):
    world.make()
    state, journal = world.open()
    with StageArea(state, "living", journal) as area:
        transaction = world.stage(area)
        assert world.recover().swept == ()
        assert all(os.path.lexists(move.staged) for move in transaction.moves if move.staged)
    journal.connection.close()


def test_many_processes_recovering_at_once_do_it_once(world, in_child):
    kill_before(world, REPLACED)
    read_end, write_end = os.pipe()
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(write_end)
                os.read(read_end, 1)  # until all are there
                os._exit(len(world.recover().rolled_forward))
            finally:
                os._exit(99)
        pids.append(pid)
    os.close(read_end)
    os.close(write_end)
    done = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert sorted(done) == [0, 0, 0, 1]
    assert world.seen() == NEW
    assert world.leftovers() == []
