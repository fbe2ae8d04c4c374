"""Living boxes: what is written in them stays, programs come and go, and nothing is left of one that has ended."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.living.find import list_living
from jubako.boxes.living.keeper import CommandNotStarted
from jubako.boxes.living.living_box import LivingBox, create_box, find_box, living_boxes
from jubako.boxes.living.program import PIPE
from jubako.boxes.state import open_state_root
from jubako.errors import ConflictError, HostError, InputError

if TYPE_CHECKING:
    from tests.boxes.living.conftest import Nursery

pytestmark = pytest.mark.box
SLEEPER = ("sh", "-c", "trap 'echo told; exit 9' TERM; echo started; while :; do sleep 0.05; done")


def wait_until(box: LivingBox, condition: str) -> None:
    """Waits, in the box, until a test of the shell holds."""
    assert box.run(["sh", "-c", f"until [ {condition} ]; do sleep 0.01; done"]) == 0


def wait_for_log(box: LivingBox, text: str) -> str:
    log = Path(box.directory, "log")
    while text not in log.read_text():
        os.sched_yield()
    return log.read_text()


def test_what_is_written_in_a_box_outlives_stop_and_start(nursery: Nursery) -> None:
    def use() -> tuple[str, list[str], str, str]:
        box = nursery.create(name="web")
        nursery.read(box, "echo one > one; rm -f kept-away")
        box.stop()
        with box.start_program(["cat", "one"], stdio=(0, PIPE, 2)) as program:
            first = program.communicate()[0].decode()
        phase = box.found.phase
        box.start()
        second = nursery.read(box, "cat one; echo two > two; cat two")
        return first, sorted(os.path.basename(change.path) for change in box.changes()), phase, second

    assert nursery.do(use) == ("one\n", ["one", "two"], "stopped", "one\ntwo\n")
    assert list(nursery.desk.home.iterdir()) == []


def test_programs_get_the_callers_descriptors_and_no_others_and_their_statuses_come_back(nursery: Nursery) -> None:
    def use() -> tuple[str, list[int]]:
        box = nursery.create()
        listing = nursery.read(box, "ls /proc/self/fd; id -u; echo $JUBAKO_BOX")
        statuses = [box.run(["sh", "-c", script]) for script in ("exit 0", "exit 3", "kill -9 $$")]
        return listing.replace(box.id, "ID"), statuses

    listing, statuses = nursery.do(use)
    uid = nursery.do(os.geteuid)
    assert listing == f"0\n1\n2\n3\n{uid}\nID\n"  # 3 is the directory that ls reads
    assert statuses == [0, 3, 137]


def test_programs_run_beside_each_other(nursery: Nursery) -> None:
    def use() -> tuple[bytes, int]:
        box = nursery.create()
        with box.start_program(["sh", "-c", "read line < meet; echo $line"], stdio=(0, PIPE, 2)) as one:
            nursery.read(box, "until [ -p meet ]; do [ -e meet ] || mkfifo meet; done 2>/dev/null; echo met > meet")
            return one.communicate()[0], len(living_boxes(nursery.desk.state))

    def prepare_and_use() -> tuple[bytes, int]:
        os.mkfifo("meet")
        return use()

    assert nursery.do(prepare_and_use) == (b"met\n", 1)


def test_command_that_cannot_be_executed_says_why_and_leaves_no_box(nursery: Nursery) -> None:
    def use() -> list[tuple[str, int]]:
        said = []
        Path("plain").write_text("text")
        for words in (["no-such-program"], ["./plain"]):
            with pytest.raises(CommandNotStarted) as caught:
                nursery.create(words, name="web")
            said.append((caught.value.message, caught.value.exit_status))
        box = nursery.create(name="web")
        with pytest.raises(CommandNotStarted) as caught:
            box.run(["no-such-program"])
        said.append((caught.value.message, caught.value.exit_status))
        with pytest.raises(CommandNotStarted, match="the working directory /nowhere cannot be entered in the box"):
            box.run(["true"], cwd="/nowhere")
        box.remove(force=True)
        return said

    assert nursery.do(use) == [
        ("cannot run 'no-such-program': No such file or directory", 127),
        ("cannot run './plain': Permission denied", 126),
        ("cannot run 'no-such-program': No such file or directory", 127),
    ]
    assert nursery.desk.boxes() == ["names"]


def test_main_command_logs_and_its_end_is_the_boxes(nursery: Nursery) -> None:
    def use() -> tuple[str, str, int | None, int]:
        os.mkfifo("gate")
        box = nursery.create(["sh", "-c", "echo out; echo err >&2; read x < gate; exit 7"])
        with box.start_program(["sh", "-c", "echo open > gate; sleep 1000"]) as other:
            killed = other.wait()
        found = box.found
        return Path(box.directory, "log").read_text(), found.phase, found.living.exit_status, killed

    assert nursery.do(use) == ("out\nerr\n", "exited", 7, 137)


def test_stop_gives_the_main_command_time_and_then_kills(nursery: Nursery) -> None:
    def use() -> list[object]:
        polite, stubborn = nursery.create(SLEEPER), nursery.create(["sh", "-c", "trap '' TERM; echo started; sleep 99"])
        wait_for_log(polite, "started")
        wait_for_log(stubborn, "started")
        stopped = [polite.stop(grace_s=60), stubborn.stop(grace_s=0.1), polite.stop()]
        found = [polite.found, stubborn.found]
        return [stopped, [(one.phase, one.living.exit_status) for one in found], wait_for_log(polite, "told")]

    assert nursery.do(use) == [[True, True, False], [("stopped", 9), ("stopped", None)], "started\ntold\n"]


def test_stop_of_a_box_without_a_main_command_ends_everything_in_it(nursery: Nursery) -> None:
    def use() -> tuple[int, bool]:
        box = nursery.create()
        with box.start_program(["sleep", "1000"]) as program:
            box.stop(grace_s=60)
            return program.wait(), box.is_running

    assert nursery.do(use) == (143, False)


def test_program_whose_caller_goes_away_gets_sighup(nursery: Nursery) -> None:
    def use() -> None:
        box = nursery.create()
        script = "trap 'echo > hung-up; exit' HUP; echo ready; while :; do sleep 0.05; done"
        with box.start_program(["sh", "-c", script], stdio=(0, PIPE, 2)) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
        wait_until(box, "-e hung-up")

    nursery.do(use)


def test_detached_program_stays_when_its_caller_goes(nursery: Nursery) -> None:
    def use() -> str:
        box = nursery.create()
        with box.start_program(["sh", "-c", "read x < gate; echo $x > passed"], detach=True):
            pass
        nursery.read(box, "echo on > gate")
        wait_until(box, "-s passed")
        return nursery.read(box, "cat passed")

    def prepare_and_use() -> str:
        os.mkfifo("gate")
        return use()

    assert nursery.do(prepare_and_use) == "on\n"


def test_signal_reaches_the_whole_process_group(nursery: Nursery) -> None:
    def use() -> int:
        box = nursery.create()
        with box.start_program(["sh", "-c", "sh -c 'echo ready; sleep 1000'; exit 1"], stdio=(0, PIPE, 2)) as program:
            assert program.stdout is not None
            program.stdout.readline()
            program.send_signal(signal.SIGTERM)
            return program.wait()

    assert nursery.do(use) == 143


def test_box_started_for_one_program_ends_with_it_and_kills_what_that_left(nursery: Nursery) -> None:
    def use() -> tuple[str, str, bool]:
        box = nursery.create(["sh", "-c", "echo main"])
        wait_for_log(box, "main")
        while box.is_running:
            os.sched_yield()
        before = box.found.phase
        nursery.read(box, "sleep 1000 > /dev/null 2>&1 & echo done")
        box.stop(grace_s=0)
        return before, box.found.phase, box.is_running

    assert nursery.do(use) == ("exited", "exited", False)


def test_name_can_be_taken_once_and_is_free_again_afterwards(nursery: Nursery) -> None:
    def use() -> tuple[str, str, str]:
        box = nursery.create(name="web")
        with pytest.raises(ConflictError) as caught:
            nursery.create(name="web")
        found = find_box("web", nursery.desk.state).id
        box.remove(force=True)
        with pytest.raises(InputError, match="there is no box 'web'"):
            find_box("web", nursery.desk.state)
        again = nursery.create(name="web")
        return caught.value.message.replace(box.id, "ID"), found.replace(box.id, "ID"), again.name

    assert nursery.do(use) == ("there is a box 'web' already (ID)", "ID", "web")


def test_two_at_once_do_not_get_the_same_name(nursery: Nursery) -> None:
    def use() -> list[str]:
        answers: list[str] = []
        read_end, write_end = os.pipe()
        for _ in range(4):
            if os.fork() == 0:
                try:
                    nursery.create(name="web")
                    os.write(write_end, b"made\n")
                except ConflictError:
                    os.write(write_end, b"refused\n")
                finally:
                    os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            answers = pipe.read().split()
        for _ in range(4):
            os.wait()
        return sorted(answers)

    assert nursery.do(use) == ["made", "refused", "refused", "refused"]
    assert len(nursery.desk.boxes()) == 2  # the box and the folder of names


def test_removing_needs_a_stop_or_force(nursery: Nursery) -> None:
    def use() -> str:
        box = nursery.create(name="web")
        with pytest.raises(ConflictError) as caught:
            box.remove()
        box.remove(force=True)
        return caught.value.message

    assert nursery.do(use) == "box web is running"
    assert nursery.desk.boxes() == ["names"]


def test_changes_are_committed_when_it_is_stopped_and_the_box_stays(nursery: Nursery) -> None:
    def use() -> tuple[str, list[str], list[str]]:
        box = nursery.create(name="web")
        nursery.read(box, "echo one > one; echo two > two")
        with pytest.raises(ConflictError) as caught:
            box.commit(["one"])
        box.stop()
        with pytest.raises(InputError, match="changed nothing at or below"):
            box.commit(["three"])
        published = [os.path.basename(change.path) for change in box.commit(["one"]).plan.published]
        left = [os.path.basename(change.path) for change in box.changes()]
        box.start()
        assert nursery.read(box, "cat one two") == "one\ntwo\n"
        return caught.value.message, published, left

    message, published, left = nursery.do(use)
    assert message == "box web is running, and what it holds changes"
    assert (published, left) == (["one"], ["two"])
    assert [path.read_text() for path in nursery.desk.home.iterdir()] == ["one\n"]


def test_box_begins_with_what_another_holds(nursery: Nursery) -> None:
    def use() -> tuple[str, list[str], str]:
        with nursery.desk.run("echo kept > kept; rm gone", keep=True) as result:
            kept = result.keep()
        box = nursery.create(name="one", origins=[kept])
        seen = nursery.read(box, "cat kept; ls; echo more > more")
        with pytest.raises(InputError) as caught:
            nursery.create(origins=["one"])
        box.stop()
        second = nursery.create(origins=["one"])
        changes = sorted(os.path.basename(change.path) for change in second.changes())
        return seen + nursery.read(second, "cat more"), changes, caught.value.message

    def prepare_and_use() -> tuple[str, list[str], str]:
        Path("gone").write_text("was here")
        return use()

    assert nursery.do(prepare_and_use) == (
        "kept\nkept\nmore\n",
        ["gone", "kept", "more"],
        "box one is running, and what it holds changes",
    )


def test_box_lies_on_directories_the_last_one_on_top(nursery: Nursery) -> None:
    def use() -> tuple[str, list[str], str]:
        home = os.path.realpath(".")
        for name in ("lower", "upper"):
            Path(f"{name}{home}/below").mkdir(parents=True)
            Path(f"{name}{home}/below/both").write_text(f"{name}\n")
            Path(f"{name}{home}/below/{name}").write_text("")
        box = nursery.create(origins=["./lower", "./upper"])
        seen = nursery.read(box, "cd below; cat both; ls; echo own >> both; rm lower")
        box.stop()
        again = nursery.read(box, "cd below; cat both; ls")
        return seen + again, sorted(os.listdir(f"lower{home}/below")), Path(f"upper{home}/below/both").read_text()

    assert nursery.do(use) == (
        "upper\nboth\nlower\nupper\nupper\nown\nboth\nupper\n",
        ["both", "lower"],
        "upper\n",
    )


def test_terminal_is_the_boxes_own_and_shells_have_job_control(nursery: Nursery) -> None:
    def use() -> str:
        box = nursery.create()
        with box.start_program(["sh", "-c", "tty; set -m; sleep 0.01 & wait $!; echo $?; exit 4"], tty=True) as program:
            assert program.terminal is not None
            status = program.wait()
            said = b""
            while said.count(b"\n") < 2 and select.select([program.terminal], [], [], 60)[0]:  # the kernel passes it on
                said += os.read(program.terminal, 4096)  # in pieces, when it comes to it
            return said.decode() + str(status)

    assert nursery.do(use) == "/dev/pts/0\r\n0\r\n4"


def test_pid_1_cannot_be_looked_into_and_the_socket_answers_nobody_inside(nursery: Nursery) -> None:
    script = """
