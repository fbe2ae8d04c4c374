"""Boxes of a server that are not made ahead: with limits, a user, an init; and that nothing of one outlives its end."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from interpreter import find_interpreter
from jubako.boxes.commands.first import Program
from jubako.boxes.commands.kept_boxes import kept_box_ids
from jubako.boxes.commands.make import make_new_box, read_box_facts
from jubako.boxes.commands.report import read_report
from jubako.boxes.limits import Limits
from jubako.boxes.serving.client import BoxServer
from jubako.boxes.serving.messages import ENDED, Request, Started, receive
from jubako.boxes.serving.supervised import start_supervised
from jubako.boxes.spec import Box, Host
from jubako.boxes.state import open_state_root
from jubako.errors import HostError, InputError
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mounts import attach, umount2

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk
    from tests.conftest import Runner

pytestmark = pytest.mark.box
COUNTED = Box(Host(whole=True), limits=Limits())


def with_server(desk: Desk, act: Callable[[BoxServer], Any]) -> Any:
    def there() -> Any:
        find_interpreter()
        with BoxServer(state=desk.state, compiled=False) as boxes:
            return act(boxes)

    return desk.do(there)


def whole(**options: Any) -> Box:
    return Box(Host(whole=True), **options)


def left_in(desk: Desk) -> list[str]:
    return sorted(name for name in os.listdir(desk.state_path / "boxes") if name != "names")


def test_limit_that_is_met_is_told_with_what_was_used(desk: Desk) -> None:
    def act(boxes: BoxServer) -> tuple[int, tuple[str, ...], bool, bool]:
        with boxes.run(["sleep", "1000"], whole(limits=Limits(wall_s=0.1))) as result:
            assert result.usage is not None
            notes = " ".join(result.notes)
            return result.exit_status, result.exceeded, result.usage.wall_s >= 0.1, "limited" in notes

    status, exceeded, lasted, noted = with_server(desk, act)
    assert status == 124
    assert exceeded == ("the command was ended: it took longer than 0.1 s",)
    assert lasted
    assert not noted  # by a clock, which needs no word
    assert left_in(desk) == []


def test_streams_changes_and_statuses_are_those_of_the_command(desk: Desk) -> None:
    def act(boxes: BoxServer) -> tuple[bytes, int | None, list[str], str]:
        line = ["/bin/sh", "-c", "cat; echo new > new; exit 3"]
        with boxes.popen(line, COUNTED, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            said, _ = process.communicate(b"given")
            status = process.wait()
            with process.result() as result:
                changed = [os.path.basename(change.path) for change in result.changes]
        with boxes.run(["nonesuch"], COUNTED) as result:
            return said, status, changed, result.error

    said, status, changed, error = with_server(desk, act)
    assert (said, status, changed) == (b"given", 3, ["new"])
    assert error == "cannot run 'nonesuch': No such file or directory"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, 137)])
def test_signals_reach_the_command_and_kill_ends_the_box(desk: Desk, number: int, status: int) -> None:
    def act(boxes: BoxServer) -> int | None:
        line = ["/bin/sh", "-c", "echo up; exec sleep 1000"]
        with boxes.popen(line, COUNTED, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            return process.wait()

    assert with_server(desk, act) == status
    assert left_in(desk) == []


def test_box_that_nobody_waits_for_is_ended_with_all_in_it(desk: Desk) -> None:
    mark = f"9{os.getpid()}"

    def act(boxes: BoxServer) -> None:
        line = ["/bin/sh", "-c", f"setsid sleep {mark} & sleep {mark} & echo up; wait"]
        with boxes.popen(line, COUNTED, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
        boxes.popen(["sleep", mark], COUNTED)  # ended by the end of the server

    with_server(desk, act)
    assert [one for one in Path("/proc").glob("[0-9]*/cmdline") if mark.encode() in _read(one)] == []
    assert left_in(desk) == []


def test_command_that_signals_its_process_group_hits_its_own_box_alone(desk: Desk) -> None:
    def act(boxes: BoxServer) -> tuple[int, int]:
        first = boxes.run(["/bin/sh", "-c", "kill -TERM 0; sleep 1000"], COUNTED)
        second = boxes.run(["true"], COUNTED)
        statuses = first.exit_status, second.exit_status
        first.close()
        second.close()
        return statuses

    assert with_server(desk, act) == (143, 0)


def test_box_can_be_kept_and_committed(desk: Desk) -> None:
    def act(boxes: BoxServer) -> tuple[bool, str]:
        with boxes.run(["/bin/sh", "-c", "echo one > one"], COUNTED, keep=True) as result:
            kept = result.id
        boxes.run(["/bin/sh", "-c", "echo two > two"], COUNTED, commit=["two"]).close()
        return kept in kept_box_ids(desk.state), Path("two").read_text()

    assert with_server(desk, act) == (True, "two\n")


def test_init_and_another_user_are_as_elsewhere(desk: Desk) -> None:
    def act(boxes: BoxServer) -> list[bytes]:
        found = []
        for box in (whole(profile="system"), *([whole(user="1234")] if os.geteuid() == 0 else [])):
            with boxes.popen(["/bin/sh", "-c", "echo $$; id -u"], box, stdout=subprocess.PIPE) as process:
                found.append(process.communicate()[0])
                assert process.wait() == 0
        return found

    found = with_server(desk, act)
    assert found[0] == b"1\n0\n"
    assert [words.split()[1] for words in found[1:]] == ([b"1234"] if len(found) > 1 else [])


def test_command_has_the_callers_limit_of_open_files(desk: Desk) -> None:
    def act(boxes: BoxServer) -> tuple[bytes, int]:
        with boxes.popen(["/bin/sh", "-c", "ulimit -n"], COUNTED, stdout=subprocess.PIPE) as process:
            said = process.communicate()[0]
            process.wait()
        return said, resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    said, own = with_server(desk, act)
    assert int(said) == own


def test_what_goes_wrong_is_raised_and_the_server_goes_on(desk: Desk) -> None:
    def act(boxes: BoxServer) -> tuple[str, int]:
        with pytest.raises(InputError) as caught:
            boxes.run(["true"], COUNTED, cwd="/run/nowhere").close()
        with boxes.run(["true"], COUNTED) as result:
            return caught.value.message, result.exit_status

    message, status = with_server(desk, act)
    assert "cannot be entered in the box" in message
    assert status == 0
    assert left_in(desk) == []


def test_supervisor_that_was_killed_is_told_truthfully_and_takes_the_box_with_it(desk: Desk) -> None:
    mark = f"8{os.getpid()}"

    def act(boxes: BoxServer) -> tuple[str, int]:
        line = ["/bin/sh", "-c", "echo up; sleep 1000; :", mark]
        with boxes.popen(line, COUNTED, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            os.kill(_find_supervisor(mark), signal.SIGKILL)
            with pytest.raises(HostError) as caught:
                process.wait()
        with boxes.run(["true"], COUNTED) as result:
            return caught.value.message, result.exit_status

    before = set(Path("/sys/fs/cgroup").glob("**/*jubako*"))
    message, status = with_server(desk, act)
    assert message == "the process that sees to the box was killed, and everything in the box with it"
    assert status == 0
    assert set(Path("/sys/fs/cgroup").glob("**/*jubako*")) <= before
    assert [one for one in Path("/proc").glob("[0-9]*/cmdline") if mark.encode() in _read(one)] == []
    assert left_in(desk) == []


def test_box_is_planned_anew_when_a_mount_it_was_planned_for_is_gone(in_namespace: Runner) -> None:
    def act() -> tuple[bool, dict[str, str], int]:
        os.mkdir("disk")
        attach(tmpfs(), "/mnt/disk")
        state = open_state_root("/mnt/state")
        request = Request(COUNTED, ("/bin/true",), "/", dict(os.environ), state.path)
        new = make_new_box(COUNTED, state, read_box_facts(state, request.environment, "/"))
        umount2("/mnt/disk")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Program(request.argv, "/", request.environment)
        box = start_supervised(new, request, program, theirs.fileno(), resource.getrlimit(resource.RLIMIT_NOFILE))
        message, _ = receive(ours)
        said = dict(read_report(ours.recv(1 << 16)))
        return isinstance(message, Started), said, box.bury()

    is_started, said, status = in_namespace(act)
    assert is_started
    assert said[ENDED] == "0"
    assert status == 0


def _find_supervisor(mark: str) -> int:
    """The supervisor of the box in which a command with `mark` as its last word runs."""
    path, *_ = [
        one.parent for one in Path("/proc").glob("[0-9]*/cmdline") if _read(one).endswith(f"\0{mark}\0".encode())
    ]
    while ((above := _parent_of(path)) / "comm").read_text() != "jubako-boxes\n":  # the server
        path = above
    return int(path.name)


def _parent_of(process: Path) -> Path:
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("PPid:"))
    return Path("/proc", line.split()[1])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
