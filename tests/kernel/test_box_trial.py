from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.box_trial import Step, Trial, try_box
from jubako.kernel.capabilities import drop_capabilities
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.namespaces import CLONE_NEWNS
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.refusal import Switches, explain_refusal, read_switches
from jubako.kernel.seccomp import default_filter, install_filter

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def test_trial_in_a_user_namespace_works_for_every_user(in_user_child: Runner) -> None:
    trial = in_user_child(lambda: try_box(with_user_namespace=True))
    assert (trial.failed, trial.error) == (None, "")


def test_trial_without_a_user_namespace_works_for_root_only(in_user_child: Runner) -> None:
    def attempt() -> tuple[bool, Trial]:
        return os.geteuid() == 0, try_box(with_user_namespace=False)

    is_root, trial = in_user_child(attempt)
    assert trial.failed is (None if is_root else Step.NAMESPACES)


def test_trial_leaves_no_mount_no_descriptor_and_no_child(in_user_child: Runner) -> None:
    def look() -> tuple[int, int]:
        return len(read_mount_table()), len(os.listdir("/proc/self/fd"))

    def attempt() -> bool:
        before = look()
        try_box(with_user_namespace=True)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return look() == before

    assert in_user_child(attempt)


def test_trial_where_user_namespaces_are_switched_off_says_so(in_user_child: Runner) -> None:
    def attempt() -> tuple[Trial, str]:
        enter_user_namespace()
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        trial = try_box(with_user_namespace=True)
        return trial, explain_refusal(trial, read_switches()).reason

    trial, reason = in_user_child(attempt)
    assert (trial.failed, trial.error_number) == (Step.USER_NAMESPACE, errno.ENOSPC)
    assert trial.error == "unshare: No space left on device"
    assert reason == "user namespaces are switched off (user.max_user_namespaces=0)"


def test_trial_under_the_filter_of_a_container_says_so(in_user_child: Runner) -> None:
    def attempt() -> tuple[Trial, str, Switches]:
        set_no_new_privs()
        install_filter(default_filter())
        trial, switches = try_box(with_user_namespace=True), read_switches()
        return trial, explain_refusal(trial, switches).cure, switches

    trial, cure, switches = in_user_child(attempt)
    assert (trial.failed, trial.error_number) == (Step.USER_NAMESPACE, errno.EPERM)
    assert switches.is_filtered
    assert "seccomp=unconfined" in cure


def test_trial_without_capabilities_says_so(in_user_child: Runner) -> None:
    def attempt() -> tuple[Trial, str]:
        enter_user_namespace(CLONE_NEWNS)
        drop_capabilities()
        trial = try_box(with_user_namespace=False)
        return trial, explain_refusal(trial, Switches()).reason

    trial, reason = in_user_child(attempt)
    assert trial.failed is Step.NAMESPACES
    assert "CAP_SYS_ADMIN is missing" in reason
