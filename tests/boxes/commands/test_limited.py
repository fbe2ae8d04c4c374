"""Boxes with limits, for real: what eats memory, forks, fills the disk or does not end is stopped, and that is said."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jubako.boxes.commands.launch import run_in_box
from jubako.boxes.limits import Limits
from jubako.boxes.resources.groups import join_groups
from jubako.boxes.resources.plan_limits import PlannedGroup
from jubako.boxes.resources.usage import Usage
from jubako.boxes.spec import Box, Host
from jubako.boxes.state import open_state_root
from jubako.kernel.group_places import read_group_places
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.process import set_dumpable
from jubako.layers.remove import remove_tree

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk
    from tests.conftest import Runner

pytestmark = pytest.mark.box
of_root = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may have no control group to make any below")
PYTHON = "/usr/bin/python3"  # any user may execute it
MB = 1 << 20
ORDINARY_UID = 54321
SOURCE = Path(__file__).parents[3] / "src"


@dataclass(frozen=True)
class Held:
    """A box with limits that has ended."""

    status: int
    output: str
    exceeded: tuple[str, ...]
    notes: tuple[str, ...]
    usage: Usage
    as_root: bool


def run(desk: Desk, script: str, *, language: str = "sh", **limits: Any) -> Held:
    """Runs the script as the desk's user, in a box with these limits; nothing of it is left in a control group."""
    box = Box(Host(whole=True), limits=Limits(**limits))
    argv = ["/bin/sh", "-c", script] if language == "sh" else [PYTHON, "-I", "-c", script]

    def there() -> Held:
        read_end, write_end = os.pipe()
        with open(os.devnull) as null, desk.run(argv, box, stdio=(null.fileno(), write_end, write_end)) as result:
            os.close(write_end)
            with os.fdopen(read_end) as pipe:
                output = pipe.read()
            assert result.usage is not None
            found = (result.exit_status, output, result.exceeded, result.notes, result.usage, os.geteuid() == 0)
            assert not os.path.exists(os.path.join(result.directory, "groups"))
            assert groups_of(result.record.id) == []
        return Held(*found)

    return desk.do(there)


def groups_of(box_id: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/jubako-{box_id}"))


def test_command_that_eats_memory_is_stopped_and_that_is_said(desk: Desk) -> None:
    held = run(
        desk, "eaten = []\nwhile True: eaten.append(bytearray(4 << 20))", language="python", memory_bytes=64 * MB
    )
    if held.as_root:
        assert held.status == 137
        assert held.exceeded == ("the command was killed: it used more than 64 MiB of memory",)
        assert held.usage.memory_of == "box"
        assert held.usage.peak_memory_bytes is not None
        assert held.usage.peak_memory_bytes <= 64 * MB
    else:
        assert held.status == 1
        assert "MemoryError" in held.output
    assert held.notes[-2 if not held.as_root else -1].startswith("memory is limited to 64 MiB")


def test_command_that_eats_memory_with_many_processes_is_killed(desk: Desk) -> None:
    script = (
        "import os, signal\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        eaten = b'x' * (20 << 20)\n"
        "        signal.pause()\n"
        "for _ in range(8): os.wait()\n"
    )
    held = run(desk, script, language="python", memory_bytes=64 * MB, wall_s=20, grace_s=0)
    assert any("it used more than 64 MiB of memory" in sentence for sentence in held.exceeded), held
    if not held.as_root:
        assert held.status == 137


def test_command_that_eats_memory_with_files_is_killed(desk: Desk) -> None:
    held = run(
        desk, "head -c 200000000 /dev/zero > /dev/shm/file; sleep 60", memory_bytes=64 * MB, wall_s=20, grace_s=0
    )
    assert any("it used more than 64 MiB of memory" in sentence for sentence in held.exceeded), held


def test_fork_bomb_gets_no_more_processes_than_it_may_have(desk: Desk) -> None:
    script = (
        "import os, signal, sys\n"
        "read_end, write_end = os.pipe()\n"
        "first, started = os.getpid(), 0\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: started = 0; os.write(write_end, b'.')\n"
        "        else: started += 1\n"
        "    except BlockingIOError as error:\n"
        "        if os.getpid() != first: signal.pause()\n"
        "        os.close(write_end); print(len(os.read(read_end, 10000)), error.strerror); break\n"
    )
    held = run(desk, script, language="python", pids=30)
    born, _, why = held.output.partition(" ")
    assert (int(born) <= 29, why) == (True, "Resource temporarily unavailable\n")
    if held.as_root:
        assert held.usage.most_processes == 30
        assert held.exceeded == ("the command was refused more than 30 processes at a time",)


def test_command_may_have_as_many_processes_as_it_was_given(desk: Desk) -> None:
    script = "import os, signal\nfor _ in range(9):\n    if os.fork() == 0: signal.pause()\nprint('all')"
    held = run(desk, script, language="python", pids=10)
    assert (held.status, held.output, held.exceeded) == (0, "all\n", ())


def test_command_that_fills_the_disk_file_after_file_is_killed(desk: Desk) -> None:
    script = 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); head -c 1000000 /dev/zero > "$HOME/$i"; done'
    held = run(desk, script, disk_bytes=20 * MB)
    assert held.status == 137
    assert held.exceeded == ("the command was killed: it wrote more than 20 MiB",)
    assert held.usage.written_bytes > 20 * MB