import os, socket
for name in ("fd/0", "fd/1", "mem", "environ", "root/tmp"):
    try:
        print(name, os.open(f"/proc/1/{name}", os.O_RDONLY))
    except PermissionError:
        print(name, "closed")
line = socket.socket(socket.AF_UNIX)
line.connect("/proc/self/fd/5/control")
try:
    line.sendall(b"\\0\\0\\0\\x12" + b'{"ask": "members"}')
    print(line.recv(100))
except (ConnectionResetError, BrokenPipeError):
    print(b"")
"""

    def use() -> str:
        box = nursery.create()
        directory = os.open(box.directory, os.O_RDONLY)
        command = ["sh", "-c", 'exec /usr/bin/python3 -I -c "$0" 5<&0 < /dev/null', script]
        with box.start_program(command, stdio=(directory, PIPE, PIPE)) as program:
            out, err = program.communicate()
        os.close(directory)
        return (out + err).decode()

    assert nursery.do(use) == ("fd/0 closed\nfd/1 closed\nmem closed\nenviron closed\nroot/tmp closed\nb''\n")


@pytest.mark.parametrize("victim", ["keeper", "pid 1"])
def test_killed_box_says_so_leaves_no_process_and_starts_again(nursery: Nursery, victim: str) -> None:
    def use() -> tuple[str, int, str, str]:
        box = nursery.create(name="web")
        nursery.read(box, "echo one > one")
        with box.start_program(["sleep", "1000"]) as program:
            keeper = box.found.living.keeper
            os.kill(keeper if victim == "keeper" else find_first(keeper), signal.SIGKILL)
            status = program.wait()
        phase = box.found.phase
        errand = nursery.read(box, "cat one")
        box.start()
        return phase, status, errand, box.found.phase

    assert nursery.do(use) == ("killed", 137, "one\n", "running")


def find_first(keeper: int) -> int:
    """The pid, out here, of the pid 1 of the box."""
    pid = keeper
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children or len(Path(f"/proc/{pid}/status").read_text().split("NSpid:")[1].splitlines()[0].split()) > 1:
            return pid
        pid = int(children[0])


def test_twenty_boxes_live_at_once(nursery: Nursery) -> None:
    def use() -> tuple[int, set[str]]:
        made = [nursery.create().name for _ in range(20)]
        boxes = living_boxes(nursery.desk.state)
        return len(set(made)), {box.found.phase for box in boxes}

    assert nursery.do(use) == (20, {"running"})


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\3abc",
        b'\0\0\0\x10{"ask": "what?"}',
        b'\0\0\0\x10{"ask": "spawn"}',
        b'\0\0\0\x0f{"ask": "stop"}',
        b'\0\0\0\x0d{"signal": 9}',
        b"\0\0\0\2[]",
        b"\0",
    ],
    ids=repr,
)
def test_box_survives_whoever_talks_nonsense(nursery: Nursery, data: bytes) -> None:
    def use() -> tuple[bool, str]:
        box = nursery.create()
        with box.reach() as line:
            line.socket.sendall(data)
            line.socket.shutdown(1)
            line.wait_for_end()
        return box.is_running, nursery.read(box, "echo well")

    assert nursery.do(use) == (True, "well\n")


def test_record_that_cannot_be_read_is_said_and_no_other_box_is_lost_for_it(nursery: Nursery) -> None:
    def use() -> list[str]:
        box = nursery.create(name="web")
        box.stop()
        record = Path(box.directory, "living.json")
        whole = record.read_text()
        record.write_text(whole.replace('"version": 1', '"version": 99'))
        found, unreadable = list_living(nursery.desk.state)
        record.write_text(whole)
        return [str(len(found)), *(said.replace(box.id, "ID").rpartition(": ")[2] for said in unreadable)]

    assert nursery.do(use) == ["0", "version 99, this jubako reads 1"]


def test_full_disk_leaves_no_half_of_a_box(in_namespace: Callable[[Callable[[], object]], object]) -> None:
    def use() -> tuple[str, list[str]]:
        os.mkdir("state")
        state = open_state_root(os.path.abspath("state"))
        with open("filler", "wb") as filler:
            try:
                while True:
                    filler.write(b"\0" * 65536)
                    filler.flush()
            except OSError:
                pass
        with pytest.raises(HostError) as caught:
            create_box(name="web", state=state)
        os.unlink("filler")
        return type(caught.value).__name__, [name for name in os.listdir("state/boxes") if name != "names"]

    name, left = in_namespace(use)  # type: ignore[misc]
    assert name in ("HostError", "NotStarted")
    assert left == []
