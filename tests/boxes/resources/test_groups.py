"""Control groups on this kernel: made, joined, read, removed; and what is done where one of that fails.

As root below the groups this session is in; a directory of plain files stands for what only other kernels have (v2's
controllers, where this machine has them in v1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.boxes.resources.groups import Readings, join_groups, make_groups, read_cpu_s, read_groups, sweep_groups
from jubako.boxes.resources.plan_limits import PlannedGroup, Setting
from jubako.errors import HostError
from jubako.kernel.group_places import GroupPlace, read_group_places
from jubako.kernel.mount_table import read_mount_table

of_root = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may have no control group to make any below")


@pytest.fixture
def places() -> tuple[GroupPlace, ...]:
    return read_group_places(read_mount_table())


@pytest.fixture
def groups(places: tuple[GroupPlace, ...]) -> Iterator[list[PlannedGroup]]:
    name = f"jubako-test-{os.getpid()}"
    planned = [PlannedGroup(place.version, f"{place.directory}/{name}", place.controllers) for place in places]
    yield planned
    for group in planned:
        if os.path.isdir(group.directory):
            os.rmdir(group.directory)


@of_root
def test_groups_are_made_written_down_and_swept(groups: list[PlannedGroup], tmp_path: Path) -> None:
    record = tmp_path / "groups"
    make_groups(groups, str(record))
    assert record.read_text().splitlines() == [group.directory for group in groups]
    assert all(os.path.isdir(group.directory) for group in groups)
    assert sweep_groups(str(record))
    assert not any(os.path.isdir(group.directory) for group in groups)
    assert not record.exists()
    assert sweep_groups(str(record))


@of_root
def test_what_joined_groups_is_measured_with_all_it_starts(groups: list[PlannedGroup], tmp_path: Path) -> None:
    record = str(tmp_path / "groups")
    make_groups(groups, record)
    pid = os.fork()
    if pid == 0:
        try:
            join_groups(groups)
            used = bytearray(30 << 20)
            for _ in range(3):
                os.waitpid(
                    os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"), 0
                )
            os._exit(not used)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    readings = read_groups(groups, 1)
    cpu_s = read_cpu_s(groups)
    assert sweep_groups(record)
    assert readings.peak_memory_bytes is not None
    assert readings.peak_memory_bytes > 30 << 20
    assert readings.most_processes == 1
    assert readings.user_s is not None
    assert readings.system_s is not None
    assert cpu_s == readings.user_s + readings.system_s > 0


@of_root
def test_group_that_somebody_is_in_is_not_swept_and_stays_written_down(
    groups: list[PlannedGroup], tmp_path: Path
) -> None:
    record = tmp_path / "groups"
    make_groups(groups, str(record))
    joined, tell = os.pipe()
    end, hold = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            join_groups(groups)
            os.close(hold)
            os.write(tell, b".")
            os.read(end, 1)
        finally:
            os._exit(0)
    os.read(joined, 1)
    try:
        assert not sweep_groups(str(record))
        assert record.exists()
    finally:
        os.close(hold)
        os.waitpid(pid, 0)
        for fd in (joined, tell, end):
            os.close(fd)
    assert sweep_groups(str(record))


@of_root
def test_setting_that_is_refused_names_itself_and_leaves_no_group(groups: list[PlannedGroup], tmp_path: Path) -> None:
    wrong = [
        PlannedGroup(group.version, group.directory, group.controllers, (Setting("cgroup.procs", "no number"),))
        for group in groups[-1:]
    ]
    with pytest.raises(HostError, match=r"write: Invalid argument.*cgroup\.procs"):
        make_groups([*groups[:-1], *wrong], str(tmp_path / "groups"))
    assert not any(os.path.isdir(group.directory) for group in groups)
    assert os.listdir(tmp_path) == []


@of_root
def test_optional_setting_that_a_kernel_lacks_is_left_out(groups: list[PlannedGroup], tmp_path: Path) -> None:
    group = groups[0]
    lacking = PlannedGroup(group.version, group.directory, (), (Setting("memory.none.such", "1", optional=True),))
    make_groups([lacking], str(tmp_path / "groups"))
    assert sweep_groups(str(tmp_path / "groups"))


def test_group_that_cannot_be_made_is_an_error_with_its_path(tmp_path: Path) -> None:
    nowhere = PlannedGroup(1, f"{tmp_path}/none/jubako-x", ("pids",))
    with pytest.raises(HostError, match="none/jubako-x"):
        make_groups([nowhere], str(tmp_path / "groups"))
    assert os.listdir(tmp_path) == []


def test_record_that_was_tampered_with_removes_no_other_directory(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "groups").write_text(f"{tmp_path}/precious\n")
    assert sweep_groups(str(tmp_path / "groups"))
    assert (tmp_path / "precious").is_dir()


def test_accounts_of_v2_are_read_from_its_files(tmp_path: Path) -> None:
    for name, text in {
        "memory.peak": "1048576\n",
        "memory.events": "low 0\noom 2\noom_kill 1\n",
        "pids.peak": "5\n",
        "pids.events": "max 3\n",
        "cpu.stat": "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n",
    }.items():
        (tmp_path / name).write_text(text)
    group = PlannedGroup(2, str(tmp_path), ("memory", "cpu", "pids"))
    assert read_groups([group], 1) == Readings(1 << 20, 1, 2.0, 1.0, 4, 3)
    assert read_cpu_s([group]) == 3.0


def test_accounts_that_a_kernel_lacks_are_unknown(tmp_path: Path) -> None:
    group = PlannedGroup(1, str(tmp_path), ("memory", "pids"))
    assert read_groups([group], 1) == Readings()
