"""File systems to publish on, mounted in a namespace of the test's own child, so nothing has to be taken away again."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mounts import attach

DISKS = {"ext4": 16, "xfs": 320, "btrfs": 128}  # MiB: the least that their mkfs takes
PROJECT = 7


def mount_disk(kind: str) -> Path:
    """An empty file system of that kind below the current directory. Its file is in memory, and goes with the mount."""
    point = Path.cwd() / kind
    point.mkdir()
    if kind == "tmpfs":
        attach(tmpfs(), point)
        return point
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as image:
        image.truncate(DISKS[kind] << 20)
        quiet = "-f" if kind == "btrfs" else "-q"
        subprocess.run(["mkfs", "-t", kind, quiet, image.name], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", "-t", kind, image.name, str(point)], check=True, capture_output=True)
    return point


def mount_projects() -> tuple[Path, Path]:
    """Two folders of one XFS. What is made in the second belongs to another project, as with a quota of its own, so
    nothing can be renamed there from the first."""
    disk = mount_disk("xfs")
    plain, project = disk / "plain", disk / "project"
    plain.mkdir()
    project.mkdir()
    subprocess.run(["chattr", "-p", str(PROJECT), "+P", str(project)], check=True, capture_output=True)
    return plain, project
