"""Publishing and recovery on the file systems people have: ext4, XFS and btrfs in files (as root, who alone may mount
them), tmpfs, bind mounts of one file system, btrfs subvolumes.

Everything is mounted in a namespace of the test's own child, so nothing has to be taken away again.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from crash.disks import DISKS, mount_disk, mount_projects
from crash.tracer import kill_at, observe
from crash.world import NEW, OLD, World
from jubako.boxes.spec import Output
from jubako.boxes.transactions.publish import Move, Published, Publisher, Transaction, take_signature
from jubako.boxes.transactions.stage import StageArea
from jubako.kernel.mounts import MS_BIND, mount
from jubako.kernel.syscall_numbers import find_number

SEED = 3
# Who can have which: everybody a tmpfs in a namespace of their own, root the others.
CASES = [("tmpfs", "rootless")]
if os.geteuid() == 0:
    CASES += [("tmpfs", "root"), *((kind, "root") for kind in DISKS)]
every_kind = pytest.mark.parametrize(("kind", "in_namespace"), CASES, indirect=["in_namespace"])


def on_every_layout(kind: str, check: Callable[[World], object]) -> Callable[[], None]:
    """Runs `check` with state and outputs on one disk, and with the state elsewhere (hidden folder on the disk); on XFS
    also with the outputs in another project (copied beside them)."""

    def act() -> None:
        if kind == "xfs":
            plain, project = mount_projects()
            check(World(plain / "state", project / "outputs", durability="full", tried_first=plain))
            disk = plain.parent
        else:
            disk = mount_disk(kind)
        check(World(disk / "state", disk / "outputs", durability="full"))
        check(World(Path.cwd() / "elsewhere", disk / "outputs", durability="full"))

    return act


def check_published(world: World) -> None:
    world.make()
    world.publish()
    assert world.seen() == NEW
    assert world.leftovers() == []


@every_kind
def test_transaction_is_published_and_leaves_nothing(in_namespace, kind):
    in_namespace(on_every_layout(kind, check_published))


def check_kills(moments: int) -> Callable[[World], None]:
    def check(world: World) -> None:
        choose = random.Random(SEED)
        world.make()
        numbers: list[int] = []
        observe(world.publish, lambda call: numbers.append(call.number), lambda call: None)
        renames = [at for at, number in enumerate(numbers) if number == find_number("renameat2", os.uname().machine)]
        for moment in choose.sample(range(renames[0], renames[-1] + 10), moments):
            world.make()
            assert kill_at(world.publish, moment).killed
            if moment % 2:
                kill_at(world.recover, choose.randrange(150))
            world.recover()
            assert world.seen() in (OLD, NEW), moment
            assert world.leftovers() == [], moment

    return check


@every_kind
@pytest.mark.parametrize("moments", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_run_killed_is_old_or_new_after_recovery(in_namespace, kind, moments):
    in_namespace(on_every_layout(kind, check_kills(moments)))


def publish_directory(world: World, name: str) -> tuple[int, int]:
    """Publishes a directory; its modification time when it was staged, and when it was published."""
    world.make()
    state, journal = world.open()
    with StageArea(state, "run", journal) as area:
        world.make_trial(area)
        target = str(world.outputs / name)
        (output,) = area.stage("attempt", [Output(target, "directory")])
        Path(output.staged, "leaf").write_text("new")
        os.utime(output.staged, ns=(1, 1_000_000_007))
        staged_ns = os.stat(output.staged).st_mtime_ns
        move = Move(output.staged, target, take_signature(target))
        (outcome,) = Publisher(journal, world.durability).publish([Transaction("attempt", "Task", (move,))])
        assert outcome == Published("attempt")
    journal.connection.close()
    return staged_ns, os.stat(target).st_mtime_ns


@every_kind
def test_published_directory_keeps_its_modification_time(in_namespace, kind):
    def check(world: World) -> None:
        for name in ("tree", "new tree"):
            staged_ns, published_ns = publish_directory(world, name)
            assert published_ns == staged_ns

    in_namespace(on_every_layout(kind, check))


def test_outputs_in_a_bind_mount_of_the_same_file_system_are_published(in_namespace):
    def act() -> None:
        here = Path.cwd()
        (here / "real").mkdir()
        (here / "bound").mkdir()
        mount("real", "bound", flags=MS_BIND)
        check_published(World(here / "state", here / "bound" / "outputs"))
        assert not (here / "real" / ".jubako-stage").exists()

    in_namespace(act)


@every_kind
def test_outputs_in_a_subvolume_are_staged_within_it(in_namespace, kind):
    """Only btrfs has subvolumes; a directory, elsewhere, is no reason for a hidden folder."""

    def act() -> None:
        disk = mount_disk(kind)
        make = ["btrfs", "subvolume", "create"] if kind == "btrfs" else ["mkdir"]
        subprocess.run([*make, str(disk / "sub")], check=True, capture_output=True)
        world = World(disk / "state", disk / "sub" / "outputs")
        world.make()
        state, journal = world.open()
        with StageArea(state, "run", journal) as area:
            (output,) = area.stage("attempt", [Output(str(world.outputs / "replaced"))])
            folder = f"{world.outputs}/.jubako-stage" if kind == "btrfs" else state.stage_path
            assert output.staged.startswith(f"{folder}/run/")
        journal.connection.close()
        check_published(world)

    in_namespace(act)
