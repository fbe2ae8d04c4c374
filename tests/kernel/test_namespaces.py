from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import (
    CLONE_NEWNS,
    CLONE_NEWTIME,
    CLONE_NEWUTS,
    open_namespace,
    sethostname,
    setns,
    unshare,
    write_time_offset,
)

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def test_unshare_gives_another_namespace(in_namespace: Runner) -> None:
    def compare() -> tuple[str, str]:
        before = os.readlink("/proc/self/ns/uts")
        unshare(CLONE_NEWUTS)
        return before, os.readlink("/proc/self/ns/uts")

    before, after = in_namespace(compare)
    assert before != after


def test_unshare_with_unknown_flags_is_refused(in_user_child: Runner) -> None:
    def refused() -> int | None:
        with pytest.raises(OSError, match="unshare: Invalid argument") as caught:
            unshare(0x1)
        return caught.value.errno

    assert in_user_child(refused) == errno.EINVAL


def test_setns_goes_back_to_a_namespace_held_open(in_namespace: Runner) -> None:
    def there_and_back() -> tuple[str, str]:
        unshare(CLONE_NEWNS)
        before = os.readlink("/proc/self/ns/mnt")
        fd = open_namespace("mnt")
        unshare(CLONE_NEWNS)
        setns(fd, CLONE_NEWNS)
        return before, os.readlink("/proc/self/ns/mnt")

    before, after = in_namespace(there_and_back)
    assert before == after


def test_setns_of_another_kind_is_refused(in_namespace: Runner) -> None:
    def refused() -> int | None:
        with pytest.raises(OSError, match="setns") as caught:
            setns(open_namespace("uts"), CLONE_NEWNS)
        return caught.value.errno

    assert in_namespace(refused) == errno.EINVAL


def test_sethostname_changes_the_name_inside_only(in_user_child: Runner) -> None:
    def rename() -> str:
        enter_user_namespace(CLONE_NEWUTS)
        sethostname("box-of-tests")
        return os.uname().nodename

    before = os.uname().nodename
    assert in_user_child(rename) == "box-of-tests"
    assert os.uname().nodename == before


def test_sethostname_without_right_is_refused(in_user_child: Runner) -> None:
    def refused() -> str:
        with pytest.raises(OSError, match="sethostname") as caught:
            sethostname("x" * 65)
        return type(caught.value).__name__

    assert in_user_child(refused) in ("PermissionError", "OSError")  # 65 bytes: too long even for root


def test_clock_of_a_new_time_namespace_is_set_off_once(in_user_child: Runner) -> None:
    def set_off() -> tuple[list[str], int | None]:
        enter_user_namespace(CLONE_NEWTIME)
        write_time_offset("monotonic", 1000)
        with open("/proc/self/timens_offsets") as file:
            shown = file.readline().split()
        with pytest.raises(OSError, match="write: ") as caught:
            write_time_offset("boottime", -(2**40))
        return shown, caught.value.errno

    assert in_user_child(set_off) == (["monotonic", "1000", "0"], errno.ERANGE)
