"""One small pipeline, boxed, on every kind of file system and host jubako says it works on.

Each case runs the real command in a place it makes for itself (a loop device, a tmpfs, a bind mount, a container whose
`/` is an overlay), as root and as an ordinary user where that user could be there, and asks the same of it: outputs
right, a boxed run really boxed (the task itself looks at its mounts and its user namespace), nothing left over.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import podman

SOURCE = Path(__file__).parents[2] / "src"
SYSTEM_PYTHON = "/usr/bin/python3"
USER_ID = 1000

PIPELINE = """
import datetime, json
from jubako import Box, DateParameter, DirectoryTarget, Host, LocalTarget, Task


class Tree(Task):
    # In the wide view, where as root / is an overlay too; the other task is in the narrow one.
    box = Box(Host(whole=True))
    date = DateParameter()

    def output(self):
        return DirectoryTarget(f"out/tree-{self.date}")

    def run(self):
        import os
        os.makedirs(self.output().path + "/sub", exist_ok=True)
        with open(self.output().path + "/sub/leaf", "w") as file:
            file.write(str(self.date))
        with open("/proc/self/mountinfo") as file:
            tops = [line.split()[4] for line in file if " - overlay " in line]
        with open(self.output().path + "/tops", "w") as file:
            json.dump(tops, file)


class Day(Task):
    date = DateParameter()

    def requires(self):
        return Tree(self.date)

    def output(self):
        return [LocalTarget(f"out/{self.date}.json"), LocalTarget(f"out/{self.date}.raw")]

    def run(self):
        with open("/proc/self/mountinfo") as file:
            overlays = sum(" - overlay " in line for line in file)
        with open("/proc/self/uid_map") as file:
            whole_map = file.read().split() == ["0", "0", "4294967295"]
        with open(self.input().path + "/sub/leaf") as file:
            leaf = file.read()
        with self.output()[0].open("w") as file:
            json.dump({"overlays": overlays, "own_user_namespace": not whole_map, "leaf": leaf}, file)
        with open(self.output()[1].path, "w") as file:
            file.write("raw")
        with open("out/stray", "w") as file:
            file.write("nobody declared this")
