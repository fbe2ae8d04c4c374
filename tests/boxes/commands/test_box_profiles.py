"""Boxes of each profile, for real, as root and as an ordinary user: what runs in them sees, and what it may do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from interpreter import find_interpreter
from jubako.boxes.commands.confine import NotStarted
from jubako.boxes.commands.launch import run_in_box
from jubako.boxes.commands.session import BoxSession
from jubako.boxes.commands.user_namespaces import find_identity_namespace
from jubako.boxes.living.living_box import create_box
from jubako.boxes.mounts import Bind
from jubako.boxes.secrets import BoxSecret
from jubako.boxes.serving.client import BoxServer
from jubako.boxes.spec import Box, Host
from jubako.errors import InputError
from jubako.kernel.capabilities import capget
from jubako.kernel.namespaces import CLONE_NEWUSER
from jubako.kernel.seccomp import Rule, compile_filter, install_filter

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk

pytestmark = pytest.mark.box
FIELDS = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2"


def whole(**options: Any) -> Box:
    return Box(Host(whole=True), **options)


def is_root(desk: Desk) -> bool:
    return desk.do(os.geteuid) == 0


# --- task ------------------------------------------------------------------------------------------------------------


def test_command_is_in_a_user_namespace_of_its_own_with_the_ids_of_outside(desk: Desk) -> None:
    seen = desk.see("readlink /proc/self/ns/user; id -u; cut -c-32 /proc/self/uid_map; touch mine; stat -c %u mine")
    namespace, uid, *_, owner = seen.output.splitlines()
    assert namespace != os.readlink("/proc/self/ns/user")
    assert uid == owner == str(desk.do(os.geteuid))
    if is_root(desk):
        assert seen.output.splitlines()[2].split() == ["0", "0", "4294967295"]


def test_root_installs_files_of_other_users_with_capabilities_of_files(desk: Desk) -> None:
    if not is_root(desk):
        return
    seen = desk.see(
        "cp /bin/true t; chown 1234:5678 t; stat -c '%u %g' t; chmod u+s t; setcap cap_net_raw+ep t; getcap t"
    )
    assert seen.output == "1234 5678\nt cap_net_raw=ep\n"


def test_root_who_asks_for_a_capability_by_name_has_that_of_the_machine(desk: Desk) -> None:
    if not is_root(desk):
        return
    seen = desk.see("readlink /proc/self/ns/user", whole(capabilities=["CAP_NET_RAW"]))
    assert seen.output.strip() == os.readlink("/proc/self/ns/user")


def test_user_namespace_is_one_for_all_boxes_of_a_process_and_made_anew_when_it_was_closed(desk: Desk) -> None:
    if not is_root(desk):
        return

    def see() -> tuple[bool, bool]:
        first = find_identity_namespace()
        is_same = find_identity_namespace() == first
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, first)  # as who closes all that is open, and opens something else
        again = find_identity_namespace()
        return is_same, os.readlink(f"/proc/self/fd/{again}").startswith("user:")

    assert desk.do(see) == (True, True)


def test_port_below_1024_of_a_network_of_its_own_is_roots(desk: Desk) -> None:
    script = "import socket; s = socket.create_server(('127.0.0.1', 80)); print('listens')"
    seen = desk.see(["/usr/bin/python3", "-c", script], whole(network="none"))
    assert ("listens" in seen.output) == is_root(desk)


# --- strict ----------------------------------------------------------------------------------------------------------


def test_strict_box_shows_no_homes_and_takes_no_changes(desk: Desk) -> None:
    desk.do(lambda: Path("key").write_text("mine"))
    script = (
        f"ls -A {desk.home} /home /sys | grep -c -v :; echo x > /etc/x; echo y > /x; echo z > /tmp/z; cat /tmp/z; pwd"
    )
    seen = desk.see(script, whole(profile="strict", cwd="/"))
    lines = seen.output.splitlines()
    assert "key" not in seen.output
    assert sum("Read-only file system" in line for line in lines) == 2
    assert lines[-2:] == ["z", "/"]
    assert seen.changes == {}
    assert not Path("/tmp/z").exists()


def test_strict_box_reads_and_writes_what_it_is_given(desk: Desk) -> None:
    def prepare() -> None:
        Path("project").mkdir()
        Path("project/in").write_text("given\n")
        Path("other").write_text("other\n")

    desk.do(prepare)
    home = desk.home
    box = whole(
        profile="strict",
        binds=[f"{home}/project"],
        mounts=[Bind(f"{home}/other", "/given/deep/other", read_only=True)],
        cwd=f"{home}/project",
    )
    seen = desk.see(f"cat in /given/deep/other; echo out > out; echo x > /given/deep/other; ls {home}", box)
    assert seen.output.startswith("given\nother\n")
    assert "Read-only file system" in seen.output
    assert seen.output.endswith("project\n")
    assert (home / "project/out").read_text() == "out\n"
    assert (home / "other").read_text() == "other\n"


def test_strict_box_has_neither_rights_devices_nor_network(desk: Desk) -> None:
    seen = desk.see(f"{FIELDS}; ls /dev; tail -n +3 /proc/net/dev | cut -d: -f1", whole(profile="strict", cwd="/"))
    rights, no_new, filtered, *names = seen.output.split()
    assert (int(rights, 16), no_new, filtered) == (0, "1", "2")
    assert set(names) - {"fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm"} == {
        *("full", "null", "random", "urandom", "zero", "lo"),
    }


def test_strict_box_runs_ordinary_programs(desk: Desk) -> None:
    script = (
        "import concurrent.futures, hashlib, json, os, socket, sqlite3, subprocess, tempfile, threading, time\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    with sqlite3.connect(folder + '/db') as db: db.execute('create table t (a)')\n"
        "    print(subprocess.run(['sort'], input=b'b\\na\\n', capture_output=True).stdout)\n"
        "    server = socket.create_server(('127.0.0.1', 0))\n"
        "    socket.create_connection(server.getsockname()).close()\n"
        "    with concurrent.futures.ProcessPoolExecutor(2) as pool: print(list(pool.map(abs, [-1, -2])))\n"
        "    os.mkfifo(folder + '/fifo'); os.link(folder + '/db', folder + '/link'); time.sleep(0.001)\n"
    )
    seen = desk.see(["/usr/bin/python3", "-c", script], whole(profile="strict", cwd="/tmp"))
    assert seen.output == "b'a\\nb\\n'\n[1, 2]\n"


def test_strict_box_has_no_sockets_of_other_families_and_other_calls_are_refused(desk: Desk) -> None:
    script = (
        "import ctypes, errno, socket\n"
        "for family in (socket.AF_VSOCK, socket.AF_PACKET, 38):\n"
        "    try: socket.socket(family, socket.SOCK_STREAM)\n"
        "    except OSError as error: print(errno.errorcode[error.errno])\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for number in (135, 317, 250, 999):\n"  # personality, seccomp, keyctl on x86-64; none
        "    print(libc.syscall(number, 1, 2, 3), errno.errorcode.get(ctypes.get_errno()))\n"
    )
    if os.uname().machine == "x86_64":
        seen = desk.see(["/usr/bin/python3", "-c", script], whole(profile="strict", cwd="/tmp"))
        assert seen.output.split() == [
            *["EAFNOSUPPORT"] * 3,
            *("-1", "EPERM", "-1", "EFAULT", "-1", "EPERM", "-1", "ENOSYS"),
        ]


def test_strict_box_is_told_where_it_cannot_start(desk: Desk) -> None:
    def run() -> str:
        try:
            desk.run("true", whole(profile="strict", cwd=f"{desk.home}/project"))
        except InputError as error:
            return error.hint
        return ""

    desk.do(lambda: Path("project").mkdir())
    assert "with --profile strict, no home" in desk.do(run)


@pytest.mark.parametrize("how", [{"keep": True}, {"commit": ["/tmp"]}])
def test_strict_box_can_be_neither_kept_nor_committed(desk: Desk, how: dict[str, Any]) -> None:
    def run() -> str:
        try:
            desk.run("true", whole(profile="strict"), **how)
        except InputError as error:
            return error.message
        return ""

    assert "holds nothing that could be kept or committed" in desk.do(run)


def test_strict_box_of_root_can_be_another_users(desk: Desk) -> None:
    if is_root(desk):
        seen = desk.see(
            "id -u; cat /etc/shadow; echo x > /tmp/x && cat /tmp/x", whole(profile="strict", user="1234", cwd="/")
        )
        assert seen.output.splitlines()[::2] == ["1234", "x"]
        assert "Permission denied" in seen.output


# --- trusted ---------------------------------------------------------------------------------------------------------


def test_trusted_box_traces_and_nests(desk: Desk) -> None:
    seen = desk.see(f"{FIELDS}; unshare -U id -u; echo x > new", whole(profile="trusted"))
    rights, no_new, filtered, inner = seen.output.split()
    assert (no_new, filtered, inner) == ("1", "0", "65534")
    assert int(rights, 16) == (capget().permitted if is_root(desk) else 0)
    assert seen.changes == {"new": "added"}


# --- system ----------------------------------------------------------------------------------------------------------


def test_init_is_the_first_process_and_mounts_and_becomes_others_and_changes_files(desk: Desk) -> None:
    script = (
        "echo $$; id -u; mount -t tmpfs none /mnt && echo mounted; hostname inner && hostname; echo x > new;"
        "umount /proc 2>/dev/null || echo kept; exit 7"
    )
    seen = desk.see(script, whole(profile="system", network="none", hostname="outer"))
    assert seen.output.split() == ["1", "0", "mounted", "inner", "kept"]
    assert seen.status == 7
    assert seen.changes == {"new": "added"}


def test_init_has_rights_over_nothing_of_the_machine(desk: Desk) -> None:
    script = (
        "echo 1 > /proc/sys/kernel/printk; mknod /tmp/null c 1 3; date -s 2000-01-01; mount -t proc none /mnt;"
        "mount -o remount,rw /sys; /usr/sbin/chroot / true && echo chroot; test -e /tmp/null || echo none"
    )
    seen = desk.see(script, whole(profile="system"))
    refused = [line for line in seen.output.splitlines() if "chroot" not in line and line != "none"]
    assert len([line for line in refused if "denied" in line or "not permitted" in line or "Read-only" in line]) >= 4
    assert seen.output.splitlines()[-2:] == ["chroot", "none"]


def test_init_reaps_orphans_and_takes_everything_with_it(desk: Desk) -> None:
    init = (
        "import os\nif os.fork() == 0:\n  if os.fork() == 0: os._exit(3)\n  os._exit(0)\n"
        "print(os.wait()[1], os.wait()[1] >> 8)"
    )
    seen = desk.see(["/usr/bin/python3", "-c", init], whole(profile="system"))
    assert seen.output == "0 3\n"


def test_init_has_no_descriptors_but_the_three(desk: Desk) -> None:
    seen = desk.see("ls /proc/1/fd; ls /proc/self/fd", whole(profile="system"))
    assert seen.output.split() == ["0", "1", "2", "0", "1", "2", "3"]  # 3: what lists them


def test_init_that_cannot_be_executed_is_named(desk: Desk) -> None:
    seen = desk.see(["/sbin/no-such-init"], whole(profile="system"))
    assert (seen.status, seen.error) == (127, "cannot run '/sbin/no-such-init': No such file or directory")


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_secrets_are_files_of_the_commands_user_alone_and_leave_the_environment(desk: Desk) -> None:
    desk.do(lambda: Path("token").write_text("hunter2"))
    box = whole(secrets=[BoxSecret("token", file=f"{desk.home}/token"), BoxSecret("key", variable="KEY")])
    script = (
        "cat /run/secrets/*; stat -c %a%u /run/secrets/*; echo x > /run/secrets/token; env | grep -c KEY;"
        "grep ramfs /proc/mounts"
    )
    seen = desk.see(script, box, environment={"PATH": os.defpath, "KEY": "sesame"})
    uid = desk.do(os.geteuid)
    lines = seen.output.splitlines()
    assert lines[:2] == [f"sesamehunter2400{uid}", f"400{uid}"]
    assert "Read-only file system" in lines[2] or "Permission denied" in lines[2]
    assert lines[3] == "0"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(lines[4].split()[3].split(","))
    assert seen.changes == {}


def test_secrets_of_a_box_with_a_user_are_that_users(desk: Desk) -> None:
    if is_root(desk):
        seen = desk.see("cat /run/secrets/a; id -u", whole(user="1234", secrets=[BoxSecret("a", value=b"mine ")]))
        assert seen.output == "mine 1234\n"


def test_secrets_are_in_every_kind_of_box_that_can_have_them(desk: Desk) -> None:
    desk.do(lambda: Path("token").write_text("hunter2"))

    def see() -> list[object]:
        lasting = whole(secrets=[BoxSecret("token", file=f"{desk.home}/token")])
        passing = whole(secrets=[BoxSecret("token", value=b"hunter2")])
        found: list[object] = []
        with BoxSession(passing, state=desk.state) as session:
            found.append(session.call(lambda: Path("/run/secrets/token").read_text()))
        find_interpreter()
        with BoxServer(passing, state=desk.state) as server:
            for _ in range(2):
                process = server.popen(["cat", "/run/secrets/token"], stdout=-1)
                with process:
                    found.append(process.communicate()[0].decode())
                    process.wait()
        living = create_box(box=lasting, state=desk.state)
        try:
            for _ in range(2):
                found.append(living.run(["sh", "-c", 'test "$(cat /run/secrets/token)" = hunter2']))
                living.stop()
        finally:
            living.remove(force=True)
        return found

    assert desk.do(see) == ["hunter2", "hunter2", "hunter2", 0, 0]


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (whole(secrets=[BoxSecret("a", value=b"1")]), "secrets of a box that lives come from files"),
        (whole(profile="system"), "cannot be of profile 'system'"),
    ],
)
def test_box_that_lives_refuses_what_it_cannot_have(desk: Desk, box: Box, said: str) -> None:
    def make() -> str:
        try:
            create_box(box=box, state=desk.state)
        except InputError as error:
            return error.message
        return ""

    assert said in desk.do(make)


def test_living_box_can_be_strict_and_still_is_when_it_is_started_again(desk: Desk) -> None:
    def see() -> list[int]:
        living = create_box(box=whole(profile="strict", cwd="/tmp"), state=desk.state)
        try:
            first = living.run(["sh", "-c", "touch /etc/x 2>/dev/null || touch /tmp/x"])
            living.stop()
            again = living.run(["sh", "-c", "test ! -e /tmp/x && test ! -e ~/.profile"])
            return [first, again]
        finally:
            living.remove(force=True)

    assert desk.do(see) == [0, 0]


def test_server_makes_boxes_of_each_profile(desk: Desk) -> None:
    def see() -> list[str]:
        found = []
        find_interpreter()
        with BoxServer(state=desk.state) as server:
            for profile in ("task", "strict", "trusted", "system", "strict"):
                with server.popen(["sh", "-c", FIELDS], whole(profile=profile), cwd="/", stdout=-1) as process:
                    found.append(process.communicate()[0].decode().split()[2])
        return found

    assert desk.do(see) == ["2", "2", "0", "2", "2"]


def test_box_of_root_is_made_and_says_so_where_user_namespaces_are_forbidden(desk: Desk) -> None:
    if not is_root(desk):
        return

    def see() -> tuple[int, tuple[str, ...], str]:
        refusal = Rule(errno.EPERM, argument=0, any_bit=CLONE_NEWUSER)
        os.close(find_identity_namespace())  # which this process may have kept
        install_filter(compile_filter({"unshare": refusal}, os.uname().machine))
        null = os.open(os.devnull, os.O_RDWR)
        with run_in_box(["true"], state=desk.state, stdio=(null, null, null)) as result:
            status, notes = result.exit_status, result.notes
        try:
            run_in_box(["true"], whole(profile="system"), state=desk.state, stdio=(null, null, null)).close()
        except NotStarted as error:
            return status, notes, error.message
        return status, notes, ""

    status, notes, of_an_init = desk.do(see)
    assert status == 0
    (note,) = [note for note in notes if "has no user namespace of its own" in note]
    assert "Operation not permitted" in note
    assert of_an_init.startswith("cannot make a user namespace for the box")
