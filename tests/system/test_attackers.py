"""Somebody changes what is about to be published over, between our looking and our renaming.

The attacks are made while the publishing process stands still before one of its system calls, at each of them in turn:
so every window there is gets hit. What the attacker puts in place must survive under a name that somebody is told: at
the target, or at the place the error names. The other outputs are all old or all new. The attacker itself destroys
nothing (what it finds goes to an attic), so whatever is missing in the end, we have destroyed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crash.tracer import act_at, observe
from crash.world import NEW, OLD, World
from jubako.boxes.spec import Output
from jubako.boxes.transactions.publish import Move, Published, Publisher, Transaction, take_signature
from jubako.boxes.transactions.stage import StageArea
from jubako.kernel.files import RENAME_EXCHANGE, renameat2
from jubako.kernel.syscall_numbers import find_number
from jubako.kernel.syscalls import AT_FDCWD

STARTED_FD, REPORT_FD = 700, 701  # descriptors that nothing else has, so that their calls are known among others
SEED = 7
VERSIONS = 100_000  # of the real attacker, which keeps them all
TARGETS = ["replaced", "tree", "deleted", "sub/folder/new", "mark"]


@pytest.fixture(params=["staged", "from a box"])
def world(request):
    path = Path(f"/dev/shm/jubako-attack-{os.getpid()}")
    yield World(path / "state", path / "outputs", from_box=request.param == "from a box")
    shutil.rmtree(path)


@dataclass
class Attacker:
    """Puts things in place of `target`, each with a text of its own; what was there goes to the attic."""

    world: World
    target: str
    texts: list[str] = field(default_factory=list)

    @property
    def attic(self) -> Path:
        return self.world.outputs.parent / "attic"

    def make_text(self) -> str:
        self.texts.append(f"attack {len(self.texts)} {self.target}")
        return self.texts[-1]

    def put_away(self) -> Path:
        path = self.world.outputs / self.target
        self.attic.mkdir(exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, self.attic / f"{len(self.texts)}-{len(list(self.attic.iterdir()))}")
        return path

    def put_file(self) -> None:
        self.put_away().write_text(self.make_text())

    def put_directory(self) -> None:
        path = self.put_away()
        path.mkdir()
        (path / "inside").write_text(self.make_text())

    def put_link(self) -> None:
        self.put_away().symlink_to(self.make_text())

    def edit(self) -> None:
        path = self.world.outputs / self.target
        path = path / "a" if path.is_dir() else path
        if path.exists():
            with path.open("a") as file:
                file.write(self.make_text())

    def remove(self) -> None:
        self.put_away()


ATTACKS: dict[str, Callable[[Attacker], object]] = {
    "a file": Attacker.put_file,
    "a directory": Attacker.put_directory,
    "a link": Attacker.put_link,
    "an edit": Attacker.edit,
    "nothing": Attacker.remove,
}


def publish_and_report(world: World) -> None:
    """In the child: stages, says so, publishes, reports the outcome in words."""
    state, journal = world.open()
    with StageArea(state, "run", journal) as area:
        transaction = world.stage(area)
        os.write(STARTED_FD, b"s")
        (outcome,) = Publisher(journal, "relaxed").publish([transaction])
        os.write(REPORT_FD, b"published" if isinstance(outcome, Published) else os.fsencode(str(outcome)))
        area.discard("attempt")
    journal.connection.close()


@contextlib.contextmanager
def report():
    """The pipe the child reports to; gives a function that reads it when the child has ended."""
    read_end, write_end = os.pipe()
    os.dup2(write_end, STARTED_FD)
    os.dup2(write_end, REPORT_FD)
    os.close(write_end)

    def read() -> str:
        os.close(STARTED_FD)
        os.close(REPORT_FD)
        with os.fdopen(read_end, "rb") as pipe:
            return os.fsdecode(pipe.read()[1:])

    yield read


def find_moments(world: World) -> range:
    """The system calls between staging and reporting."""
    world.make()
    first_arguments: list[int] = []
    with report() as read:
        observe(lambda: publish_and_report(world), lambda c: first_arguments.append(c.arguments[0]), lambda c: None)
        assert read() == "published"
    return range(first_arguments.index(STARTED_FD) + 1, first_arguments.index(REPORT_FD) + 1)


def find_last_rename(world: World) -> int:
    """The system call that is the last rename of an undisturbed run."""
    world.make()
    numbers: list[int] = []
    with report() as read:
        observe(lambda: publish_and_report(world), lambda call: numbers.append(call.number), lambda call: None)
        assert read() == "published"
    renameat2_number = find_number("renameat2", os.uname().machine)
    return max(at for at, number in enumerate(numbers) if number == renameat2_number)


def read_everything(top: Path) -> str:
    """Every text below `top`: contents of files and of symbolic links."""
    texts = []
    for folder, folders, files in os.walk(top):
        for name in files + folders:
            path = Path(folder, name)
            if path.is_symlink():
                texts.append(os.readlink(path))
            elif path.is_file():
                texts.append(path.read_text())
    return "\n".join(texts)


def visible(world: World, without: str) -> dict[str, str]:
    """What a user sees of the outputs that were not attacked."""
    return {name: text for name, text in world.seen().items() if not f"{name}/".startswith(f"{without}/")}


def expected(world: World, seen: dict[str, str], without: str) -> dict[str, str]:
    return {name: text for name, text in world.expected(seen).items() if not f"{name}/".startswith(f"{without}/")}


def check(world: World, attacker: Attacker, outcome: str, moment: str) -> None:
    seen = {name: text for name, text in visible(world, attacker.target).items() if text != "(empty)"}
    which = NEW if outcome == "published" else OLD
    assert seen == expected(world, which, attacker.target), f"{moment}: {outcome}"
    known = read_everything(attacker.attic) + read_everything(world.outputs)
    if outcome != "published":
        assert str(world.outputs / attacker.target) in outcome, moment
        for word in outcome.split():
            path = word.rstrip(":;,")
            if path.startswith(str(world.state_path)):
                known += read_everything(Path(path).parent)
    for text in attacker.texts:
        assert text in known, f"{moment}: {text!r} is lost; {outcome}"
    if str(world.state_path) not in outcome:
        assert world.leftovers() == [], moment


def attack(world: World, target: str, plan: dict[int, str]) -> str:
    world.make()
    shutil.rmtree(world.outputs.parent / "attic", ignore_errors=True)
    attacker = Attacker(world, target)
    actions = {moment: (lambda name=name: ATTACKS[name](attacker)) for moment, name in plan.items()}
    with report() as read:
        ended = act_at(lambda: publish_and_report(world), actions)
        outcome = read()
    assert ended.status == 0
    check(world, attacker, outcome, f"{target}: {plan}")
    return outcome


def test_target_swapped_at_sampled_calls_loses_nothing(world):
    choose = random.Random(SEED)
    moments = find_moments(world)
    outcomes = []
    for target, name in itertools.product(TARGETS, ATTACKS):
        for moment in choose.sample(moments, 3):
            outcomes.append(attack(world, target, {moment: name}))
    assert "published" in outcomes
    assert any("was changed by another program" in outcome for outcome in outcomes)


def test_target_swapped_several_times_loses_nothing(world):
    choose = random.Random(SEED)
    moments = find_moments(world)
    for target in TARGETS:
        for _ in range(8):
            attack(world, target, {moment: choose.choice([*ATTACKS]) for moment in choose.sample(moments, 3)})


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_target_swapped_at_every_call_loses_nothing(world, target):
    for moment, name in itertools.product(find_moments(world), ATTACKS):
        attack(world, target, {moment: name})


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_target_swapped_at_many_pairs_of_calls_loses_nothing(world, target):
    choose = random.Random(SEED)
    moments = find_moments(world)
    for _ in range(1500):
        some = choose.sample(moments, choose.choice([2, 2, 3, 4]))
        attack(world, target, {moment: choose.choice([*ATTACKS]) for moment in some})


def swap_folder(world: World) -> None:
    """The whole folder of outputs becomes a link to somebody's own, where everything has the same names."""
    elsewhere = world.outputs.parent / "elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    elsewhere.mkdir()
    for name in OLD:
        (elsewhere / name).parent.mkdir(exist_ok=True)
        (elsewhere / name).write_text("precious")
    os.rename(world.outputs, world.outputs.parent / "moved")
    world.outputs.symlink_to(elsewhere)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.soak)])
