"""The wide box against a hostile world: kills, terminals, full disks, odd mounts, two boxes at once; all of it real."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from jubako.boxes.commands.kept_boxes import enter_box
from jubako.boxes.commands.launch import run_in_box
from jubako.boxes.state import StateRoot, open_state_root
from jubako.errors import HostError
from jubako.kernel import mounts
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import read_mount_table

pytestmark = pytest.mark.box
SOURCE = Path(__file__).parents[2] / "src"
DEADLINE_S = 20
Result = TypeVar("Result")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"JUBAKO_STATE": str(tmp_path / "state"), "PYTHONPATH": str(SOURCE), "PS1": "$ "}


def box_run(*words: str) -> list[str]:
    return [sys.executable, "-m", "jubako", "box", "run", *words]


def read_until(fd: int, wanted: bytes) -> bytes:
    """What comes out of `fd` until `wanted` did; fails the test where it never does."""
    seen = b""
    while wanted not in seen:
        if not select.select([fd], [], [], DEADLINE_S)[0]:
            pytest.fail(f"waited {DEADLINE_S} s for {wanted!r}, got {seen!r}")
        try:
            chunk = os.read(fd, 4096)
        except OSError as error:  # EIO: the last one has closed the terminal
            assert error.errno == errno.EIO
            chunk = b""
        if not chunk:
            pytest.fail(f"ended before {wanted!r}: {seen!r}")
        seen += chunk
    return seen


def overlays() -> set[int]:
    return {mount.id for mount in read_mount_table() if mount.fstype == "overlay"}


# --- kills and signals -----------------------------------------------------------------------------------------------


def start_and_wait_for(script: str, environment: dict[str, str], folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A box whose command has said "ready", and the end of the pipe that everything in it holds the other end of."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        box_run("--", "sh", "-c", script),
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=write_end,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    read_until(read_end, b"ready")
    return process, read_end


def test_killed_launcher_leaves_no_process_no_mount_and_a_box_the_next_start_sweeps(
    environment: dict[str, str], tmp_path: Path
) -> None:
    before = overlays()
    script = "(setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000' &); echo hi > new; echo ready; sleep 1000"
    process, pipe = start_and_wait_for(script, environment, tmp_path)
    boxes = tmp_path / "state/boxes"
    assert len(list(boxes.iterdir())) == 1

    process.kill()
    process.wait()

    assert os.read(pipe, 100) == b""  # the end: nothing that inherited the other side lives any more
    os.close(pipe)
    assert overlays() == before
    done = subprocess.run(box_run("true"), env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert list(boxes.iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_term_sent_to_the_launcher_alone_reaches_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    process, pipe = start_and_wait_for(script, environment, tmp_path)
    process.terminate()
    read_until(pipe, b"caught")
    assert process.wait() == 7
    os.close(pipe)


def test_int_sent_to_the_launcher_alone_reaches_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    process, pipe = start_and_wait_for("echo ready; exec sleep 1000", environment, tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    os.close(pipe)


# --- terminals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[list[str]], tuple[int, int]]]:
    """Starts a program in a session of its own on a new terminal; its pid and our side of the terminal."""
    started: list[tuple[int, int]] = []

    def start(argv: list[str]) -> tuple[int, int]:
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(tmp_path)
            os.execvpe(argv[0], argv, environment)
        started.append((pid, fd))
        return pid, fd

    yield start
    for pid, fd in started:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_ctrl_c_reaches_the_command_once_and_the_box_is_cleaned(terminal: Any, tmp_path: Path) -> None:
    script = (
        "trap 'n=$((n+1)); echo got $n' INT; echo ready; while test -z \"$n\"; do sleep 0.05; done; sleep 0.2; exit 5"
    )
    pid, fd = terminal(box_run("--", "sh", "-c", script))
    read_until(fd, b"ready")
    os.write(fd, b"\x03")
    said = read_until(fd, b"No changes.")
    assert b"got 1" in said
    assert b"got 2" not in said
    assert status_of(pid) == 5
    assert list((tmp_path / "state/boxes").iterdir()) == []


def test_ctrl_c_on_a_command_that_does_not_mind_it_ends_with_130(terminal: Any) -> None:
    pid, fd = terminal(box_run("--", "sh", "-c", "echo ready; exec sleep 1000"))
    read_until(fd, b"ready")
    os.write(fd, b"\x03")
    read_until(fd, b"No changes.")
    assert status_of(pid) == 130


def test_interactive_shell_has_job_control_and_the_terminal_comes_back(terminal: Any) -> None:
    box = " ".join(box_run("bash", "--norc", "-i"))
    pid, fd = terminal(["/bin/sh", "-c", f'{box}; echo back; read word; echo "<$word>"'])
    read_until(fd, b"$ ")
    os.write(fd, b"sh -c 'echo $((40+2)); exec sleep 1000'\n")  # the sum, so as not to take its echo for the answer
    read_until(fd, b"42")
    os.write(fd, b"\x1a")
    read_until(fd, b"Stopped")
    os.write(fd, b"disown -a; exit 0\n")  # what is stopped would make bash ask again
    read_until(fd, b"back")
    os.write(fd, b"mine\n")
    read_until(fd, b"<mine>")
    assert status_of(pid) == 0


def test_command_cannot_type_into_the_callers_terminal(terminal: Any) -> None:
    code = (
        "import fcntl, termios\n"
        "for request in (termios.TIOCSTI, termios.TIOCSTI | 1 << 32):\n"
        "    try: fcntl.ioctl(0, request & 0xFFFFFFFF, b'x'); print('typed')\n"
        "    except OSError as error: print('refused', error.errno)\n"
        "print(open('/dev/tty').isatty(), open('/dev/console').isatty())"
    )
    pid, fd = terminal(box_run("--", "/usr/bin/python3", "-c", code))
    said = read_until(fd, b"No changes.")
    assert said.count(f"refused {errno.EPERM}".encode()) == 2
    assert b"True True" in said
    assert status_of(pid) == 0


# --- odd machines: in a mount namespace of the test's own, at an empty tmpfs on /mnt ---------------------------------


def run(script: str, state: StateRoot, **options: Any) -> Any:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return run_in_box(["/bin/sh", "-c", script], state=state, stdio=(null, null, null), **options)
    finally:
        os.close(null)


def changes(result: Any) -> dict[str, str]:
    return {change.path: change.kind for change in result.changes if change.path.startswith("/mnt/")}


def make_state(path: str = "/mnt/state") -> StateRoot:
    return open_state_root(path)


def test_full_disk_below_the_state_root_is_the_commands_problem_alone(in_namespace: Any) -> None:
    def there() -> tuple[int, bool, list[str]]:
        os.mkdir("/mnt/state")
        mounts.attach(tmpfs(size_bytes=1 << 20), "/mnt/state")
        state = make_state()
        os.mkdir("/mnt/work")
        with run("head -c 3000000 /dev/zero > big 2>/dev/null", state, cwd="/mnt/work", keep=True) as result:
            kept = result.id is not None
            return result.exit_status, kept, os.listdir("/mnt/work")

    status, kept, left = in_namespace(there)
    assert status != 0
    assert kept  # what it wrote so far is not lost
    assert left == []


def test_disk_that_is_full_already_is_a_host_error_that_leaves_nothing(in_namespace: Any) -> None:
    def there() -> tuple[str, list[str]]:
        os.mkdir("/mnt/state")
        mounts.attach(tmpfs(size_bytes=1 << 16), "/mnt/state")
        state = make_state()
        with suppress(OSError), open("/mnt/state/filler", "wb") as file:
            file.write(b"x" * (1 << 17))
        with pytest.raises(HostError) as caught:
            run("true", state, keep=True)
        return f"{caught.value.message} {caught.value.hint}", os.listdir("/mnt/state/boxes")

    text, left = in_namespace(there)
    assert "No space left on device" in text
    assert "JUBAKO_STATE" in text
    assert left == []


def test_mounts_below_the_root_are_each_copy_on_write_or_said_to_be_read_only(in_namespace: Any) -> None:
    def there() -> tuple[bool, dict[str, str], str, list[str], str]:
        for name in ("disk", "source/inner", "bound"):
            os.makedirs(f"/mnt/{name}")
        Path("/mnt/file").write_text("covered")
        Path("/mnt/source/hosts").write_text("bound file\n")
        mounts.attach(tmpfs(size_bytes=1 << 20), "/mnt/disk")
        os.mkdir("/mnt/disk/below")
        mounts.attach(tmpfs(size_bytes=1 << 20), "/mnt/disk/below")
        mounts.mount("/mnt/source", "/mnt/bound", flags=mounts.MS_BIND)
        mounts.mount("/mnt/source/hosts", "/mnt/file", flags=mounts.MS_BIND)
        state = make_state()
        script = (
            "cd /mnt; cat file bound/hosts > bound/seen; for f in file disk/1 disk/below/2 bound/3 new; do "
            "{ echo more >> $f; } 2>/dev/null; done; exit 0"
        )
        with run(script, state) as result:
            found = changes(result)
            result.commit(["/mnt/bound/seen"])
        everything = [str(path) for path in Path("/mnt").rglob("*") if "state" not in path.parts]
        return bool(result.notes), found, " ".join(result.notes), everything, Path("/mnt/source/seen").read_text()

    is_rootless, found, notes, everything, seen = in_namespace(there)
    assert seen == "bound file\nbound file\n"
    below_no_mount = {"/mnt/bound/3": "added", "/mnt/bound/seen": "added", "/mnt/disk/below/2": "added"}
    if is_rootless:
        assert found == below_no_mount
        assert "/mnt/disk" in notes
    else:
        assert found == below_no_mount | {"/mnt/disk/1": "added", "/mnt/file": "modified", "/mnt/new": "added"}
    names = ("bound", "bound/hosts", "bound/inner", "bound/seen", "disk", "disk/below", "file", "source")
    names += ("source/hosts", "source/inner", "source/seen")
    assert sorted(everything) == [f"/mnt/{name}" for name in names]


def test_state_root_on_an_overlay_is_refused_with_the_way_out(in_namespace: Any) -> None:
    def there() -> tuple[str, str, list[str]]:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"/mnt/{name}")
        data = "lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work,userxattr"
        mounts.mount("none", "/mnt/merged", "overlay", 0, data)
        state = make_state("/mnt/merged/state")
        with pytest.raises(HostError) as caught:
            run("true", state)
        return caught.value.message, caught.value.hint, os.listdir("/mnt/merged/state/boxes")

    message, hint, left = in_namespace(there)
    assert "overlay" in message
    assert "JUBAKO_STATE" in hint
    assert left == []


def test_state_root_on_a_tmpfs_holds_kept_boxes_that_can_be_entered(in_namespace: Any) -> None:
    def there() -> str:
        os.makedirs("/mnt/work/sub")
        state = make_state()
        with run("echo 1 > sub/one; mkdir two", state, cwd="/mnt/work", keep=True) as result:
            kept = str(result.id)
        read_end, write_end = os.pipe()
        with enter_box(kept, ["/bin/sh", "-c", "find . | sort"], state=state, stdio=(0, write_end, 2)):
            os.close(write_end)
            with os.fdopen(read_end) as pipe:
                return pipe.read()

    assert in_namespace(there).split() == [".", "./sub", "./sub/one", "./two"]


def test_two_boxes_at_once_do_not_see_each_other(in_namespace: Any) -> None:
    def there() -> list[bytes]:
        os.makedirs("/mnt/work")
        state = make_state()
        talks = []
        for word in (b"one", b"two"):
            to_box, from_box = os.pipe(), os.pipe()
            if os.fork() == 0:
                script = f"echo {word.decode()} > file; echo ready; read go; cat file; ls"
                stdio = (to_box[0], from_box[1], 2)
                run_in_box(["/bin/sh", "-c", script], state=state, stdio=stdio, cwd="/mnt/work").close()
                os._exit(0)
            talks.append((to_box[1], from_box[0]))
        for _, answers in talks:  # both have written
            read_until(answers, b"ready\n")
        for questions, _ in talks:
            os.write(questions, b"go\n")
        said = [read_until(answers, b"file\n") for _, answers in talks]
        for _ in talks:
            os.wait()
        return [*said, str(os.listdir("/mnt/work")).encode(), str(os.listdir(state.boxes_path)).encode()]

    assert in_namespace(there) == [b"one\nfile\n", b"two\nfile\n", b"[]", b"[]"]
