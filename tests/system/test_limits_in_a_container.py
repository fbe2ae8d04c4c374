"""Limits of boxes inside a container: by its control groups where they can be written to, else added up, and said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from jubako.layers.remove import remove_tree

pytestmark = [pytest.mark.box, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PYTHON = "/usr/bin/python3"
SOURCE = Path(__file__).parents[2] / "src"
HOG = "x = []\nwhile True: x.append(bytearray(4 << 20))\n"
HOGS = """
import os, signal
for _ in range(8):
    if os.fork() == 0:
        x = b"x" * (20 << 20); signal.pause()
signal.pause()
"""
READ_ONLY = "for one in /sys/fs/cgroup/*; do mount --bind $one $one; mount -o remount,bind,ro $one; done"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder under a short name: podman refuses long ones."""
    path = Path(f"/var/tmp/jubako-c-{os.getpid()}")
    path.mkdir()
    try:
        yield path
    finally:
        remove_tree(str(path))
        for top in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
            for left in sorted([top, *top.rglob("*/")], reverse=True):
                left.rmdir()


def in_container(folder: Path, script: str) -> str:
    """What a script says in a privileged container, whose root is an overlay of this machine's."""
    shutil.copytree(SOURCE / "jubako", folder / "code/jubako", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(click.__file__).parent, folder / "code/click")
    (folder / "hog.py").write_text(HOG)
    (folder / "hogs.py").write_text(HOGS)
    setting = f"""
        mkdir /tmp/state && mount -t tmpfs none /tmp/state && cd {folder} || exit 90
        export PYTHONPATH={folder}/code JUBAKO_STATE=/tmp/state/jubako
    """
    command = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "run", "--rm", "--privileged"]
    # crun refuses this host's cgroup v1 hybrid, and a limit above the present one needs CAP_SYS_RESOURCE
    command += ["--runtime", "runc", "--cgroup-manager=cgroupfs", "--net=host"]
    command += ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000", "--rootfs", "/:O", "sh", "-c"]
    done = subprocess.run(
        [*command, f"{setting}\n{script}"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


def test_limits_in_a_container_are_those_its_control_groups_allow(folder: Path) -> None:
    box_run = f"{PYTHON} -m jubako box run"
    said = in_container(
        folder,
        f"""
        {box_run} --memory 64M --pids 20 --cpus 1 -- {PYTHON} hog.py 2>&1; echo "status $?"
        find /sys/fs/cgroup -name 'jubako-*'
        echo READ-ONLY; {READ_ONLY}
        {box_run} --memory 64M -- {PYTHON} hogs.py 2>&1; echo "status $?"
        {box_run} --pids 20 -- true 2>&1; echo "status $?"
        """,
    )
    writable, _, read_only = said.partition("READ-ONLY")
    assert "memory is limited to 64 MiB by control groups" in writable, said
    assert "processes are limited to 20 by control groups" in writable
    assert "the command was killed: it used more than 64 MiB of memory" in writable
    assert writable.count("status 137") == 1
    assert "/jubako-" not in writable

    assert "memory is limited to 64 MiB by adding its processes up" in read_only
    assert "no control group can be made here" in read_only
    assert "the command was killed: it used more than 64 MiB of memory\n" in read_only
    assert "status 137" in read_only
    assert "pids=20 cannot be kept: RLIMIT_NPROC does not bind root" in read_only
    assert "status 3" in read_only
