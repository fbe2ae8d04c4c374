from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.kernel.box_trial import Step, Trial
from jubako.kernel.refusal import Switches, explain_refusal

UBUNTU = Switches(max_user_namespaces=60000, unprivileged_userns_clone=1, apparmor_restricts=1)
DEBIAN = Switches(max_user_namespaces=60000, unprivileged_userns_clone=0)
DOCKER = Switches(max_user_namespaces=60000, is_filtered=True)
PLAIN = Switches(max_user_namespaces=60000)


@pytest.mark.parametrize(
    ("step", "number", "switches", "reason", "cure"),
    [
        (Step.USER_NAMESPACE, errno.ENOSPC, Switches(max_user_namespaces=0), "switched off", "max_user_namespaces"),
        (Step.USER_NAMESPACE, errno.ENOSPC, PLAIN, "nested too deep", "max_user_namespaces"),
        (Step.USER_NAMESPACE, errno.EINVAL, PLAIN, "without user namespaces", "CONFIG_USER_NS"),
        (Step.USER_NAMESPACE, errno.EACCES, UBUNTU, "AppArmor", "apparmor_restrict_unprivileged_userns=0"),
        (Step.ID_MAP, errno.EPERM, UBUNTU, "AppArmor", "apparmor_restrict_unprivileged_userns=0"),
        (Step.ID_MAP, errno.EACCES, UBUNTU, "AppArmor", "profile"),
        (Step.NAMESPACES, errno.EPERM, UBUNTU, "AppArmor", "profile"),
        (Step.TMPFS, errno.EACCES, UBUNTU, "AppArmor", "profile"),
        (Step.USER_NAMESPACE, errno.EPERM, DEBIAN, "root only", "unprivileged_userns_clone=1"),
        (Step.USER_NAMESPACE, errno.EPERM, DOCKER, "container", "seccomp=unconfined"),
        (Step.USER_NAMESPACE, errno.EPERM, PLAIN, "is refused", "security module"),
        (Step.OVERLAY, errno.EPERM, PLAIN, "overlays in a user namespace", "5.11"),
        (Step.OVERLAY, errno.ENODEV, PLAIN, "no overlay", "modprobe overlay"),
        (Step.READ_ONLY, errno.ENOSYS, PLAIN, "newer mount calls", "5.12"),
        (Step.OPAQUE, errno.ENODATA, PLAIN, "lose what is deleted", "6.6"),
        (Step.PROC, errno.EPERM, PLAIN, "fresh /proc", "systempaths=unconfined"),
        (Step.TMPFS, errno.EIO, PLAIN, "mounting a tmpfs failed (what was said)", "report"),
    ],
)
def test_refusal_names_the_reason_and_the_cure(
    step: Step, number: int, switches: Switches, reason: str, cure: str
) -> None:
    refusal = explain_refusal(Trial(True, step, number, "what was said"), switches)
    assert reason in refusal.reason
    assert cure in refusal.cure


def test_refusal_of_root_names_the_capability() -> None:
    refusal = explain_refusal(Trial(False, Step.NAMESPACES, errno.EPERM, "x"), UBUNTU)
    assert "CAP_SYS_ADMIN" in refusal.reason


def test_refusal_of_what_worked_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="did not fail"):
        explain_refusal(Trial(True), PLAIN)


@given(
    st.builds(Trial, with_user_namespace=st.booleans(), failed=st.sampled_from(Step), error_number=st.integers(0, 133)),
    st.builds(
        Switches,
        st.none() | st.integers(0, 2),
        st.none() | st.integers(0, 1),
        st.none() | st.integers(0, 1),
        st.booleans(),
    ),
)
def test_refusal_always_has_a_reason_and_a_cure_on_one_line(trial: Trial, switches: Switches) -> None:
    refusal = explain_refusal(trial, switches)
    assert refusal.reason and refusal.cure
    assert "\n" not in refusal.reason + refusal.cure
