"""Power cuts, simulated: the disk operations of a real publish are recorded, and replayed without what no sync covered.

From every tree that a power cut may leave, recovery must give the outputs of before or those of after; and once the
publisher has said "published" under `full`, only those of after. The same proof must fail when any of the syncs is
taken out of the record, or it would prove nothing.

A replayed tree has new inode numbers, so those in the journal are put right before recovering, as if the disk had kept
them; that is why the world has no directory output here, whose signature is a digest of such numbers.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from crash.disk import Disk, Mark, Operation, Sync, Tree, Truncate, Write, read_tree, record
from crash.world import NEW, OLD, World

SEED = 1
MARK_FD = 700


@pytest.fixture
def root():
    path = Path(f"/dev/shm/jubako-power-{os.getpid()}")
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def world(root):
    return World(root / "state", root / "outputs", durability="full", file_outputs_only=True)


@pytest.fixture
def disk(root, world):
    """The record of one run, checked: all of it together gives what is there."""
    world.make()
    read_end, write_end = os.pipe()
    os.dup2(write_end, MARK_FD)
    os.close(write_end)
    try:
        disk = record(lambda: world.publish(MARK_FD), root, MARK_FD)
    finally:
        os.close(MARK_FD)
        os.close(read_end)
    replayed = root.parent / f"{root.name}-replayed"
    replayed.mkdir()
    try:
        disk.crash(len(disk.operations), lambda operation: operation).build(replayed)
        assert read_tree(replayed) == read_tree(root)
    finally:
        shutil.rmtree(replayed)
    return disk


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


def rebuild(root: Path, disk: Disk, tree: Tree, world: World) -> None:
    """Makes the tree at `root`, files with their old modification times, and the journal's inode numbers right."""
    for path in root.iterdir():
        shutil.rmtree(path)
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
    if "state" not in {path.name for path in root.iterdir()}:
        return
    _, journal = world.open()
    for number, text in journal.connection.execute("SELECT number, moves FROM journal").fetchall():
        moves = json.loads(text)
        for move in moves:
            move["folder_inode"] = inodes.get(move["folder_inode"], 0)
            for signature in (move["content"], move["expected"]):
                if signature is not None:
                    signature[1] = inodes.get(signature[1], 0)
        journal.connection.execute("UPDATE journal SET moves = ? WHERE number = ?", (json.dumps(moves), number))
    journal.connection.close()


def find_violations(root: Path, world: World, disk: Disk, cuts: int, most: int) -> tuple[list[str], set[str]]:
    """Cuts the power `cuts` times; what went wrong (no more than `most`), and what was found after recovering."""
    choose = random.Random(SEED)
    violations: list[str] = []
    found = set()
    for _ in range(cuts):
        length = choose.randrange(len(disk.operations) + 1)
        tree = disk.crash(length, choose_randomly(choose))
        rebuild(root, disk, tree, world)
        report = world.recover()
        seen = world.seen()
        acknowledged = any(isinstance(operation, Mark) for operation in disk.operations[:length])
        if seen not in (world.expected(OLD), world.expected(NEW)):
            violations.append(f"after {length} operations: {seen}")
        elif acknowledged and seen != world.expected(NEW):
            violations.append(f"after {length} operations: acknowledged, and gone")
        elif report.needs_person or world.leftovers():
            violations.append(f"after {length} operations: {report.needs_person} {world.leftovers()}")
        found.add("new" if seen == world.expected(NEW) else "old")
        if len(violations) >= most:
            break
    return violations, found


def test_power_cut_at_sampled_moments_leaves_old_or_new(root, world, disk):
    assert find_violations(root, world, disk, 150, 1) == ([], {"old", "new"})


@pytest.mark.soak
def test_power_cut_at_many_moments_leaves_old_or_new(root, world, disk):
    assert find_violations(root, world, disk, 20_000, 1) == ([], {"old", "new"})


def barriers(disk: Disk) -> list[int]:
    """The syncs of the two barriers: of everything, and the database's own."""
    return [at for at, operation in enumerate(disk.operations) if isinstance(operation, Sync)]


def test_proof_fails_without_the_first_barrier(root, world, disk):
    first = next(at for at in barriers(disk) if disk.operations[at] == Sync(None))
    disk.operations[first] = Truncate(-1, 0)
    violations, _ = find_violations(root, world, disk, 1000, 1)
    assert violations


def test_proof_fails_without_the_second_barrier(root, world, disk):
    last = [at for at in barriers(disk) if disk.operations[at] == Sync(None)][1]
    disk.operations[last] = Truncate(-1, 0)
    violations, _ = find_violations(root, world, disk, 1000, 1)
    assert violations


def test_proof_fails_without_the_journals_own_syncs(root, world, disk):
    disk.operations = [
        Truncate(-1, 0) if isinstance(operation, Sync) and operation.node is not None else operation
        for operation in disk.operations
    ]
    violations, _ = find_violations(root, world, disk, 1000, 1)
    assert violations