def test_command_that_fills_the_disk_with_one_file_is_ended_at_the_limit(desk: Desk) -> None:
    held = run(desk, 'exec head -c 50000000 /dev/zero > "$HOME/big"', disk_bytes=20 * MB)
    assert held.status in (153, 137)  # XFSZ, or the watch was faster
    assert held.exceeded == ("the command was killed: it wrote more than 20 MiB",)
    assert held.usage.written_bytes <= 20 * MB + 4096


def test_command_that_fills_the_disk_with_files_that_are_nowhere_is_killed(desk: Desk) -> None:
    """Deleted while they are open, each below the limit of one file."""
    script = (
        "import os, signal, tempfile\n"
        "held = [tempfile.TemporaryFile(dir=os.environ['HOME']) for _ in range(40)]\n"
        "for one in held: one.write(b'x' * (2 << 20)); one.flush()\n"
        "signal.pause()\n"
    )
    held = run(desk, script, language="python", disk_bytes=20 * MB, wall_s=20, grace_s=0)
    assert (held.status, held.exceeded) == (137, ("the command was killed: it wrote more than 20 MiB",))


def test_command_that_takes_too_long_is_asked_to_end(desk: Desk) -> None:
    held = run(desk, "trap 'echo asked; exit 3' TERM; while :; do sleep 60 & wait; done", wall_s=0.2)
    assert held.output == "asked\n"
    assert held.status == 124
    assert held.exceeded == ("the command was ended: it took longer than 0.2 s",)
    assert held.notes == () or "limited" not in " ".join(held.notes)


def test_command_that_is_deaf_to_being_asked_is_killed_after_the_grace(desk: Desk) -> None:
    held = run(desk, "trap '' TERM; echo deaf; while :; do sleep 60; done", wall_s=0.2, grace_s=0.1)
    assert (held.output, held.status) == ("deaf\n", 124)


@pytest.mark.parametrize(
    "script", ["while :; do :; done", "while :; do sh -c 'i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done'; done"]
)
def test_command_that_uses_up_its_processor_time_is_killed(desk: Desk, script: str) -> None:
    held = run(desk, script, cpu_s=0.3)
    assert held.status in (137, 152)
    assert held.exceeded == ("the command was killed: it used more than 0.3 s of processor time",)
    assert held.usage.user_s + held.usage.system_s > 0.25


def test_limit_of_files_holds_in_the_command_and_in_what_it_starts(desk: Desk) -> None:
    script = "ulimit -n; ulimit -Hn; sh -c 'ulimit -n'"
    assert run(desk, script, files=50).output == "50\n50\n50\n"


def test_limits_cannot_be_raised_or_left_from_inside(desk: Desk) -> None:
    script = """
import glob, os, resource
kept = []
for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE"):
    number = getattr(resource, name)
    soft, hard = resource.getrlimit(number)
    if hard == resource.RLIM_INFINITY:
        continue
    try:
        resource.setrlimit(number, (hard + 1, hard + 1))
    except (OSError, ValueError):
        kept.append(name)
    else:
        print("raised", name)
for place in glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True):
    try:
        with open(place, "w") as file:
            file.write("0")
        print("moved", place)
    except OSError:
        pass
for place in glob.glob("/sys/fs/cgroup/*"):
    try:
        os.mkdir(place + "/jubako-inside")
        print("made", place)
    except OSError:
        pass
print(len(kept) >= 3)
"""
    limits = {"files": 50, "pids": 20, "memory_bytes": 64 * MB, "cpu_s": 20, "disk_bytes": MB}
    assert run(desk, script, language="python", **limits).output == "True\n"


def test_limits_bind_the_command_and_not_what_makes_and_ends_its_box(desk: Desk) -> None:
    held = run(desk, "exit 7", files=4, cpu_s=1, pids=1, disk_bytes=1, memory_bytes=64 * MB)
    assert (held.status, held.output, held.exceeded) == (7, "", ())


