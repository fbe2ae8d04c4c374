"""Mount namespaces three ways: by two small C programs, by the example in Python, and by `jubako unshare`.

Everything happens below a mount namespace of the test's own, whose root is first made private or shared; so that
"outside" is that one, and not this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
NOBODY = 65534
pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to compile the C programs with"),
]
of_root = pytest.mark.skipif(not IS_ROOT, reason="a mount namespace without a user namespace is root's")

C_PROGRAM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static void check(int result, const char *what) {
    if (result != 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

int main(int argc, char *argv[]) {
    check(unshare(CLONE_NEWNS), "unshare");
#ifdef MAKE_PRIVATE
    check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount /");
#endif
    check(mount("tmpfs", argv[1], "tmpfs", MS_NOSUID | MS_NODEV, NULL), argv[1]);
    argv[1] = "bash";
    check(execvp("bash", argv + 1), "bash");
}
"""

# "$@" gets a tmpfs onto ./point and a shell there. What it says, and what is seen outside while it runs and after it.
LOOK_OUTSIDE = """
mount --make-r{root} /
"$@" -c '
    test "$(readlink /proc/self/ns/mnt)" = "$(readlink /proc/$PPID/ns/mnt)" && echo the same namespace
    findmnt -n -o FSTYPE,VFS-OPTIONS,PROPAGATION "$PWD/point"
    ls point; touch point/inside'
findmnt -n -o FSTYPE "$PWD/point" | sed "s/^/still outside: /"
ls point
"""
BY_UNSHARE = 'mount -t tmpfs -o nosuid,nodev tmpfs "$0" && exec bash "$@"'


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c")
    folder.chmod(0o755)
    (folder / "program.c").write_text(C_PROGRAM)
    for name, flags in (("private", ["-DMAKE_PRIVATE"]), ("unchanged", [])):
        command = ["gcc", "-Wall", "-Wno-unused-parameter", *flags, "program.c", "-o", name]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "point").mkdir()
    (tmp_path / "point" / "outside").touch()
    return tmp_path


def look(folder: Path, root: str, command: list[str]) -> str:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", LOOK_OUTSIDE.format(root=root), "sh", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def by_jubako(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "jubako", "unshare", *options, "bash", "-c", BY_UNSHARE, str(folder / "point")]


@of_root
@pytest.mark.parametrize("root", ["private", "shared"])
def test_private_by_c_by_python_and_by_unshare_are_one(root: str, folder: Path, programs: Path) -> None:
    point = str(folder / "point")
    by_c = look(folder, root, [str(programs / "private"), point])
    example = [sys.executable, str(ROOT / "examples/namespaces/private_mount.py"), point]
    assert by_c == "tmpfs  rw,nosuid,nodev,relatime private\noutside\n"
    assert look(folder, root, example) == by_c
    assert look(folder, root, by_jubako(folder, "--mount")) == by_c
    assert look(folder, root, by_jubako(folder, "--mount", "--propagation", "private")) == by_c


@of_root
def test_unchanged_below_a_shared_root_is_seen_outside_and_stays(folder: Path, programs: Path) -> None:
    by_c = look(folder, "shared", [str(programs / "unchanged"), str(folder / "point")])
    assert by_c == "tmpfs  rw,nosuid,nodev,relatime shared\nstill outside: tmpfs\ninside\n"
    assert look(folder, "shared", by_jubako(folder, "--mount", "--propagation", "unchanged")) == by_c


@of_root
def test_unchanged_below_a_private_root_is_not_seen_outside(folder: Path, programs: Path) -> None:
    by_c = look(folder, "private", [str(programs / "unchanged"), str(folder / "point")])
    assert by_c == "tmpfs  rw,nosuid,nodev,relatime private\noutside\n"
    assert look(folder, "private", by_jubako(folder, "--mount", "--propagation", "unchanged")) == by_c


@of_root
@pytest.mark.parametrize(
    ("propagation", "seen"),
    [("private", "private"), ("slave", "private,slave"), ("shared", "shared"), ("unchanged", "shared")],
)
def test_propagation_is_the_kernels_as_with_util_linux(propagation: str, seen: str) -> None:
    script = f'mount --make-rshared /; "$@" --mount --propagation {propagation} findmnt -n -o PROPAGATION /'
    ours, theirs = (
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *command],
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in ([sys.executable, "-m", "jubako", "unshare"], ["unshare"])
    )
    assert ours == theirs == f"{seen}\n"


def test_file_is_visible_until_something_is_mounted_over_it_and_again_afterwards(folder: Path) -> None:
    rights = [] if IS_ROOT else ["-r"]
    script = (
        "readlink /proc/self/ns/mnt; ls point; mount -t tmpfs none point; ls point; findmnt -n -o TARGET $PWD/point"
    )
    done = subprocess.run(
        [sys.executable, "-m", "jubako", "unshare", *rights, "--mount", "bash", "-c", script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    namespace, *seen = done.stdout.splitlines()
    assert namespace != os.readlink("/proc/self/ns/mnt")
    assert seen == ["outside", f"{folder}/point"]
    assert os.listdir(folder / "point") == ["outside"]
    assert f"{folder}/point" not in Path("/proc/self/mountinfo").read_text()


def test_ordinary_user_is_refused_by_all_three_and_helped_by_one(programs: Path, tmp_path: Path) -> None:
    as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if IS_ROOT else []
    python = "/usr/bin/python3" if IS_ROOT else sys.executable
    place = Path("/tmp") / f"jubako-of-tests-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        program = shutil.copy(programs / "private", place)
        ours = [python, "-P", "-m", "jubako", "unshare"]
        results = [
            subprocess.run(
                [*as_user, *command],
                cwd="/",
                env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            for command in (
                [program, "/mnt"],
                ["unshare", "--mount", "true"],
                [*ours, "--mount", "true"],
                [*ours, "--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs none /mnt && echo mounted"],
            )
        ]
        example = subprocess.run(
            [
                *as_user,
                python,
                str(ROOT / "examples/namespaces/private_mount.py"),
                "/mnt",
                "-c",
                "ls -A /mnt; echo done",
            ],
            cwd="/",
            env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(place)
    by_c, by_util_linux, by_us, helped = results
    assert [one.returncode for one in results] == [1, 1, 1, 0]
    assert by_c.stderr == "unshare: Operation not permitted\n"
    assert "Operation not permitted" in by_util_linux.stderr
    assert "unshare: Operation not permitted\nhint: Be root, or add --map-root-user" in by_us.stderr
    assert helped.stdout == "mounted\n"
    assert (example.stdout, example.returncode) == ("done\n", 0), example.stderr