def test_folder_swapped_for_a_link_redirects_nothing(world, every):
    last_rename = find_last_rename(world)
    for moment in find_moments(world)[::every]:
        if world.outputs.is_symlink():
            world.outputs.unlink()
        shutil.rmtree(world.outputs.parent / "moved", ignore_errors=True)
        world.make()
        with report() as read:
            act_at(lambda: publish_and_report(world), {moment: lambda: swap_folder(world)})
            outcome = read()
        elsewhere = world.outputs.parent / "elsewhere"
        assert {path.read_text() for path in elsewhere.rglob("*") if path.is_file()} == {"precious"}
        assert {str(path.relative_to(elsewhere)) for path in elsewhere.rglob("*") if path.is_file()} == set(OLD)
        moved = World(world.state_path, world.outputs.parent / "moved")
        assert moved.seen() == (NEW if outcome == "published" else OLD), f"{moment}: {outcome}"
        assert world.leftovers() == []
        assert outcome != "published" or moment > last_rename
    assert world.outputs.is_symlink()


def exchange_until_closed(world: World, read_end: int) -> None:
    """The attacker of the race: exchanges the target for a new version, again and again, until the pipe is closed."""
    os.set_blocking(read_end, False)
    attic = world.outputs.parent / "attic"
    for number in range(VERSIONS):
        mine = attic / str(number)
        mine.write_text(f"mine {number}")
        os.link(mine, attic / f"{number}-known")
        with contextlib.suppress(OSError):
            renameat2(AT_FDCWD, mine, AT_FDCWD, world.outputs / "replaced", RENAME_EXCHANGE)
        with contextlib.suppress(BlockingIOError):
            if os.read(read_end, 1) == b"":
                return
    os.set_blocking(read_end, True)
    os.read(read_end, 1)


