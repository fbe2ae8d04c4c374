"""SIGKILL at every system call of a run that publishes, and at every system call of the recovery after that.

Whatever is left, recovering (twice, and once after a recovery that was killed too) gives the outputs of before or those
of after, all of them, and nothing else: no staged file, no hidden folder, no row. `make test` takes a seeded sample of
the moments, `make soak` all of them; the killed recoveries start from every state of the disk that differs from others.
The outputs lie on the mount of the state, on another one, or in another project, where all that is staged is copied; or
they come from a box.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from crash.disks import mount_projects
from crash.tracer import count_calls, kill_at, observe
from crash.world import NEW, OLD, World
from jubako.kernel.syscall_numbers import find_number

PLACES = ["same mount", "another mount", "a box"]
SEED = 20100101


@pytest.fixture(params=PLACES)
def world(request, tmp_path, shared_memory):
    """Staged below the state root, or (state in memory, outputs on the disk) in a hidden folder beside the outputs, or
    renamed right from a box."""
    outputs = tmp_path if request.param == "another mount" else shared_memory
    return World(shared_memory / "state", outputs / "outputs", from_box=request.param == "a box")


@pytest.fixture
def shared_memory():
    path = Path(f"/dev/shm/jubako-kill-{os.getpid()}")
    path.mkdir()
    yield path
    shutil.rmtree(path)


def kill_publishing(world: World, number: int) -> bool:
    """Kills a run at its call `number`, checks what may be seen at once, and says if it had acknowledged."""
    world.make()
    read_end, write_end = os.pipe()
    try:
        ended = kill_at(lambda: world.publish(write_end), number)
        os.close(write_end)
        acknowledged = os.read(read_end, 1) == b"!"
    finally:
        os.close(read_end)
    # One run makes a few calls more or less than another, so at the very end there may be nothing left to kill.
    assert ended.killed or (ended.status == 0 and acknowledged)
    return acknowledged


def check_recovered(world: World, acknowledged: bool, moment: str) -> None:
    seen = world.seen()
    assert seen in (world.expected(OLD), world.expected(NEW)), moment
    if acknowledged:
        assert seen == world.expected(NEW), moment
    report = world.recover()
    assert (report.rolled_forward, report.rolled_back, report.needs_person, report.swept) == ((), (), (), ()), moment
    assert world.leftovers() == [], moment
    assert world.seen() == seen, moment


def check_mix(world: World) -> None:
    """Between a crash and recovery a mix may be seen, but each output is old or new, and the mark comes last."""
    seen = world.seen()
    for name in ("replaced", "tree/a"):
        assert seen[name] in (OLD[name], NEW[name])
    if "mark" in seen:
        assert seen == world.expected(NEW)


def state_of_disk(world: World) -> str:
    """What a recovery would find, without what differs from time to time."""
    _, journal = world.open()
    rows = journal.connection.execute("SELECT state, reason FROM journal").fetchall()
    places = journal.connection.execute("SELECT count(*) FROM places").fetchall()
    journal.connection.close()
    staged = sorted(str(path) for path in (world.state_path / "stage").rglob("*"))
    return repr((sorted(world.seen().items()), rows, places, staged))


def kill_everywhere(world: World, moments: Iterable[int]) -> dict[str, int]:
    """Kills runs at these moments; one moment for each state of the disk that was found."""
    states: dict[str, int] = {}
    for number in moments:
        acknowledged = kill_publishing(world, number)
        check_mix(world)
        states.setdefault(state_of_disk(world), number)
        world.recover()
        check_recovered(world, acknowledged, f"killed at call {number}")
    return states


def kill_recoveries(world: World, moment: int, choose: random.Random | None, most: int) -> int:
    """Kills the recovery of a run killed at `moment`, at all its calls or at `most` chosen ones."""
    kill_publishing(world, moment)
    calls = range(count_calls(world.recover))
    chosen = calls if choose is None else choose.sample(calls, min(most, len(calls)))
    for number in chosen:
        acknowledged = kill_publishing(world, moment)
        ended = kill_at(world.recover, number)
        assert ended.killed or ended.status == 0
        check_mix(world)
        world.recover()
        check_recovered(world, acknowledged, f"killed at call {moment}, its recovery at call {number}")
    return len(chosen)


def count_publishing(world: World) -> int:
    world.make()
    calls = count_calls(world.publish)
    assert world.seen() == world.expected(NEW)
    assert world.leftovers() == []
    return calls


def find_renames(world: World) -> range:
    """The calls from the first rename of a run to its last, where there is the most to go wrong."""
    numbers: list[int] = []
    world.make()
    observe(world.publish, lambda call: numbers.append(call.number), lambda call: None)
    renames = [at for at, number in enumerate(numbers) if number == find_number("renameat2", os.uname().machine)]
    return range(renames[0], renames[-1] + 5)


def check_sampled_calls(world: World, moments: int = 20) -> None:
    choose = random.Random(SEED)
    everywhere = range(count_publishing(world))
    states = kill_everywhere(world, {*choose.sample(everywhere, moments), *choose.sample(find_renames(world), moments)})
    assert len(states) > 5
    for moment in choose.sample(sorted(states.values()), 4):
        assert kill_recoveries(world, moment, choose, 4) == 4


def check_every_call(world: World) -> None:
    states = kill_everywhere(world, range(count_publishing(world)))
    assert len(states) > 15
    assert sum(kill_recoveries(world, moment, None, 0) for moment in states.values()) > 1000


CHECKS = [check_sampled_calls, pytest.param(check_every_call, marks=pytest.mark.soak)]


@pytest.mark.parametrize("check", CHECKS)
def test_run_and_recovery_killed_at_calls_are_old_or_new_after_recovery(world, check):
    check(world)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@pytest.mark.parametrize("in_namespace", ["root"], indirect=True)
@pytest.mark.parametrize("check", [partial(check_sampled_calls, moments=10), CHECKS[1]])
def test_run_and_recovery_killed_while_copying_beside_are_old_or_new_after_recovery(in_namespace, check):
    def act() -> None:
        plain, project = mount_projects()
        check(World(plain / "state", project / "outputs", tried_first=plain))

    in_namespace(act)
