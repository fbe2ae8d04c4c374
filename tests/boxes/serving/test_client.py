"""The box server and its program, as root and as an ordinary user: what runs, what is told, and who survives whom."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.boxes.serving.conftest import has_program, place_program

from interpreter import find_interpreter
from jubako.boxes.commands.kept_boxes import kept_box_ids, read_kept_changes
from jubako.boxes.keeping.kept import sweep_boxes
from jubako.boxes.serving.client import BoxServer
from jubako.boxes.serving.process import BoxProcess
from jubako.boxes.spec import Box, Host
from jubako.errors import ConflictError, HostError, InputError
from jubako.kernel.children import wait_for_pidfd
from jubako.kernel.process import pidfd_open

pytestmark = pytest.mark.box
PYTHON = "/usr/bin/python3"


@pytest.fixture(autouse=True, params=["compiled", "forked"])
def first_process(request: pytest.FixtureRequest, desk: Any, compiled_first: Path) -> str:
    """What the first process of a box is: `compiled_first`, which lies ready, or a fork of the server."""
    if request.param == "compiled":
        place_program(desk, compiled_first)
    kind: str = request.param
    return kind


def with_server(desk: Any, act: Callable[[BoxServer], Any], **options: Any) -> Any:
    """What `act` returns, called as the user of the desk with a server; afterwards nothing of it may be left."""

    def there() -> Any:
        find_interpreter()
        with BoxServer(state=desk.state, compiled=has_program(desk), **options) as boxes:
            found = act(boxes)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return found

    return desk.do(there)


def say(boxes: BoxServer, script: str, **options: Any) -> str:
    """What a shell script prints in a box."""
    with boxes.popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, **options) as process:
        said, _ = process.communicate()
        assert process.wait() == 0
    return said.decode()


# --- what runs -------------------------------------------------------------------------------------------------------


def test_command_runs_changes_are_told_and_dropped(desk: Any) -> None:
    def act(boxes: BoxServer) -> Any:
        with boxes.run(["/bin/sh", "-c", "echo hello > new; exit 3"]) as result:
            return result.exit_status, desk.relative(result), result.changes[-1].size_bytes

    assert with_server(desk, act) == (3, {"new": "added"}, 6)
    assert desk.do(lambda: os.path.exists("new")) is False
    assert desk.boxes() == []


def test_boxes_one_after_another_do_not_see_each_other(desk: Any) -> None:
    def act(boxes: BoxServer) -> list[str]:
        return [say(boxes, f"ls; echo {number} > left; cat left") for number in range(6)]

    assert with_server(desk, act) == [f"{number}\n" for number in range(6)]
    assert desk.boxes() == []


def test_box_made_ahead_shows_what_was_written_meanwhile(desk: Any) -> None:
    def act(boxes: BoxServer) -> list[str]:
        said = []
        for number in range(4):
            Path("file").write_text(f"{number}")
            Path(f"new-{number}").mkdir()
            said.append(say(boxes, "cat file; ls -d new-* | wc -l"))
        return said

    assert with_server(desk, act) == [f"{number}{number + 1}\n" for number in range(4)]


def test_directory_replaced_since_a_box_was_made_ahead_is_seen_new(desk: Any) -> None:
    """The working directory is what an overlay lies over; one made ahead lies over the old one."""

    def act(boxes: BoxServer) -> list[str]:
        said = []
        for number in range(3):
            os.mkdir("work")
            Path("work", "inside").write_text(str(number))
            said.append(say(boxes, "cat inside; echo > mine", cwd="work"))
            os.rename("work", f"old-{number}")
        return said

    assert with_server(desk, act) == ["0", "1", "2"]
    assert desk.do(lambda: [os.listdir(f"old-{number}") for number in range(3)]) == [["inside"]] * 3


def test_environment_directory_and_streams_are_the_callers(desk: Any) -> None:
    def act(boxes: BoxServer) -> tuple[bytes, bytes, int | None]:
        os.mkdir("there")
        with boxes.popen(
            ["/bin/sh", "-c", 'cat; echo "$WORD"; pwd; echo no >&2; exit 4'],
            cwd="there",
            environment={"PATH": os.defpath, "WORD": "a b"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            return (*process.communicate(b"given " * 50_000), process.wait())

    out, err, status = with_server(desk, act)
    assert out == b"given " * 50_000 + f"a b\n{os.path.realpath(desk.home)}/there\n".encode()
    assert (err, status) == (b"no\n", 4)


def test_environment_larger_than_a_packet_arrives(desk: Any) -> None:
    def act(boxes: BoxServer) -> str:
        large = {f"NAME_{number}": "x" * 30_000 for number in range(30)}
        return say(boxes, "env | grep -c ^NAME_", environment={"PATH": os.defpath, **large})

    assert with_server(desk, act) == "30\n"


def test_stderr_goes_where_stdout_goes_when_asked(desk: Any) -> None:
    assert (
        with_server(desk, lambda boxes: say(boxes, "echo one; echo two >&2", stderr=subprocess.STDOUT)) == "one\ntwo\n"
    )


def test_command_has_nothing_of_the_servers(desk: Any) -> None:
    script = "ls /proc/self/fd | wc -l; ulimit -Sn; ps -e -o pid= | head -1; cat /proc/1/environ 2>&1 | wc -c; id -u"

    def act(boxes: BoxServer) -> tuple[str, tuple[int, int]]:
        return say(boxes, script), resource.getrlimit(resource.RLIMIT_NOFILE)

    said, (soft, _) = with_server(desk, act)
    # 0, 1, 2 and the directory that ls reads
    assert said.split()[:3] == ["4", str(soft), "1"]


def test_command_that_signals_its_process_group_hits_its_own_box_alone(desk: Any) -> None:
    def act(boxes: BoxServer) -> tuple[int | None, int]:
        with boxes.popen(["sleep", "60"]) as other:
            with boxes.run(["/bin/sh", "-c", "kill -9 0"]) as result:
                status = result.exit_status
            return other.poll(), status

    assert with_server(desk, act) == (None, 137)


@pytest.mark.parametrize(("argv", "status", "error"), [(["nonesuch"], 127, "No such file"), (["/etc"], 126, "denied")])
def test_command_that_cannot_be_executed_is_told_as_a_shell_does(
    desk: Any, argv: list[str], status: int, error: str
) -> None:
    def act(boxes: BoxServer) -> tuple[int, str]:
        with boxes.run(argv) as result:
            return result.exit_status, result.error

    found, said = with_server(desk, act)
    assert found == status
    assert error in said


@pytest.mark.parametrize(
    ("argv", "options", "message"),
    [
        ([], {}, "no command"),
        (["a\0b"], {}, "null byte"),
        (["true"], {"cwd": "/run/jubako-nowhere"}, "working directory"),
        (["true"], {"box": Box()}, "wide view"),
        (["true"], {"box": Box(Host(whole=True), binds=["/jubako-nowhere"])}, "does not exist"),
        (["true"], {"box": Box(Host(whole=True), capabilities=["CAP_NONE"])}, "CAP_NONE"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_a_sentence(
    desk: Any, argv: list[str], options: dict[str, Any], message: str
) -> None:
    def act(boxes: BoxServer) -> str:
        with pytest.raises(InputError) as caught:
            boxes.run(argv, **options).close()
        assert say(boxes, "echo still there") == "still there\n"
        return caught.value.message

    assert message in with_server(desk, act)
    assert desk.boxes() == []


def test_first_process_is_the_one_that_was_asked_for(desk: Any, first_process: str) -> None:
    def act(boxes: BoxServer) -> set[bool]:
        found = set()
        line = ["/bin/sh", "-c", "echo up; read word"]
        with boxes.popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            for child in children_of(server_pid()):
                with contextlib.suppress(OSError):  # what removes boxes comes and goes
                    if Path(f"/proc/{child}/comm").read_text() == "jubako-box\n":
                        found.add("/compiled/first-" in Path(f"/proc/{child}/cmdline").read_text().partition("\0")[0])
            process.communicate()
            process.wait()
        return found

    assert with_server(desk, act) == {first_process == "compiled"}


# --- what becomes of it ----------------------------------------------------------------------------------------------


def test_box_can_be_committed(desk: Any) -> None:
    def act(boxes: BoxServer) -> str:
        boxes.run(["/bin/sh", "-c", "mkdir site; echo hi > site/index; echo no > other"], commit=["site"]).close()
        return Path("site/index").read_text()

    assert with_server(desk, act) == "hi\n"
    assert desk.do(lambda: os.path.exists("other")) is False
    assert desk.boxes() == []


def test_box_can_be_kept_beyond_the_server(desk: Any) -> None:
    def act(boxes: BoxServer) -> str | None:
        with boxes.run(["/bin/sh", "-c", "echo hi > new"], keep=True) as result:
            return result.id

    box_id = with_server(desk, act)
    assert desk.do(lambda: kept_box_ids(desk.state)) == [box_id]
    assert desk.do(lambda: desk.relative(_Seen(read_kept_changes(box_id, desk.state)[1]))) == {"new": "added"}


class _Seen:
    def __init__(self, changes: Any) -> None:
        self.changes = changes


def test_conflict_keeps_the_box_and_says_so(desk: Any) -> None:
    def act(boxes: BoxServer) -> str:
        Path("file").write_text("old")
        line = ["/bin/sh", "-c", "echo up; read word; echo mine > file"]
        with boxes.popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            wait_for_the_next_tick()
            Path("file").write_text("theirs")
            process.communicate(b"go\n")
            with process.result() as result, pytest.raises(ConflictError):
                result.commit(["file"])
        return Path("file").read_text()

    assert with_server(desk, act) == "theirs"
    assert desk.boxes() == []


def wait_for_the_next_tick() -> None:
    """What is changed in the tick of the kernel's clock in which a box was started counts as seen by it."""
    began = time.time_ns()
    while True:
        Path("tick").write_text("")
        if os.stat("tick").st_ctime_ns > began:
            return


