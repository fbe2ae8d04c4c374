"""Moves that the kernel refuses although a trial of the mount worked: between projects, and of an overlay's lower
directories."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from crash.disks import PROJECT, mount_projects
from crash.tracer import Call, observe
from crash.world import NEW, OLD, World
from jubako.boxes.spec import Output
from jubako.boxes.transactions.publish import Move, Published, Publisher, Transaction, take_signature
from jubako.boxes.transactions.stage import StageArea
from jubako.errors import ConflictError, HostError
from jubako.kernel.filesystems import make_filesystem
from jubako.kernel.mounts import MS_BIND, attach, mount
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.kernel.syscall_numbers import find_number

Result = TypeVar("Result")
MACHINE = os.uname().machine
SYNCFS, RENAMEAT2 = (find_number(name, MACHINE) for name in ("syncfs", "renameat2"))


def needs_disk(test: Callable[..., None]) -> Callable[..., None]:
    """For root alone, who may mount a disk."""
    in_root = pytest.mark.parametrize("in_namespace", ["root"], indirect=True)(test)
    return pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")(in_root)


def on_projects(check: Callable[[World], Result]) -> Callable[[], Result]:
    def act() -> Result:
        plain, project = mount_projects()
        world = World(plain / "state", project / "outputs", "full", tried_first=plain)
        world.make()
        return check(world)

    return act


def publish(world: World, change: Callable[[], object], *, planned: bool = True) -> object:
    """The outcome of the world's transaction, where `change` happens after it was planned (else, after it was staged)
    and before its renames."""
    state, journal = world.open()
    with StageArea(state, "run", journal) as area:
        world.make_trial(area)
        transaction = world.stage(area)
        if not planned:
            change()
        publisher = Publisher(journal, world.durability)
        (outcome,) = publisher.publish([transaction], guard=lambda *_: planned and change())
    journal.connection.close()
    return outcome


def set_project(path: Path, project: int) -> None:
    subprocess.run(["chattr", "-p", str(project), str(path)], check=True)


def read_project(path: Path) -> int:
    said = subprocess.run(["lsattr", "-pd", str(path)], check=True, capture_output=True, text=True)
    return int(said.stdout.split()[0])


# --- another mount, another project ----------------------------------------------------------------------------------


def test_mount_put_over_the_outputs_meanwhile_gets_copies_of_all_that_was_staged(in_namespace):
    """The same directory through another mount: everything is as expected, and no rename leads there."""

    def act() -> None:
        world = World(Path.cwd() / "state", Path.cwd() / "outputs")
        world.make()
        outcome = publish(world, lambda: mount("outputs", "outputs", flags=MS_BIND))
        assert outcome == Published("attempt")
        assert world.seen() == NEW
        assert world.leftovers() == []

    in_namespace(act)


def test_copy_that_finds_no_room_is_refused_and_leaves_everything_as_it_was(in_namespace):
    def act() -> str:
        world = World(Path.cwd() / "state", Path.cwd() / "outputs")
        world.make()
        (world.outputs / "sub").mkdir()
        small = make_filesystem("tmpfs", {"nr_inodes": "3"})
        outcome = publish(world, lambda: attach(small, "outputs/sub"), planned=False)
        assert isinstance(outcome, HostError)
        assert world.seen() == {**OLD, "sub": "(empty)"}
        assert world.leftovers() == []
        return outcome.message

    assert "No space left on device" in in_namespace(act)


@needs_disk
def test_outputs_of_another_project_get_its_id_and_keep_all_that_belongs_to_them(in_namespace):
    def check(world: World) -> None:
        state, journal = world.open()
        with StageArea(state, "run", journal) as area:
            world.make_trial(area)
            target = world.outputs / "tree"
            (output,) = area.stage("attempt", [Output(str(target), "directory")])
            leaf, link = Path(output.staged, "leaf"), Path(output.staged, "link")
            leaf.write_bytes(b"x")
            os.truncate(leaf, 1 << 20)
            os.setxattr(leaf, "user.note", b"kept")
            os.chown(leaf, 12, 34)
            os.chmod(leaf, 0o640)
            os.utime(leaf, ns=(1, 1_000_000_001))
            os.link(leaf, Path(output.staged, "same"))
            link.symlink_to("leaf")
            move = Move(output.staged, str(target), take_signature(str(target)))
            assert Publisher(journal, "full").publish([Transaction("attempt", "Task", (move,))]) == [
                Published("attempt")
            ]
        journal.connection.close()
        found = (target / "leaf").stat()
        assert (target / "leaf").read_bytes() == b"x" + bytes((1 << 20) - 1)
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_mtime_ns) == (0o640, 12, 34, 1_000_000_001)
        assert found.st_blocks * 512 < 1 << 20
        assert os.getxattr(target / "leaf", "user.note") == b"kept"
        assert os.path.samefile(target / "leaf", target / "same")
        assert os.readlink(target / "link") == "leaf"
        assert {read_project(target), read_project(target / "leaf")} == {PROJECT}
        assert world.leftovers() == []

    in_namespace(on_projects(check))


@needs_disk
def test_conflict_after_copies_were_published_takes_them_back(in_namespace):
    def check(world: World) -> None:
        outcome = publish(world, lambda: (world.outputs / "mark").write_text("theirs"))
        assert isinstance(outcome, ConflictError)
        assert world.seen() == {**OLD, "mark": "theirs"}
        assert world.leftovers() == []

    in_namespace(on_projects(check))


@needs_disk
def test_file_of_a_third_project_that_was_deleted_comes_back_as_a_copy(in_namespace):
    def check(world: World) -> None:
        deleted = world.outputs / "deleted"
        deleted.chmod(0o604)
        set_project(deleted, PROJECT + 1)
        outcome = publish(world, lambda: (world.outputs / "mark").write_text("theirs"))
        assert isinstance(outcome, ConflictError)
        assert world.seen() == {**OLD, "mark": "theirs"}
        assert deleted.stat().st_mode & 0o777 == 0o604
        assert world.leftovers() == []

    in_namespace(on_projects(check))


@needs_disk
def test_every_copy_is_on_the_disk_before_it_is_renamed(in_namespace):
    def check(world: World) -> None:
        calls: list[Call] = []
        observe(world.publish, lambda call: None, calls.append)
        renames = [at for at, call in enumerate(calls) if call.number == RENAMEAT2]
        refused = [at for at in renames if calls[at].returned == -errno.EXDEV]
        assert len(refused) == 4  # all but the deletion
        for at in refused:
            after = next(later for later in renames if later > at)
            assert [call.returned for call in calls[at:after] if call.number == SYNCFS] == [0]

    in_namespace(on_projects(check))


@needs_disk
def test_renames_that_work_cost_no_call_more_and_make_no_hidden_folder(in_namespace):
    def check(world: World) -> None:
        same_project = World(world.tried_first / "state", world.tried_first / "outputs")
        same_project.make()
        calls: list[Call] = []
        observe(same_project.publish, lambda call: None, calls.append)
        trial, moves = 2, 5
        assert sum(call.number == RENAMEAT2 for call in calls) == trial + moves
        assert not list(world.tried_first.rglob(".jubako-stage"))

    in_namespace(on_projects(check))


# --- directories of a lower layer ------------------------------------------------------------------------------------


def mount_layers() -> World:
    """A world whose folder is an overlay, the directory `tree` from its lower layer; the state is elsewhere."""
    here = Path.cwd()
    for name in ("lower/outputs/tree", "upper", "work", "merged"):
        (here / name).mkdir(parents=True)
    (here / "lower/outputs/tree/a").write_text("old a")
    layers = Overlay((str(here / "lower"),), str(here / "upper"), str(here / "work"), userxattr=os.geteuid() != 0)
    mount_overlay(layers, str(here / "merged"))
    return World(here / "state", here / "merged/outputs")


@pytest.mark.box
def test_directory_of_a_lower_layer_is_refused_before_the_task_runs_until_it_is_made_anew(in_namespace):
    def act() -> tuple[str, str]:
        world = mount_layers()
        state, journal = world.open()
        tree = world.outputs / "tree"
        with StageArea(state, "run", journal) as area:
            with pytest.raises(HostError) as raised:
                area.stage("attempt", [Output(str(tree), "directory")])
            assert os.listdir(tree) == ["a"]
            script = raised.value.hint.partition("(")[2].partition(")")[0]
            subprocess.run(["sh", "-ec", script], check=True)
            (output,) = area.stage("again", [Output(str(tree), "directory")])
            Path(output.staged, "b").write_text("new")
            move = Move(output.staged, str(tree), take_signature(str(tree)))
            assert Publisher(journal, "relaxed").publish([Transaction("again", "Task", (move,))]) == [
                Published("again")
            ]
        journal.connection.close()
        assert world.seen() == {"tree/b": "new"}
        assert world.leftovers() == []
        return raised.value.message, str(tree)

    message, tree = in_namespace(act)
    assert message.startswith(f"the directory {tree} cannot be replaced: ")
    assert "lower layer of an overlay" in message


@pytest.mark.box
def test_deletion_of_a_directory_of_a_lower_layer_takes_its_transaction_back(in_namespace):
    def act() -> str:
        world = mount_layers()
        state, journal = world.open()
        tree = str(world.outputs / "tree")
        with StageArea(state, "run", journal) as area:
            (output,) = area.stage("attempt", [Output(str(world.outputs / "new"))])
            Path(output.staged).write_text("new")
            moves = (Move(output.staged, output.path, None), Move(None, tree, take_signature(tree)))
            (outcome,) = Publisher(journal, "relaxed").publish([Transaction("attempt", "Task", moves)])
        journal.connection.close()
        assert isinstance(outcome, HostError)
        assert world.seen() == {"tree/a": "old a"}
        assert world.leftovers() == []
        return outcome.message

    assert "lower layer of an overlay" in in_namespace(act)
