"""`jubako unshare` beside unshare(1) of util-linux: what it prints and ends with, as root and as an ordinary user.

That of this machine may be too old for some options: those are tested by what the kernel shows of them.
"""

from __future__ import annotations

import functools
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beside_util_linux import IS_ROOT, NOBODY, USERS, Ran, User
from jubako.cli.unshare_line import parse_unshare
from jubako.errors import InputError
from jubako.kernel.idmap import IdRange
from jubako.kernel.process import pidfd_open

pytestmark = pytest.mark.box
of_root = pytest.mark.skipif(not IS_ROOT, reason="only root may do this")

BOTH = [
    "true",
    "-r id",
    "-c id",
    "-U id -u",
    "--map-user 5 --map-group 7 cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups",
    "--map-user=daemon --map-group=daemon id",
    "-U cat /proc/self/setgroups",
    "-U --setgroups deny cat /proc/self/setgroups",
    "-r --setgroups allow true",
    "-c --keep-caps grep CapAmb /proc/self/status",
    "-c grep CapAmb /proc/self/status",
    "-rpf --mount-proc sh -c 'echo $$; ls -d /proc/[0-9]*'",
    "-rpf sh -c 'echo $$'",
    "-rp sh -c 'true; true'",
    "-r --mount-proc true",
    "-rm --mount-proc=/tmp -pf ls -d /tmp/1",
    "-rm cat /proc/self/mountinfo",
    "-rm --propagation slave cat /proc/self/mountinfo",
    "-rm --propagation unchanged cat /proc/self/mountinfo",
    "-rimnpuCTf true",
    "-rn cat /proc/net/dev",
    "-ru sh -c 'hostname x; hostname'",
    "-r -w /usr pwd",
    "-r -R / pwd",
    "-r -R / -w usr/bin pwd",
    "-r -R /nowhere true",
    "-r -w /nowhere true",
    "-r -S 0 id",
    "-r -S 7 id",
    "-r -G 0 id",
    "-S 3 -G 4 id",
    "-rTf --monotonic 1000 --boottime -1 cat /proc/self/timens_offsets",
    "-rTf --boottime=-99999999999 true",
    "--monotonic 5 true",
    "-m true",
    "-n cat /proc/net/dev",
    "sh -c 'exit 7'",
    "-rf sh -c 'exit 7'",
    "-rf sh -c 'kill -TERM $$'",
    "-rf sh -c 'kill -INT $$'",
    "nosuch",
    "-rf nosuch",
    "/etc/passwd",
    "/",
    "/etc/passwd/x",
    "''",
    "--no-such true",
    "--map- true",
    "--propagation odd true",
    "--map-user nobody-of-that-name true",
    "--kill-child=NOTHING true",
    "-S x true",
    "--uts=/nowhere true",
]


@pytest.fixture(params=USERS, ids=lambda uid: "root" if uid == 0 else "rootless")
def user(request: pytest.FixtureRequest) -> User:
    return User(request.param)


@pytest.mark.parametrize("line", BOTH)
def test_line_prints_and_ends_as_it_does_with_util_linux(line: str, user: User) -> None:
    theirs, ours = user.run(f"unshare {line}"), ran_by_us(user.uid)[line]
    assert (ours.code, without_numbers(ours.out)) == (theirs.code, without_numbers(theirs.out)), ours.err
    assert bool(ours.err) == bool(theirs.err), ours.err
    assert "Traceback" not in ours.err


@functools.cache
def ran_by_us(uid: int) -> dict[str, Ran]:
    return dict(zip(BOTH, User(uid).run_all(f"jubako unshare {line}" for line in BOTH), strict=True))


def without_numbers(text: str) -> str:
    """The ids of mounts differ from one namespace to the next."""
    return re.sub(r"^\d+ \d+ |master:\d+|shared:\d+", "", text, flags=re.MULTILINE)


def test_without_a_program_the_users_shell_is_a_login_shell(user: User) -> None:
    for shell in ("/bin/echo", "/bin/false"):
        theirs, ours = (user.run(f"{program} -r", SHELL=shell) for program in ("unshare", "jubako unshare"))
        assert (ours.code, ours.out) == (theirs.code, theirs.out)
    shown = user.run("jubako unshare -r", SHELL="/bin/sh", PS1="").err
    assert shown == ""


