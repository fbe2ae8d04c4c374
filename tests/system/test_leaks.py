"""Nothing of the whole session is left: no mount, no process, no cgroup, no descriptor. Collected last, always.

Mounts and control groups are the machine's, and those of others who test on it come and go. What is left stays.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel import filesystems, mounts

if TYPE_CHECKING:
    from tests.conftest import Runner, Surroundings


PATIENCE_S = 30  # longer than any test of others has a mount or a group


def test_looking_around_sees_a_child_and_a_descriptor(look_around: Callable[[], Surroundings]) -> None:
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE) as child:
        seen = look_around()
        child.kill()
    assert "sleep 60 " in seen.processes.values()
    assert child.stdin is not None
    assert len([target for target in seen.descriptors.values() if target.startswith("pipe:")]) > len(
        [target for target in look_around().descriptors.values() if target.startswith("pipe:")]
    )


def test_looking_around_sees_an_orphan(look_around: Callable[[], Surroundings]) -> None:
    started = subprocess.run(
        ["sh", "-c", "sleep 61 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True, text=True
    )
    orphan = int(started.stdout)
    seen = look_around()
    os.kill(orphan, 9)
    assert [command for (pid, _), command in seen.processes.items() if pid == orphan] == ["sleep 61 "]


@pytest.mark.box
def test_looking_around_sees_a_mount(in_namespace: Runner, look_around: Callable[[], Surroundings]) -> None:
    def leak() -> list[str]:
        Path("here").mkdir()
        mounts.attach(filesystems.tmpfs(), "here")
        return [mount.mount_point for mount in look_around().mounts.values()]

    assert "/mnt/here" in in_namespace(leak)


def test_session_leaves_nothing(before: Surroundings, look_around: Callable[[], Surroundings]) -> None:
    after = look_around()
    assert {key: command for key, command in after.processes.items() if key not in before.processes} == {}
    assert {fd: target for fd, target in after.descriptors.items() if before.descriptors.get(fd) != target} == {}
    mounts = {key: mount.mount_point for key, mount in after.mounts.items() if key not in before.mounts}
    groups = after.cgroups - before.cgroups
    deadline = time.monotonic() + PATIENCE_S
    while (mounts or groups) and time.monotonic() < deadline:
        time.sleep(0.1)
        now = look_around()
        mounts = {key: point for key, point in mounts.items() if key in now.mounts}
        groups &= now.cgroups
    assert (mounts, groups) == ({}, frozenset())
