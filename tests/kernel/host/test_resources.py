from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from jubako.kernel.host.ability import Ability
from jubako.kernel.host.programs import look_at_clock, look_at_network_programs, look_at_terminals
from jubako.kernel.host.resources import look_at_limits
from jubako.kernel.mount_table import read_mount_table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Runner


def limits() -> dict[str, Ability]:
    return {row.name: row for row in look_at_limits(read_mount_table())}


def test_limits_of_this_process_are_those_it_has(in_child: Runner) -> None:
    def probe() -> dict[str, Ability]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        resource.setrlimit(resource.RLIMIT_NPROC, (77, 77))
        return limits()

    found = in_child(probe)
    assert found["descriptors"].meaning == "100 open files for each process, 100 at most"
    assert (found["descriptors"].verdict, found["processes"].verdict) == ("limited", "limited")
    assert found["processes"].meaning == "77 at most, by the limit of this user"


def test_soft_limit_that_can_be_raised_has_that_for_its_cure(in_child: Runner) -> None:
    def probe() -> dict[str, Ability]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 4000))
        return limits()

    assert in_child(probe)["descriptors"].cure == "ulimit -n 1024"


def test_mounts_and_watches_are_counted() -> None:
    found = limits()
    assert found["mounts"].meaning.startswith(f"{len(read_mount_table())} here, ")
    assert "watches" in found["inotify"].meaning


def test_terminals_that_cannot_be_opened_are_limited(in_child: Runner) -> None:
    assert look_at_terminals().verdict == "yes"

    def probe() -> Ability:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
        return look_at_terminals()

    found = in_child(probe)
    assert found.verdict == "limited"
    assert "Too many open files" in found.meaning


def test_programs_for_a_private_network_are_looked_for_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "slirp4netns").touch(0o755)
    row, _ = look_at_network_programs(str(tmp_path))
    assert row.verdict == "yes"
    assert "slirp4netns" in row.meaning


def test_clock_that_was_never_set_is_no_clock() -> None:
    never_set, _ = look_at_clock(1000.0)
    set_, _ = look_at_clock(2_000_000_000.0)
    assert (never_set.verdict, never_set.cure) == ("no", "as root: timedatectl set-ntp true")
    assert set_.verdict == "yes"
