"""`jubako nsenter` beside nsenter(1) of util-linux, into the namespaces of processes made for it."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from beside_util_linux import IS_ROOT, NOBODY, USERS, Ran, User
from bystander import bystander
from jubako.boxes.namespaces.enter import run_entered
from jubako.boxes.namespaces.enter_options import OF_TARGET, Enter
from jubako.cli.nsenter_line import parse_nsenter
from jubako.errors import HostError, InputError
from jubako.kernel.namespaces import CLONE_NEWNET, CLONE_NEWUTS, sethostname, setns, unshare

pytestmark = pytest.mark.box
of_root = pytest.mark.skipif(not IS_ROOT, reason="only root may do this")

INNER = "hostname inner; mount -t tmpfs none /mnt; mkdir /mnt/below; cd /mnt/below; echo $$; read line"
BOTH = [
    "-t {pid} --all sh -c 'hostname; ls /mnt; echo $$; id'",
    "-t {pid} -U -m -u ls /mnt",
    "-t {pid} -U -m -u --wd pwd",
    "-t {pid} -U -m -r -w pwd",
    "-t {pid} -U -m -W/mnt/below pwd",
    "-t {pid} -U -m --wdns=/mnt/below pwd",
    "-t {pid} -U -m -W/nowhere pwd",
    "-t {pid} -U -p sh -c 'echo $$'",
    "-t {pid} -U -p -F sh -c 'true; exit 3'",
    "-t {pid} -U --preserve-credentials id",
    "-t {pid} -U id",
    "-t {pid} -U -S 0 -G 0 id",
    "-t {pid} -U -S 7 id",
    "-t {pid} -u hostname",
    "-t {pid} --user=/proc/{pid}/ns/user -u hostname",
    "-t {pid} -a sh -c 'exit 9'",
    "-t {pid} -a sh -c 'kill -TERM $$'",
    "-t {pid} -a nosuch",
    "-t {pid} -a /etc/passwd",
    "-t {pid} --uts=/proc/self/ns/mnt true",
    "-u true",
    "-a true",
    "-t 4194304 -a true",
    "-t 0 -u true",
    "-t x -u true",
    "-t {pid} --nonsense true",
    "-t {pid} -U -m --wd=/ --wdns=/ true",
    "--uts=/nowhere true",
    "-t {pid} -U --root=/nowhere true",
]


@pytest.fixture(scope="module", params=USERS, ids=lambda uid: "root" if uid == 0 else "rootless")
def user(request: pytest.FixtureRequest) -> User:
    return User(request.param)


@pytest.fixture(scope="module")
def target(user: User) -> Iterator[int]:
    """A process of the user with namespaces of its own, of a user namespace where it is root."""
    held = subprocess.Popen(
        user.become(["unshare", "-rmupif", "--mount-proc", "sh", "-c", INNER]),
        env=user.environment | {"WHO": "the target"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "1\n"
    (pid,) = Path(f"/proc/{held.pid}/task/{held.pid}/children").read_text().split()
    yield int(pid)
    held.communicate("\n")


@pytest.mark.parametrize("line", BOTH)
def test_line_prints_and_ends_as_it_does_with_util_linux(line: str, user: User, target: int) -> None:
    theirs, ours = user.run(f"nsenter {line.format(pid=target)}"), ran_by_us(user.uid, target)[line]
    assert (ours.code, without_pids(ours.out)) == (theirs.code, without_pids(theirs.out)), ours.err
    assert bool(ours.err) == bool(theirs.err), ours.err
    assert "Traceback" not in ours.err


@functools.cache
def ran_by_us(uid: int, target: int) -> dict[str, Ran]:
    lines = [f"jubako nsenter {line.format(pid=target)}" for line in BOTH]
    return dict(zip(BOTH, User(uid).run_all(lines), strict=True))


def without_pids(text: str) -> list[str]:
    """Inside, pids go on counting."""
    return [line for line in text.splitlines() if not line.isdigit()]


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("-u true", "--uts: of which process? Add --target PID, or name a file", ""),
        ("-t 4194304 -u true", "there is no process 4194304: pidfd_open: No such process", ""),
        (
            "-t {pid} -U --preserve-credentials -S 7 true",
            "cannot set the user id 7: setuid: Invalid argument",
            "mapped",
        ),
        ("--uts=/proc/self/ns/mnt true", "cannot enter the uts namespace: setns: Invalid argument", "Be root"),
        ("--uts=/nowhere true", "cannot open the uts namespace: open: No such file or directory: /nowhere", ""),
    ],
)
def test_error_names_step_call_path_and_cure(line: str, error: str, hint: str, user: User, target: int) -> None:
    done = user.run(f"jubako nsenter {line.format(pid=target)}")
    assert done.code == 1
    assert error in done.err
    assert hint in done.err


@of_root
def test_ordinary_user_cannot_enter_what_is_roots() -> None:
    done = User(NOBODY).run("jubako nsenter -t 1 -u true")
    assert done.code == 1
    assert "open: Permission denied: /proc/1/ns/uts" in done.err
    assert "by root only" in done.err


# --- newer than the util-linux this may run beside --------------------------------------------------------------------


def test_ids_of_the_target_are_followed(user: User, target: int) -> None:
    assert user.run(f"jubako nsenter -t {target} -U --preserve-credentials -S follow id -u").out == "0\n"


def test_environment_is_that_of_the_target(user: User, target: int) -> None:
    done = user.run(f"jubako nsenter -t {target} -U --preserve-credentials -e sh -c 'echo $WHO'")
    assert done.out == "the target\n"


@of_root
def test_ordinary_user_is_told_how_to_enter_where_groups_cannot_be_dropped() -> None:
    held = User(NOBODY).become(["unshare", "-r", "sh", "-c", "echo; read line"])
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as target:
        assert target.stdout is not None
        target.stdout.readline()
        done = User(NOBODY).run(f"jubako nsenter -t {target.pid} -U true")
        target.communicate("\n")
    assert "cannot drop the groups: setgroups: Operation not permitted" in done.err
    assert "--preserve-credentials" in done.err


def test_capabilities_are_kept(user: User, target: int) -> None:
    shown = user.run(f"jubako nsenter -t {target} -U --preserve-credentials --keep-caps grep CapAmb /proc/self/status")
    assert int(shown.out.split()[1], 16) != 0


def test_namespace_that_owns_the_others_is_found(user: User, target: int) -> None:
    done = user.run(f"jubako nsenter -t {target} --user-parent -u --preserve-credentials readlink /proc/self/ns/user")
    # The target is one of a child namespace, and what owns its mount namespace is that.
    theirs = user.run(f"nsenter -t {target} -U -u --preserve-credentials readlink /proc/self/ns/user")
    assert done.out == theirs.out != ""


@of_root
def test_network_namespace_of_a_socket_is_entered() -> None:
    def prepare() -> None:
        outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        with socket.socket() as inside:
            os.dup2(inside.fileno(), 77)
        setns(outside)

    with bystander(prepare) as pid:
        inside = User(0).run(f"jubako nsenter -t {pid} --net-socket 77 readlink /proc/self/ns/net")
        refused = User(0).run(f"jubako nsenter -t {pid} --net-socket 0 true")
    assert inside.out.startswith("net:[")
    assert inside.out.strip() != os.readlink("/proc/self/ns/net")
    assert "ioctl SIOCGSKNS" in refused.err


def test_stopped_program_stops_who_waits_for_it(user: User, target: int) -> None:
    words = user.command(f"jubako nsenter -t {target} -U -p --preserve-credentials sh -c")
    held = subprocess.Popen([*words, "kill -STOP $$; exit 4"], env=user.environment, cwd="/")
    _, status = os.waitpid(held.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    held.send_signal(signal.SIGCONT)
    assert held.wait() == 4


# --- from Python ------------------------------------------------------------------------------------------------------


@of_root
def test_program_is_run_in_the_namespaces_of_a_process() -> None:
    def prepare() -> None:
        unshare(CLONE_NEWUTS)
        sethostname("elsewhere")

    with bystander(prepare) as pid:
        assert (
            run_entered(["sh", "-c", 'test "$(hostname)" = elsewhere && exit 5'], Enter(target=pid, kinds=["uts"])) == 5
        )
        with pytest.raises(HostError, match="cannot open the root directory: open: No such file"):
            run_entered(["true"], Enter(target=pid, kinds=["uts"], root="/nowhere"))


def test_everything_that_needs_a_target_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        run_entered(["true"], Enter(kinds=["uts"], root=OF_TARGET, uid=OF_TARGET, directory="/", directory_inside="/"))
    assert caught.value.message == (
        "--uts, --root, --setuid follow: of which process? Add --target PID, or name a file; "
        "--wd and --wdns exclude each other"
    )


def test_value_behind_a_letter_may_have_an_equals_sign() -> None:
    assert parse_nsenter(["-m=/f", "-r/x", "cmd"]) == parse_nsenter(["--mount=/f", "--root=/x", "cmd"])
