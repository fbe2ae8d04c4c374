"""Attacks across the beginning and the end of a box: what comes in, what is left running, what gets out, and races."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.spec import Box, Host
from jubako.kernel.files import RENAME_EXCHANGE, renameat2
from jubako.kernel.syscalls import AT_FDCWD
from system.security.conftest import SYSTEM_PYTHON

if TYPE_CHECKING:
    from tests.system.security.conftest import Site

pytestmark = pytest.mark.box
CONFLICT = 4
PRECIOUS = "precious\n"


@pytest.fixture(autouse=True)
def fresh(site: Site) -> None:
    site.bench.fresh()


# --- 2, 24: what comes in --------------------------------------------------------------------------------------------


def test_descriptors_of_the_caller_do_not_come_in(site: Site) -> None:
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        done = site.command("--", "ls", "/proc/self/fd", pass_fds=(fd,))
    finally:
        os.close(fd)
    assert done.stdout.split("No changes")[0].split() == ["0", "1", "2", "3"], done  # 3: what lists them


def test_variables_for_the_command_do_not_reach_what_makes_the_box(site: Site) -> None:
    """LD_PRELOAD and PYTHON* run code in every program started with them; only the command may be one."""
    folder = site.bench.work
    mark = "\n".join(
        [
            "import os, sys",
            "for line in open('/proc/self/status'):",
            "    if line.startswith(('NoNewPrivs', 'Seccomp:')): os.write(2, ('loaded ' + line).encode())",
        ]
    )
    (folder / "sitecustomize.py").write_text(mark)
    source = (
        "#include <unistd.h>\n#include <sys/prctl.h>\n__attribute__((constructor)) static void load(void) {\n"
        'if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)) write(2, "confined\\n", 9); else write(2, "free\\n", 5); }\n'
    )
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-w", "-o", folder / "evil.so", "-xc", "-"], input=source.encode(), check=True
    )
    program = (
        "import os\nfrom jubako.boxes.commands.launch import run_in_box\n"
        f"evil = {{'LD_PRELOAD': {str(folder / 'evil.so')!r}, 'PYTHONPATH': {str(folder)!r}, 'PATH': os.defpath}}\n"
        f"assert run_in_box([{SYSTEM_PYTHON!r}, '-c', ''], environment=evil).exit_status == 0\n"
    )
    done = site.as_user(SYSTEM_PYTHON, "-c", program, env=site.environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["confined", "loaded NoNewPrivs:\t1", "loaded Seccomp:\t2"]


# --- 25: what is left running ----------------------------------------------------------------------------------------


def test_everything_that_was_started_ends_with_the_box(site: Site) -> None:
    """Each in a session of its own, deaf to polite signals, holding the output that our reading waits for."""
    script = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for number in range(100):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork(): os._exit(0)\n"
        "        signal.pause()\n"
    )
    done = site.command("--", SYSTEM_PYTHON, "-c", script, "jubako-orphan", timeout=60)
    assert done.returncode == 0
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _ends_with(path, b"\0jubako-orphan\0")]
    assert left == []


def _ends_with(path: Path, words: bytes) -> bool:
    try:
        return path.read_bytes().endswith(words)
    except OSError:  # it has ended
        return False


# --- 8, 17, 18: what gets out ----------------------------------------------------------------------------------------


def test_commit_takes_no_rights_devices_or_pipes_out_and_names_each(site: Site) -> None:
    folder = site.bench.work
    capable = "setcap cap_net_raw+ep capable" if site.bench.user == "root" else "true"
    script = (
        f"cp /bin/cat setuid; chmod 6755 setuid; cp /bin/cat capable; {capable}; mkfifo pipe; mknod zero c 1 5; true"
    )
    done = site.command("--commit", str(folder), "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(folder)) == ["capable", "setuid"]
    assert stat.S_IMODE((folder / "setuid").stat().st_mode) == 0o755
    assert os.listxattr(folder / "capable") == []
    assert f"{folder}/setuid: setuid or setgid bit left out" in done.stderr
    assert f"{folder}/pipe: a fifo, left out" in done.stderr
    assert ("capable: file capabilities left out" in done.stderr) == (site.bench.user == "root")


def test_marks_of_overlays_that_a_command_forges_do_not_get_out(site: Site) -> None:
    """An overlay over what was committed would believe them (CVE-2021-3493 and the like)."""
    folder = site.bench.work
    site.bench.make_folder(folder / "there")
    for name in ("there/file", "there/empty"):
        site.bench.make_file(folder / name, "text" if name == "there/file" else "")
    script = (
        "import os\nos.mkdir('marked')\nos.utime('there/empty')\n"
        "for path in ('marked', 'there', 'there/empty'):\n"
        "    for name in ('opaque', 'redirect', 'metacopy', 'whiteout', 'overlay.opaque'):\n"
        "        try:\n            os.setxattr(path, f'user.overlay.{name}', b'y')\n"
        "        except OSError as error:\n            print(name, error.errno)\n"
        "os.setxattr('marked', 'user.own', b'mine')\n"
    )
    done = site.command("--commit", str(folder), "--", SYSTEM_PYTHON, "-c", script)
    assert done.returncode == 0, done.stderr
    assert [name for name in os.listxattr(folder / "marked") if "overlay" in name] == []
    assert os.getxattr(folder / "marked", "user.own") == b"mine"
    assert sorted(os.listdir(folder / "there")) == ["empty", "file"]  # neither hidden nor deleted


@pytest.mark.parametrize("whole", [False, True], ids=["narrow", "wide"])
def test_output_of_a_task_is_staged_without_its_rights_and_says_so(site: Site, whole: bool) -> None:
    target = site.bench.work / "program"
    ran = site.bench.run("shell", f"cp /bin/cat {target}; chmod 6755 {target}", [target], Box(Host(whole=whole)))
    assert ran.outcome == "ok"
    assert stat.S_IMODE(ran.staged[str(target)].stat().st_mode) == 0o755
    assert "set" in " ".join(ran.finished.refused)


# --- 3, 26: races ----------------------------------------------------------------------------------------------------


def exchange_for_ever(first: Path, second: Path, heart: int) -> None:
    """Exchanges the two names until the other end of the pipe is closed."""
    os.set_blocking(heart, False)
    while True:
        renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE)
        try:
            if os.read(heart, 1) == b"":
                return
        except BlockingIOError:
            continue


@pytest.mark.parametrize("rounds", [40, pytest.param(10_000, marks=pytest.mark.soak)])
def test_folder_exchanged_for_a_link_while_boxes_start_redirects_nothing(site: Site, rounds: int) -> None:
    bench = site.bench
    folder, link, elsewhere = bench.work / "out", bench.work / "link", bench.home / f"elsewhere-{bench.work.name}"
    bench.make_folder(folder)
    bench.make_folder(elsewhere)
    bench.make_file(elsewhere / "result", PRECIOUS)
    link.symlink_to(elsewhere)
    heart, beat = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(beat)
            exchange_for_ever(folder, link, heart)
        finally:
            os._exit(0)
    os.close(heart)
    try:
        outcomes = {
            bench.run("shell", f"echo ours > {folder}/result; rm -f {elsewhere}/other", [folder / "result"]).outcome
            for _ in range(rounds)
        }
    finally:
        os.close(beat)
        os.waitpid(pid, 0)
    assert (elsewhere / "result").read_text() == PRECIOUS
    assert os.listdir(elsewhere) == ["result"]
    assert sorted(os.listdir(bench.work)) == ["link", "out"]
    assert str(bench.top) not in Path("/proc/self/mountinfo").read_text()
    assert outcomes <= {"ok", "failed", "host"}  # "host": it was a link that led nowhere for a moment


@pytest.mark.parametrize("attack", ["file for a link", "folder for a link"])
def test_target_exchanged_for_a_link_before_the_commit_is_refused(site: Site, attack: str) -> None:
    bench = site.bench
    folder, elsewhere = bench.work / "site", bench.home / f"elsewhere-{bench.work.name}"
    bench.make_folder(folder)
    bench.make_folder(elsewhere)
    bench.make_file(folder / "page", "old\n")
    bench.make_file(elsewhere / "page", PRECIOUS)
    kept = site.command("--keep", "--", "sh", "-c", f"echo new > {folder}/page; chmod u+s {folder}/page")
    assert kept.returncode == 0, kept.stderr
    (box_id,) = os.listdir(bench.home / "boxes" / "boxes")

    if attack == "file for a link":
        (folder / "page").unlink()
        (folder / "page").symlink_to(elsewhere / "page")
    else:
        folder.rename(bench.work / "aside")
        folder.symlink_to(elsewhere)
    try:
        done = site.jubako("box", "commit", box_id, str(folder))
        assert done.returncode == CONFLICT, done
        assert (elsewhere / "page").read_text() == PRECIOUS
        assert os.listdir(elsewhere) == ["page"]
        if attack == "folder for a link":
            assert (bench.work / "aside" / "page").read_text() == "old\n"
    finally:
        site.jubako("box", "rm", box_id)