@of_root
def test_half_a_processor_is_half_a_processor() -> None:
    """By the kernel's own count, not by a clock of ours."""
    box = Box(Host(whole=True), limits=Limits(cpus=0.2, wall_s=0.6, grace_s=0))
    with run_in_box(["/bin/sh", "-c", "while :; do :; done"], box) as result:
        assert result.usage is not None
        assert result.usage.user_s + result.usage.system_s < 0.8 * result.usage.wall_s


def test_command_that_cannot_be_executed_is_told_as_without_limits(desk: Desk) -> None:
    box = Box(Host(whole=True), limits=Limits(files=50))
    for name, status in (("no-such-program", 127), ("/etc/passwd", 126)):
        seen = desk.see([name], box)
        assert (seen.status, "cannot run" in seen.error) == (status, True)


def test_box_without_limits_that_is_measured_says_what_it_used(desk: Desk) -> None:
    held = run(desk, 'head -c 1000000 /dev/zero > "$HOME/file"; sleep 0 & wait')
    assert (held.status, held.exceeded) == (0, ())
    assert 1000000 <= held.usage.written_bytes < 1200000
    assert held.usage.wall_s > 0
    assert held.usage.peak_memory_bytes
    assert not any("limited" in note for note in held.notes)


def test_box_that_is_killed_with_its_caller_leaves_its_groups_to_the_next(desk: Desk) -> None:
    """kill -9 of the caller: the box ends with it, and what is left in control groups goes with the next box."""
    program = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(SOURCE)!r})\n"
        "from jubako.boxes.commands.launch import run_in_box\n"
        "from jubako.boxes.limits import Limits\n"
        "from jubako.boxes.spec import Box, Host\n"
        "from jubako.boxes.state import open_state_root\n"
        f"state = open_state_root({str(desk.state_path)!r})\n"
        "box = Box(Host(whole=True), limits=Limits(pids=10, memory_bytes=64 << 20))\n"
        "run_in_box(['/bin/sh', '-c', 'echo up; exec sleep 60'], box, state=state)\n"
    )

    def there() -> tuple[int, int, list[str]]:
        with subprocess.Popen([PYTHON, "-c", program], stdout=subprocess.PIPE) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"up\n"
            (box_id,) = os.listdir(desk.state.boxes_path)
            groups = len(groups_of(box_id))
            caller.send_signal(signal.SIGKILL)
            caller.stdout.read()  # to its end: when nobody of the box lives
        desk.run("true").close()
        return groups, len(groups_of(box_id)), os.listdir(desk.state.boxes_path)

    before, after, left = desk.do(there)
    assert (before > 0) == (desk.do(os.geteuid) == 0)
    assert (after, left) == (0, [])


@of_root
def test_ordinary_user_with_groups_of_their_own_has_limits_by_groups(in_child: Runner) -> None:
    """As systemd or an administrator delegates them: directories that belong to the user, who is in them."""
    name = f"jubako-test-{os.getpid()}"
    places = read_group_places(read_mount_table())
    delegated = [PlannedGroup(place.version, f"{place.directory}/{name}", ()) for place in places]
    top = Path(tempfile.mkdtemp(prefix="jubako-desk-", dir="/var/tmp"))
    os.chown(top, ORDINARY_UID, ORDINARY_UID)

    def there() -> tuple[int, tuple[str, ...], tuple[str, ...]]:
        join_groups(delegated)
        os.setgroups([])
        os.setresgid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
        os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
        set_dumpable(dumpable=True)
        os.environ["HOME"] = str(top)
        os.chdir(top)
        box = Box(Host(whole=True), limits=Limits(memory_bytes=64 * MB, pids=10, cpus=1))
        program = "eaten = []\nwhile True: eaten.append(bytearray(4 << 20))"
        with run_in_box([PYTHON, "-c", program], box, state=open_state_root(str(top / "state"))) as result:
            inner = [path for group in delegated for path in Path(group.directory).glob("jubako-*")]
            assert inner == []
            return result.exit_status, result.exceeded, result.notes

    try:
        for group in delegated:
            os.mkdir(group.directory)
            for path in (group.directory, f"{group.directory}/cgroup.procs"):
                os.chown(path, ORDINARY_UID, ORDINARY_UID)
        status, exceeded, notes = in_child(there)
    finally:
        remove_tree(str(top))
        for group in delegated:
            os.rmdir(group.directory)
    assert (status, exceeded) == (137, ("the command was killed: it used more than 64 MiB of memory",))
    assert {note.rpartition(" by ")[2] for note in notes if "limited to" in note} <= {
        "control groups v1",
        "control groups v2",
    }
