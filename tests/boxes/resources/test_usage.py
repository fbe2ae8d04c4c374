"""What was used and which limit was met, from what the kernel's accounts say."""

from __future__ import annotations

import pytest

from jubako.boxes.limits import Limits
from jubako.boxes.resources.groups import Readings
from jubako.boxes.resources.usage import Ending, describe_exceeded, make_usage

LIMITS = Limits(memory_bytes=512 << 20, pids=7, wall_s=10, cpu_s=5, disk_bytes=200 << 20)


@pytest.mark.parametrize(
    ("ending", "readings", "said"),
    [
        (Ending(0), None, ()),
        (Ending(137), Readings(), ()),  # by somebody else
        (Ending(124, "wall"), None, ("the command was ended: it took longer than 10 s",)),
        (Ending(137, "cpu"), None, ("the command was killed: it used more than 5 s of processor time",)),
        (Ending(152), None, ("the command was killed: it used more than 5 s of processor time",)),
        (Ending(137, "disk"), None, ("the command was killed: it wrote more than 200 MiB",)),
        (Ending(153), None, ("the command was killed: it wrote more than 200 MiB",)),
        (Ending(137, "memory"), None, ("the command was killed: it used more than 512 MiB of memory",)),
        (
            Ending(137),
            Readings(killed_for_memory=3),
            ("the command was killed: it used more than 512 MiB of memory",),
        ),
        (
            Ending(1),
            Readings(killed_for_memory=1),
            ("1 process was killed in the box: it used more than 512 MiB of memory",),
        ),
        (
            Ending(124, "wall"),
            Readings(killed_for_memory=2),
            (
                "the command was ended: it took longer than 10 s",
                "2 processes were killed in the box: it used more than 512 MiB of memory",
            ),
        ),
        (Ending(1), Readings(refused_processes=40), ("the command was refused more than 7 processes at a time",)),
    ],
)
def test_limit_that_was_met_is_named_with_its_number(
    ending: Ending, readings: Readings | None, said: tuple[str, ...]
) -> None:
    assert describe_exceeded(LIMITS, ending, readings, "the command") == said


def test_what_nobody_limited_is_not_blamed() -> None:
    readings = Readings(killed_for_memory=1, refused_processes=1)  # by a group above the box's
    assert describe_exceeded(Limits(), Ending(152), readings, "the command") == ()


def test_usage_is_the_groups_account_where_there_is_one() -> None:
    ending = Ending(0, wall_s=2.0, user_s=0.1, system_s=0.2, peak_bytes=5)
    readings = Readings(peak_memory_bytes=100, user_s=1.0, system_s=2.0, most_processes=3)
    usage = make_usage(ending, readings, 7)
    assert (usage.wall_s, usage.user_s, usage.system_s) == (2.0, 1.0, 2.0)
    assert (usage.peak_memory_bytes, usage.memory_of, usage.written_bytes, usage.most_processes) == (100, "box", 7, 3)


@pytest.mark.parametrize("readings", [None, Readings()])
def test_usage_without_groups_is_that_of_ended_processes(readings: Readings | None) -> None:
    usage = make_usage(Ending(0, wall_s=2.0, user_s=0.1, system_s=0.2, peak_bytes=5), readings, 0)
    assert (usage.user_s, usage.system_s) == (0.1, 0.2)
    assert (usage.peak_memory_bytes, usage.memory_of, usage.most_processes) == (5, "process", None)