def test_what_older_versions_stumble_over_works(user: User) -> None:
    assert user.run("jubako unshare -rf sh -c 'kill -KILL $$'").code == -signal.SIGKILL
    assert user.run("jubako unshare -r --setgroups deny cat /proc/self/setgroups").out == "deny\n"


def test_script_without_an_interpreter_is_run_by_the_shell(user: User) -> None:
    script = Path("/tmp") / f"jubako-script-{os.getpid()}"
    script.write_text("echo $0 $1\n")
    script.chmod(0o755)
    try:
        theirs, ours = (user.run(f"{program} -r {script} one") for program in ("unshare", "jubako unshare"))
    finally:
        script.unlink()
    assert ours.out == theirs.out == f"{script} one\n"


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("-U -S 5 true", "cannot set the user id 5: setuid: Invalid argument", "--map-auto"),
        ("-r --mount-proc true", "cannot mount proc: mount: Operation not permitted: /proc", "Add --pid --fork"),
        ("-r -R /nowhere true", "cannot change the root directory: chroot: No such file or directory: /nowhere", ""),
        ("--uts=/nowhere true", "cannot make", ""),
        ("-rTf --boottime=-99999999999 true", "write: Numerical result out of range: /proc/self/timens", "set once"),
        ("-f nosuch", "cannot run 'nosuch': execve: No such file or directory", "looked for inside"),
        ("--map-users 0:5 true", "'0:5' is no range of ids", "INSIDE:OUTSIDE:COUNT"),
        ("--map-users 0:0:9 --map-users 3:50:1 true", "share the id 3 inside: 0:0:9 and 3:50:1", "mapped once"),
    ],
)
def test_error_names_step_call_path_and_cure(line: str, error: str, hint: str, user: User) -> None:
    done = user.run(f"jubako unshare {line}", PATH="/usr/bin:/bin")
    assert done.code in (1, 127)
    assert error in done.err
    assert hint in done.err
    assert done.err.count("Error:") == 1


def test_ordinary_user_without_a_user_namespace_is_told_of_it() -> None:
    done = User(USERS[-1]).run("jubako unshare --mount true")
    assert done.err == (
        "Error: cannot make a new mount namespace: unshare: Operation not permitted\n"
        "hint: Be root, or add --map-root-user (-r) for a user namespace.\n"
    )


# --- newer than the util-linux this may run beside --------------------------------------------------------------------


def uid_map(done: Ran) -> list[list[int]]:
    assert done.code == 0, done.err
    return [[int(word) for word in line.split()] for line in done.out.splitlines()]


@of_root
def test_root_maps_ranges_without_a_program_that_helps() -> None:
    done = User(0).run("jubako unshare --map-user 5 --map-users 0:100:10 --map-users 70,50,3 cat /proc/self/uid_map")
    assert uid_map(done) == [[0, 100, 5], [5, 0, 1], [6, 105, 4], [50, 70, 3]]


@of_root
def test_all_passes_every_id_through() -> None:
    done = User(0).run("jubako unshare --map-users all --map-groups all cat /proc/self/uid_map")
    assert uid_map(done) == uid_map(User(0).run("cat /proc/self/uid_map"))


LENT = 'mount --bind "$0" /etc/subuid; mount --bind "$0" /etc/subgid; exec "$@"'


@of_root
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--map-auto", [[0, 200000, 1000]]),
        ("-r --map-auto", [[0, NOBODY, 1], [1, 200000, 1000]]),
        ("-r --map-subids", [[0, NOBODY, 1], [200000, 200000, 1000]]),
        ("-r --map-users 1:200100:5 --map-groups auto", [[0, NOBODY, 1], [1, 200100, 5]]),
    ],
)
def test_ordinary_user_maps_what_is_lent_to_it(options: str, expected: list[list[int]], tmp_path: Path) -> None:
    lent = tmp_path / "lent"
    lent.write_text("daemon:9:9\nnobody:200000:1000\n")
    command = User(NOBODY).command(f"jubako unshare {options} cat /proc/self/uid_map")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", LENT, str(lent), *command],
        cwd="/",
        env=User(0).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert uid_map(Ran(done.returncode, done.stdout, done.stderr)) == expected