def read_or_nothing(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # the process has ended
        return b""


# --- waiting and signals ---------------------------------------------------------------------------------------------


def test_wait_ends_when_its_time_is_over_and_the_command_runs_on(desk: Any) -> None:
    def act(boxes: BoxServer) -> tuple[int | None, int | None]:
        with boxes.popen(["/bin/sh", "-c", "read word; exit 5"], stdin=subprocess.PIPE) as process:
            early = process.wait(0.05)
            process.communicate(b"go\n")
            return early, process.wait()

    assert with_server(desk, act) == (None, 5)


def test_signals_reach_the_command_and_kill_ends_the_box(desk: Any) -> None:
    script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"

    def start(boxes: BoxServer) -> BoxProcess:
        process = boxes.popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def act(boxes: BoxServer) -> list[int | None]:
        statuses = []
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
            with start(boxes) as process:
                process.send_signal(number)
                statuses.append(process.wait())
        return statuses

    assert with_server(desk, act) == [9, 143, 137]
    assert desk.boxes() == []


def test_what_the_command_leaves_running_ends_with_it(desk: Any) -> None:
    def act(boxes: BoxServer) -> list[str]:
        boxes.popen(["/bin/sh", "-c", "setsid sleep 1000.77 & exit 0"]).result()
        return [path for path in glob.glob("/proc/[0-9]*/cmdline") if b"1000.77" in read_or_nothing(path)]

    assert with_server(desk, act) == []


def test_process_that_is_closed_while_it_runs_is_ended(desk: Any) -> None:
    def act(boxes: BoxServer) -> None:
        boxes.popen(["sleep", "1000"]).close()

    with_server(desk, act)
    assert desk.boxes() == []


def test_many_boxes_are_alive_at_once(desk: Any) -> None:
    def act(boxes: BoxServer) -> set[int | None]:
        line = ["/bin/sh", "-c", "read word; echo $word > mine; cat mine"]
        alive = [boxes.popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(25)]
        for number, process in enumerate(alive):
            assert process.communicate(f"{number}\n".encode())[0] == f"{number}\n".encode()
        statuses = {process.wait() for process in alive}
        for process in alive:
            process.close()
        return statuses

    assert with_server(desk, act) == {0}
    assert desk.boxes() == []


def test_several_threads_share_a_server(desk: Any) -> None:
    def act(boxes: BoxServer) -> list[str]:
        said: list[str] = []
        threads = [threading.Thread(target=lambda: said.append(say(boxes, "echo hi"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return said

    assert with_server(desk, act) == ["hi\n"] * 8


def test_asyncio_runs_boxes_side_by_side_and_cancelling_ends_one(desk: Any) -> None:
    async def several(boxes: BoxServer) -> list[int]:
        lasting = asyncio.ensure_future(boxes.run_async(["sleep", "1000"]))
        lines = [boxes.run_async(["/bin/sh", "-c", f"exit {number}"]) for number in range(4)]
        results = await asyncio.gather(*lines)
        lasting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lasting
        for result in results:
            result.close()
        return [result.exit_status for result in results]

    assert with_server(desk, lambda boxes: asyncio.run(several(boxes))) == [0, 1, 2, 3]
    assert desk.boxes() == []


# --- who survives whom -----------------------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def open_living(pid: int) -> int | None:
    """A pidfd, None if the process has ended."""
    try:
        return pidfd_open(pid)
    except ProcessLookupError:
        return None


def server_pid() -> int:
    """The server's: as an ordinary user, its only child is what serves."""
    (pid,) = children_of(os.getpid())
    return pid if os.geteuid() == 0 else children_of(pid)[0]


def test_server_that_was_killed_is_told_truthfully_and_started_anew(desk: Any) -> None:
    def act(boxes: BoxServer) -> tuple[str, str]:
        say(boxes, "echo up")
        with boxes.popen(["sleep", "1000"]) as process:
            server = server_pid()
            firsts = [fd for pid in children_of(server) if (fd := open_living(pid)) is not None]
            os.kill(server, signal.SIGKILL)
            with pytest.raises(HostError) as caught:
                process.wait()
        for first in firsts:
            assert wait_for_pidfd(first, 60)
            os.close(first)
        return caught.value.message, say(boxes, "echo anew")

    message, said = with_server(desk, act)
    assert "server ended while the command ran" in message
    assert said == "anew\n"
    assert desk.boxes() == []


def test_box_whose_first_process_was_killed_has_ended_with_137(desk: Any) -> None:
    def act(boxes: BoxServer) -> int | None:
        with boxes.popen(["/bin/sh", "-c", "echo up; sleep 1000"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for child in children_of(server_pid()):
                if Path(f"/proc/{child}/comm").read_text() == "jubako-box\n":  # those that wait for a command too
                    os.kill(child, signal.SIGKILL)
            status = process.wait()
        assert say(boxes, "echo on") == "on\n"
        return status

    assert with_server(desk, act) == 137
    assert desk.boxes() == []


def test_server_goes_on_when_what_removes_boxes_was_killed(desk: Any) -> None:
    def act(boxes: BoxServer) -> str:
        say(boxes, "echo up")
        for child in children_of(server_pid()):
            with suppress(FileNotFoundError, ProcessLookupError):  # the first process of the box that was used ends
                if Path(f"/proc/{child}/comm").read_text() != "jubako-box\n":
                    os.kill(child, signal.SIGKILL)
        say(boxes, "echo up")
        return say(boxes, "echo on")

    assert with_server(desk, act) == "on\n"
    assert desk.do(lambda: sweep_boxes(desk.state.boxes_path)) is not None
    assert desk.boxes() == []


def test_program_that_is_killed_leaves_no_process_and_nothing_to_keep(desk: Any) -> None:
    def act() -> int:
        find_interpreter()
        boxes = BoxServer(state=desk.state, compiled=has_program(desk))
        say(boxes, "echo up")
        boxes.popen(["sleep", "1000"])
        return server_pid()

    pid = desk.do(act)  # its process has ended by now, and closed nothing
    server = open_living(pid)
    if server is not None:
        assert wait_for_pidfd(server, 60)
        os.close(server)
    assert desk.boxes() == []


def test_closed_server_says_so(desk: Any) -> None:
    def act() -> str:
        boxes = BoxServer(state=desk.state)
        boxes.close()
        boxes.close()
        with pytest.raises(InputError) as caught:
            boxes.run(["true"])
        return caught.value.message

    assert "closed" in desk.do(act)
