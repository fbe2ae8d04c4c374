"""Power cuts, simulated: the disk operations of a real publish are recorded, and replayed without what no sync covered.

From every tree that a power cut may leave, recovery must give the outputs of before or those of after; and once the
publisher has said "published" under `full`, only those of after. The same proof must fail when any of the syncs is
taken out of the record, or it would prove nothing.

A replayed tree has new inode numbers, so those in the journal are put right before recovering, as if the disk had kept
them; that is why the world has no directory output here, whose signature is a digest of such numbers.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from crash.disk import Disk, Mark, Operation, Sync, Tree, Write, read_tree, record
from crash.world import NEW, OLD, World
from jubako.boxes.transactions.move import PlannedMove
from jubako.boxes.transactions.planned import PlannedMoves
from jubako.kernel.mounts import MS_BIND, mount
from jubako.layers.remove import remove_tree
from jubako.records import replace

SEED = 1
MARK_FD = 700
LAYOUTS = ["same mount", "another mount", "a box"]
# Who does it makes no difference here, so one is enough.
anybody = pytest.mark.parametrize("in_namespace", ["rootless"], indirect=True)


def make_world(layout: str) -> World:
    """A world in the current directory, a tmpfs; the outputs below a bind mount, or just beside the state root."""
    os.makedirs("root/state")
    os.makedirs("root/disk")
    if layout == "another mount":
        mount("root/disk", "root/disk", flags=MS_BIND)
    here = Path.cwd() / "root"
    outputs = here / "disk" / "outputs"
    return World(here / "state", outputs, durability="full", file_outputs_only=True, from_box=layout == "a box")


def record_run(world: World) -> Disk:
    """The record of one run, checked: all of it together gives what is there."""
    root = Path.cwd() / "root"
    world.make()
    _, write_end = os.pipe()
    os.dup2(write_end, MARK_FD)
    disk = record(lambda: world.publish(MARK_FD), root, MARK_FD)
    os.close(MARK_FD)
    replayed = Path.cwd() / "replayed"
    replayed.mkdir()
    disk.crash(len(disk.operations), lambda operation: operation).build(replayed)
    assert read_tree(replayed) == read_tree(root)
    return disk


def prove(
    in_namespace, layout: str, cuts: int, spoil: Callable[[Disk], None] | None = None
) -> tuple[list[str], set[str]]:
    """Cuts the power `cuts` times at seeded moments of a recorded run, of which `spoil` may take something away first;
    the first violation, and what was found after recovering."""

    def act() -> tuple[list[str], set[str]]:
        world = make_world(layout)
        disk = record_run(world)
        if spoil is not None:
            spoil(disk)
        return find_violations(world, disk, cuts)

    return in_namespace(act)


def choose_randomly(choose: random.Random):
    """What becomes of an operation no sync has covered: all of it, nothing, its length in zeros, a part."""
    chance = choose.choice([0.0, 0.3, 0.7, 1.0])

    def chooser(operation: Operation) -> Operation | None:
        if choose.random() >= chance:
            return None
        if isinstance(operation, Write):
            fate = choose.random()
            if fate < 0.2:
                return replace(operation, data=bytes(len(operation.data)))
            if fate < 0.4:
                return replace(operation, data=operation.data[: choose.randrange(len(operation.data) + 1)])
        return operation

    return chooser


def rebuild(disk: Disk, tree: Tree, world: World) -> None:
    """Makes the tree anew, files with their old modification times, and the journal's inode numbers right."""
    root = Path.cwd() / "root"
    for path in [*world.state_path.iterdir(), *world.outputs.parent.iterdir()]:
        remove_tree(str(path))
    # The shared memory beside the database is no file to be kept: SQLite makes it anew from the log.
    for folder in tree.folders.values():
        folder.pop("ledger.sqlite-shm", None)
    tree.build(root)
    inodes = {}
    for path, node in [*tree.paths().items(), ("", 0)]:
        inode, mtime_ns = disk.identity.get(node, (0, 0))
        if node in tree.files and mtime_ns:
            os.utime(root / path, ns=(mtime_ns, mtime_ns))
        inodes[inode] = os.lstat(root / path).st_ino
    _, journal = world.open()
    for number, part in journal.connection.execute("SELECT number, moves FROM journal").fetchall():
        moves = PlannedMoves(with_inodes(move, inodes) for move in PlannedMoves.read([part]))
        row = (moves.packed(0) if moves else part, number)
        journal.connection.execute("UPDATE journal SET moves = ? WHERE number = ?", row)
    journal.connection.close()


def with_inodes(move: PlannedMove, inodes: dict[int, int]) -> PlannedMove:
    content, expected = (
        each and replace(each, inode=inodes.get(each.inode, 0)) for each in (move.content, move.expected)
    )
    return replace(move, folder_inode=inodes.get(move.folder_inode, 0), content=content, expected=expected)


def find_violations(world: World, disk: Disk, cuts: int) -> tuple[list[str], set[str]]:
    """Cuts the power `cuts` times or until something goes wrong; what that was, and what was found after recovering."""
    choose = random.Random(SEED)
    found = set()
    for _ in range(cuts):
        length = choose.randrange(len(disk.operations) + 1)
        tree = disk.crash(length, choose_randomly(choose))
        rebuild(disk, tree, world)
        report = world.recover()
        seen = world.seen()
        acknowledged = any(isinstance(operation, Mark) for operation in disk.operations[:length])
        if seen not in (world.expected(OLD), world.expected(NEW)):
            return [f"after {length} operations: {seen}"], found
        if acknowledged and seen != world.expected(NEW):
            return [f"after {length} operations: acknowledged, and gone"], found
        if report.needs_person or report.not_swept or world.leftovers():
            return [f"after {length} operations: {report} {world.leftovers()}"], found
        found.add("new" if seen == world.expected(NEW) else "old")
    return [], found


def drop_sync(number: int) -> Callable[[Disk], None]:
    """Takes one of the syncs of everything out of the record: 0 is the first barrier, 1 the second."""

    def spoil(disk: Disk) -> None:
        at = [at for at, operation in enumerate(disk.operations) if operation == Sync(None)][number]
        del disk.operations[at]

    return spoil


def drop_syncs_of_files(disk: Disk) -> None:
    """Takes the database's own syncs out of the record."""
    disk.operations = [each for each in disk.operations if not isinstance(each, Sync) or each.node is None]


@anybody
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cuts", [100, pytest.param(20_000, marks=pytest.mark.soak)])
def test_power_cut_leaves_old_or_new(in_namespace, layout, cuts):
    assert prove(in_namespace, layout, cuts) == ([], {"old", "new"})


SPOILS = {"the first barrier": drop_sync(0), "the second barrier": drop_sync(1), "the database's": drop_syncs_of_files}


@anybody
@pytest.mark.parametrize("spoil", SPOILS)
def test_proof_fails_without_a_sync(in_namespace, spoil):
    violations, _ = prove(in_namespace, "same mount", 2000, SPOILS[spoil])
    assert violations


@anybody
def test_proof_fails_without_the_sync_before_what_was_displaced_into_a_box_is_forgotten(in_namespace):
    violations, _ = prove(in_namespace, "a box", 2000, drop_sync(2))
    assert "boxes/made" in violations[0]


@anybody
def test_proof_fails_without_the_sync_before_a_place_is_forgotten(in_namespace):
    violations, _ = prove(in_namespace, "another mount", 2000, drop_sync(2))
    assert violations