@of_root
def test_ordinary_user_who_maps_what_is_not_lent_hears_it_from_newuidmap() -> None:
    done = User(NOBODY).run("jubako unshare --map-users 0:7:5 true")
    assert done.code == 1
    assert "cannot map users into the new user namespace: newuidmap: uid range [0-5) -> [7-12) not allowed" in done.err
    assert "may map what /etc/subuid lends" in done.err
    nothing = User(NOBODY).run("jubako unshare --map-auto true")
    assert "/etc/subuid lends no ids to nobody" in nothing.err


@of_root
def test_without_newuidmap_the_package_is_named() -> None:
    done = User(NOBODY).run("jubako unshare --map-users 0:7:5 true", PATH="/nowhere")
    assert "newuidmap is not installed" in done.err
    assert "package uidmap" in done.err


@of_root
def test_owner_of_the_user_namespace_may_enter_it() -> None:
    script = "echo ready; read line"
    held = User(0).start(f"jubako unshare --owner {NOBODY}:{NOBODY} --map-users {NOBODY}:{NOBODY}:1 sh -c '{script}'")
    assert held.stdin is not None and held.stdout is not None
    assert held.stdout.readline() == "ready\n"
    entered = User(NOBODY).run(f"nsenter -U -t {held.pid} --preserve-credentials id -u")
    held.communicate("\n")
    assert (entered.out, entered.code) == (f"{NOBODY}\n", 0), entered.err


def test_binary_format_is_registered_in_the_namespace_alone(user: User) -> None:
    make = "mount -t tmpfs none /mnt; printf jubako-magic >/mnt/it; chmod +x /mnt/it; /mnt/it one two"
    done = user.run(f"jubako unshare -rpf -l ':jubako-it:M::jubako-magic::/bin/echo:' sh -ec '{make}'")
    assert done.out == "/mnt/it one two\n", done.err
    assert not Path("/proc/sys/fs/binfmt_misc/jubako-it").exists()


def test_environment_is_reduced_to_what_is_named(user: User) -> None:
    assert user.run("jubako unshare --clear-env env").out == ""
    done = user.run("jubako unshare --whitelist-env JUBAKO_ONE,JUBAKO_NONE env", JUBAKO_ONE="1", JUBAKO_TWO="2")
    assert done.out == "JUBAKO_ONE=1\n"


# --- two processes ----------------------------------------------------------------------------------------------------


def test_while_the_program_runs_its_parent_is_deaf_to_sigterm(user: User) -> None:
    held = user.start("jubako unshare -rf sh -c 'echo ready; read line; exit 5'")
    assert held.stdin is not None and held.stdout is not None
    assert held.stdout.readline() == "ready\n"
    held.send_signal(signal.SIGTERM)
    held.communicate("\n")
    assert held.returncode == 5


def test_forwarded_signal_reaches_the_program(user: User) -> None:
    held = user.start("jubako unshare -r --forward-signals sh -c 'trap \"exit 6\" TERM; echo ready; read line; exit 5'")
    assert held.stdout is not None
    assert held.stdout.readline() == "ready\n"
    held.send_signal(signal.SIGTERM)
    assert held.wait() == 6
    held.communicate()


@pytest.mark.parametrize("options", ["-rp --kill-child", "-r --kill-child=TERM", "-r --kill-child=9 -S 0"])
def test_program_is_killed_when_its_parent_dies(options: str, user: User) -> None:
    script = "readlink /proc/self/../self >/dev/null; grep ^NSpid: /proc/self/status; exec cat"
    held = user.start(f"jubako unshare {options} sh -c '{script}'")
    assert held.stdin is not None and held.stdout is not None
    (child,) = Path(f"/proc/{held.pid}/task/{held.pid}/children").read_text().split() if held.stdout.readline() else ()
    pidfd = pidfd_open(int(child))
    held.kill()
    held.wait()
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    assert ended.poll(20_000)
    os.close(pidfd)
    held.communicate()