def publish_while_raced(world: World, publishes: int) -> tuple[set[int], list[str]]:
    """The inodes that were replaced knowingly, and the reports of what was refused."""
    target = str(world.outputs / "replaced")
    knowingly: set[int] = set()
    refusals: list[str] = []
    state, journal = world.open()
    with StageArea(state, "run", journal) as area:
        for number in range(publishes):
            (output,) = area.stage(str(number), [Output(target)])
            Path(output.staged).write_text("ours")
            expected = take_signature(target)
            assert expected is not None
            move = Move(output.staged, target, expected)
            (outcome,) = Publisher(journal, "relaxed").publish([Transaction(str(number), "Task", (move,))])
            if isinstance(outcome, Published):
                knowingly.add(expected.inode)
            else:
                refusals.append(str(outcome))
            area.discard(str(number))
    journal.connection.close()
    return knowingly, refusals


@pytest.mark.parametrize("publishes", [300, pytest.param(5_000, marks=pytest.mark.soak)])
def test_race_with_a_real_process_loses_nothing(world, publishes):
    world.make()
    (world.outputs.parent / "attic").mkdir()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        try:
            exchange_until_closed(world, read_end)
        finally:
            os._exit(0)
    os.close(read_end)
    try:
        knowingly, refusals = publish_while_raced(world, publishes)
    finally:
        os.close(write_end)
        os.waitpid(pid, 0)
    versions = [known.stat() for known in (world.outputs.parent / "attic").glob("*-known")]
    lost = [found.st_ino for found in versions if found.st_nlink == 1 and found.st_ino not in knowingly]
    assert lost == []
    assert knowingly
    assert refusals
    assert set(world.seen()) - {"replaced"} == set(OLD) - {"replaced"}
