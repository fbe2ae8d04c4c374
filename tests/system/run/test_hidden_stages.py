"""What later tasks of a worker do not see: staging directories that were made after it had started."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from jubako.kernel import mounts
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWNS, unshare

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def test_staging_directories_of_other_mounts_are_hidden_from_tasks_that_come_later(
    world: Any, in_child: Runner
) -> None:
    """The one on the disk is made when the worker has long been started."""
    disk = world.folder.parent / "disk"
    disk.mkdir()
    world.write(
        f"""
        DISK = {str(disk)!r}

        class First(Task):
            def output(self):
                return LocalTarget("first.txt")

            def run(self):
                with self.output().open("w") as file:
                    file.write(" ".join(os.listdir(DISK)))

        class OnDisk(Task):
            def requires(self):
                return First()

            def output(self):
                return LocalTarget(f"{{DISK}}/out.txt")

            def run(self):
                with self.output().open("w") as file:
                    file.write(" ".join(os.listdir(f"{{DISK}}/.jubako-stage")))

        class Later(Task):
            def requires(self):
                return OnDisk()

            def output(self):
                return LocalTarget("later.txt")

            def run(self):
                with self.output().open("w") as file:
                    file.write(" ".join([*os.listdir(DISK), *os.listdir(f"{{DISK}}/.jubako-stage")]))
        """
    )

    def work() -> tuple[bool, str, str]:
        enter: Callable[[int], None] = unshare if os.geteuid() == 0 else enter_user_namespace
        enter(CLONE_NEWNS)
        mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
        mounts.attach(tmpfs(), str(disk))
        result = world.run(world.Later(), workers=1)
        return bool(result), "\n".join(result.format_report()), (disk / "out.txt").read_text()

    worked, report, seen_beside_own_output = in_child(work)
    assert worked, report
    assert (world.read("first.txt"), seen_beside_own_output) == ("", "")
    assert sorted(world.read("later.txt").split()) == [".jubako-stage", "out.txt"]