# --- files that keep namespaces ---------------------------------------------------------------------------------------

PERSIST = """
mount -t tmpfs none /mnt; mount --make-private /mnt; cd /mnt; touch mnt uts pid user time
"$@" --mount=/mnt/mnt --uts=/mnt/uts hostname kept-by-jubako
nsenter --uts=/mnt/uts hostname
nsenter --mount=/mnt/mnt sh -c 'echo entered'
"$@" --user=/mnt/user -r true
nsenter --user=/mnt/user cat /proc/self/uid_map
"$@" --time=/mnt/time --monotonic 77 true
findmnt -no SOURCE /mnt/time | grep -qF "[$(nsenter --time=/mnt/time readlink /proc/self/ns/time)]" && echo same
"$@" --pid=/mnt/pid --fork sh -c 'findmnt -n /mnt/pid >/dev/null && echo bound before it starts'
touch uts2; "$@" --uts=/mnt/uts2 --net=/mnt/missing true || echo refused with $?
findmnt -n /mnt/uts2 || echo nothing stays
umount mnt uts user time pid
"""


@of_root
def test_namespaces_stay_in_their_files() -> None:
    command = User(0).command("jubako unshare")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", PERSIST, "sh", *command],
        env=User(0).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "kept-by-jubako",
        "entered",
        "         0          0          1",
        "same",
        "bound before it starts",
        "refused with 1",
        "nothing stays",
    ], done.stderr


@of_root
@pytest.mark.parametrize("processor", sorted(os.sched_getaffinity(0))[:2])
def test_mount_namespace_stays_whatever_processor_the_old_and_the_new_one_were_made_on(processor: int) -> None:
    made_there = f"import os, sys; os.sched_setaffinity(0, [{processor}]); os.execvp(sys.argv[1], sys.argv[1:])"
    everywhere = "import os, sys; os.sched_setaffinity(0, range(64)); os.execvp(sys.argv[1], sys.argv[1:])"
    script = """mount -t tmpfs none /mnt; mount --make-private /mnt; touch /mnt/f
        for i in 1 2 3 4 5; do "$@" --mount=/mnt/f nproc; umount /mnt/f; done"""
    python = [sys.executable, "-c"]
    done = subprocess.run(
        [*python, made_there, "unshare", "--mount", *python, everywhere, "sh", "-ec", script, "sh"]
        + User(0).command("jubako unshare"),
        env=User(0).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(len(os.sched_getaffinity(0)))] * 5, done.stderr


@of_root
def test_file_of_a_mount_namespace_on_a_shared_mount_is_refused_with_the_cure() -> None:
    script = 'mount -t tmpfs none /mnt; mount --make-shared /mnt; touch /mnt/f; "$@" --mount=/mnt/f true'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *User(0).command("jubako unshare")],
        env=User(0).environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot make the mount namespace persistent: mount: Invalid argument: /mnt/f" in done.stderr
    assert "make-private" in done.stderr


# --- the line ---------------------------------------------------------------------------------------------------------


def test_ranges_are_read_in_both_orders() -> None:
    options, command = parse_unshare(["--map-users", "0:5:9", "--map-users=5,0,9", "--map-groups", "all", "x", "-f"])
    assert options.map_users == (IdRange(0, 5, 9), IdRange(0, 5, 9))
    assert options.map_groups == ("all",)
    assert command == ["x", "-f"]


@pytest.mark.parametrize("text", ["KILL", "kill", "SIGKILL", "9"])
def test_signal_is_read_by_name_and_number(text: str) -> None:
    assert parse_unshare([f"--kill-child={text}"])[0].kill_child == signal.SIGKILL


@pytest.mark.parametrize(
    "line",
    ["--map-users 0:0:0", "--map-users 0:4294967295:1", "--map-users 1:2:3:4", "--owner 5", "-S -1", "--boottime 1.5"]
    + ["-G 4294967295", "--monotonic 99999999999999999999", "--kill-child=0", "--kill-child=_DFL"],
)
def test_numbers_that_mean_nothing_are_refused(line: str) -> None:
    with pytest.raises(InputError):
        parse_unshare(line.split())
