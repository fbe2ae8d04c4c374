from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from jubako.kernel.host.ability import Ability
from jubako.kernel.host.calls import look_at_calls, look_at_filter
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import Rule, compile_filter, install_filter

if TYPE_CHECKING:
    from tests.conftest import Runner

PR_SET_SECCOMP = 22


def rows() -> dict[str, Ability]:
    return {row.name: row for row in look_at_calls()}


def without(*names: str) -> dict[str, Ability]:
    """What is found where the kernel lacks these calls."""
    set_no_new_privs()
    install_filter(compile_filter({name: Rule(errno.ENOSYS) for name in names}, os.uname().machine))
    return rows()


def test_calls_of_this_kernel_are_those_boxes_need() -> None:
    assert {row.verdict for name, row in rows().items() if name != "landlock"} == {"yes"}


def test_kernel_that_lacks_needed_calls_is_named_with_each(in_child: Runner) -> None:
    found = in_child(lambda: without("openat2", "move_mount"))["kernel"]
    assert found.verdict == "no"
    assert found.meaning.endswith("lacks openat2, move_mount")
    assert "5.12" in found.cure


def test_kernel_that_lacks_newer_calls_lacks_nothing_that_is_needed(in_child: Runner) -> None:
    found = in_child(lambda: without("statmount", "landlock_create_ruleset"))
    assert found["kernel"].verdict == "yes"
    assert "statmount done the older way" in found["newer calls"].meaning
    assert (found["landlock"].verdict, found["landlock"].meaning) == ("limited", "this kernel is built without it")


def test_filter_that_cannot_be_installed_says_what_the_kernel_said(in_child: Runner) -> None:
    def probe() -> Ability:
        set_no_new_privs()
        refused = {"seccomp": Rule(errno.EINVAL), "prctl": Rule(errno.EINVAL, equal_to=(PR_SET_SECCOMP,))}
        install_filter(compile_filter(refused, os.uname().machine))
        return look_at_filter()

    found = in_child(probe)
    assert (found.verdict, found.cure) == ("no", "use a kernel with CONFIG_SECCOMP_FILTER=y")
    assert "Invalid argument" in found.meaning
