from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.capabilities import (
    capability_name,
    capability_number,
    capget,
    drop_capabilities,
    keep_capabilities,
    last_capability,
    read_capability_sets,
)
from jubako.kernel.idmap import enter_user_namespace

if TYPE_CHECKING:
    from tests.conftest import Runner

CHOWN, KILL, SETPCAP = 0, 5, 8


def test_every_name_has_the_number_it_is_named_by() -> None:
    names = [capability_name(number) for number in range(41)]
    assert [capability_number(name) for name in names] == list(range(41))
    assert (names[21], names[40]) == ("CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE")


@pytest.mark.parametrize("name", ["CAP_SYS_ADMIN", "cap_sys_admin", "sys_admin", "SYS_ADMIN"])
def test_capability_number_takes_the_usual_spellings(name: str) -> None:
    assert capability_number(name) == 21


def test_capability_unknown_by_name_is_refused_and_by_number_is_numbered() -> None:
    with pytest.raises(ValueError, match="'CAP_EVERYTHING' is not a capability"):
        capability_number("CAP_EVERYTHING")
    assert capability_name(63) == "CAP_63"
    assert capability_number("CAP_63") == 63


def test_capget_agrees_with_proc() -> None:
    seen, expected = capget(), read_capability_sets()
    assert (seen.effective, seen.permitted, seen.inheritable) == (
        expected.effective,
        expected.permitted,
        expected.inheritable,
    )


@pytest.mark.box
def test_drop_all_empties_every_set(in_user_child: Runner) -> None:
    def drop() -> tuple[int, ...]:
        enter_user_namespace()
        drop_capabilities()
        sets = read_capability_sets()
        return sets.effective, sets.permitted, sets.inheritable, sets.bounding, sets.ambient

    assert in_user_child(drop) == (0, 0, 0, 0, 0)


@pytest.mark.box
def test_drop_but_some_leaves_them_to_programs_executed_later(in_user_child: Runner) -> None:
    def drop() -> tuple[set[int], str]:
        enter_user_namespace()
        drop_capabilities({CHOWN, KILL})
        sets = read_capability_sets()
        shown = subprocess.run(["grep", "CapEff", "/proc/self/status"], capture_output=True, check=True).stdout
        return {sets.effective, sets.permitted, sets.inheritable, sets.bounding, sets.ambient}, shown.decode()

    sets, effective = in_user_child(drop)
    assert sets == {1 << CHOWN | 1 << KILL}
    assert int(effective.split()[1], 16) == 1 << CHOWN | 1 << KILL


@pytest.mark.box
def test_drop_without_the_bounding_set_leaves_that_alone(in_user_child: Runner) -> None:
    def drop() -> tuple[int, int]:
        enter_user_namespace()
        drop_capabilities(bounding=False)
        sets = read_capability_sets()
        return sets.effective, sets.bounding

    assert in_user_child(drop) == (0, (1 << (last_capability() + 1)) - 1)


@pytest.mark.box
def test_drop_once_more_without_setpcap_is_refused(in_user_child: Runner) -> None:
    def drop() -> bool:
        enter_user_namespace()
        drop_capabilities()
        with pytest.raises(PermissionError, match="prctl"):
            drop_capabilities()
        return True

    assert in_user_child(drop)


@pytest.mark.box
def test_keep_what_is_not_held_is_refused(in_user_child: Runner) -> None:
    def keep() -> bool:
        enter_user_namespace()
        drop_capabilities({SETPCAP})
        with pytest.raises(PermissionError, match="capset"):
            drop_capabilities({SETPCAP, CHOWN})
        return True

    assert in_user_child(keep)


@pytest.mark.box
def test_drop_takes_away_what_root_may_do_in_a_namespace(in_user_child: Runner) -> None:
    def use() -> tuple[bool, bool]:
        enter_user_namespace()
        os.chroot("/")
        drop_capabilities()
        with pytest.raises(PermissionError):
            os.chroot("/")
        return True, os.path.exists("/proc")

    assert in_user_child(use) == (True, True)


def test_kept_capabilities_are_ambient(in_user_child: Runner) -> None:
    def keep() -> tuple[int, int]:
        enter_user_namespace()
        keep_capabilities()
        sets = read_capability_sets()
        return sets.permitted, sets.ambient

    permitted, ambient = in_user_child(keep)
    assert permitted == ambient != 0