"""

RUN = """
cd "$1" && export JUBAKO_STATE="$1/state" PYTHONPATH="$2" && exec "$3" -m jubako run pipeline.py Day --date 2010-01-01
"""


def prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "out").mkdir(exist_ok=True)


def check(folder: Path, *, own_user_namespace: bool) -> None:
    seen = json.loads((folder / "out" / "2010-01-01.json").read_text())
    assert seen["overlays"] >= 1
    assert seen["own_user_namespace"] is own_user_namespace
    assert seen["leaf"] == "2010-01-01"
    assert (folder / "out" / "2010-01-01.raw").read_text() == "raw"
    tops = json.loads((folder / "out" / "tree-2010-01-01" / "tops").read_text())
    assert ("/" in tops) is not own_user_namespace
    assert tops != []
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "2010-01-01.json",
        "2010-01-01.raw",
        "tree-2010-01-01",
    ]
    assert list((folder / "state" / "stage").iterdir()) == []


def run_as(user_id: int, folder: Path) -> None:
    """Run the pipeline as root with this interpreter, or as an ordinary user with the system's."""
    become: Callable[[], None] | None = None
    if user_id:
        subprocess.run(["chown", "-R", f"{user_id}:{user_id}", str(folder)], check=True)

        def become() -> None:
            os.setgroups([])
            os.setresgid(user_id, user_id, user_id)
            os.setresuid(user_id, user_id, user_id)

    result = subprocess.run(
        ["sh", "-c", RUN, "sh", str(folder), str(python_path()), python_for(user_id)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        preexec_fn=become,  # a short-lived single-threaded child
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "out/stray" in result.stdout + result.stderr


def python_for(user_id: int) -> str:
    """An interpreter that user may execute."""
    return sys.executable if user_id == 0 else SYSTEM_PYTHON


def python_path() -> str:
    """Where an interpreter other than this one finds jubako and what it needs (click is pure Python)."""
    import click

    return os.pathsep.join([str(SOURCE), str(Path(click.__file__).parents[1])])


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that an ordinary user can get to, under a short name: podman refuses long ones."""
    folder = Path(tempfile.mkdtemp(prefix="jubako-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def loop_mount(open_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of a type in a file and mounts it; root only, as mounting a device is."""
    mounted: list[Path] = []

    def mount(fstype: str) -> Path:
        image, point = open_path / f"{fstype}.img", open_path / fstype
        with image.open("wb") as file:
            file.truncate(512 << 20)
        subprocess.run([f"mkfs.{fstype}", "-q", str(image)], check=True, capture_output=True)
        point.mkdir()
        subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
        mounted.append(point)
        return point

    yield mount
    for point in reversed(mounted):
        subprocess.run(["umount", str(point)], check=True)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounting a file system needs root")


@needs_root
@pytest.mark.parametrize("user_id", [0, USER_ID])
@pytest.mark.parametrize("fstype", ["ext4", "btrfs", "xfs"])
def test_run_on_a_loop_file_system_publishes_and_leaves_nothing(
    fstype: str, user_id: int, loop_mount: Callable[[str], Path]
) -> None:
    folder = loop_mount(fstype) / "work"
    prepare(folder)
    run_as(user_id, folder)
    check(folder, own_user_namespace=user_id != 0)


@needs_root
@pytest.mark.parametrize("user_id", [0, USER_ID])
def test_run_on_tmpfs_publishes_and_leaves_nothing(user_id: int, open_path: Path) -> None:
    folder = open_path / "memory"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    try:
        prepare(folder / "work")
        run_as(user_id, folder / "work")
        check(folder / "work", own_user_namespace=user_id != 0)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@needs_root
@pytest.mark.parametrize("user_id", [0, USER_ID])
def test_run_with_a_bind_mounted_output_folder_publishes_and_leaves_nothing(user_id: int, open_path: Path) -> None:
    folder, elsewhere = open_path / "work", open_path / "elsewhere"
    prepare(folder)
    elsewhere.mkdir()
    if user_id:
        os.chown(elsewhere, user_id, user_id)
    subprocess.run(["mount", "--bind", str(elsewhere), str(folder / "out")], check=True)
    try:
        run_as(user_id, folder)
        check(folder, own_user_namespace=user_id != 0)
        assert not list(elsewhere.glob(".jubako*"))
    finally:
        subprocess.run(["umount", str(folder / "out")], check=True)


@needs_root
def test_run_in_a_container_whose_root_is_an_overlay_publishes_and_leaves_nothing(open_path: Path) -> None:
    assert shutil.which("podman") and shutil.which("runc"), "apt-get install podman runc"
    volume = open_path / "volume"
    prepare(volume)
    script = f"""
        grep -q ' / / .* - overlay ' /proc/self/mountinfo || exit 90
        cp -r {volume} /var/tmp/inside && cd /var/tmp/inside || exit 91
        export PYTHONPATH={python_path()} PYTHONDONTWRITEBYTECODE=1
        JUBAKO_STATE=/var/tmp/state {sys.executable} -m jubako run pipeline.py Day --date 2010-01-01 || exit 92
        cat out/2010-01-01.json && cp -r out/. {volume}/out && ls -A /var/tmp/state/stage out && exit
    """
    command = ["podman", "--root", f"{open_path}/root", "--runroot", f"{open_path}/run", "run", "--rm", "--privileged"]
    command += [*podman.OPTIONS, "-v", f"{volume}:{volume}:rw"]
    try:
        result = subprocess.run(
            [*command, "--rootfs", "/:O", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        podman.remove_groups()
    assert result.returncode == 0, result.stdout + result.stderr
    (volume / "state" / "stage").mkdir(parents=True)
    check(volume, own_user_namespace=False)
