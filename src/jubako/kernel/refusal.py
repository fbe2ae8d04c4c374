"""Why a box cannot be made here, and the cure: from the step that failed and the switches of this host. Pure.

The kernel says EPERM for half a dozen different reasons. Which one it was follows from the settings that distributions
and container engines use, read by `read_switches`.
"""

from __future__ import annotations

import errno

from jubako.kernel.box_trial import Step, Trial
from jubako.records import record

__all__ = ["Refusal", "Switches", "explain_refusal", "read_switches"]

APPARMOR_SWITCH = "kernel.apparmor_restrict_unprivileged_userns"


@record
class Switches:
    """Settings that forbid namespaces; None where this kernel has no such setting."""

    max_user_namespaces: int | None = None
    unprivileged_userns_clone: int | None = None  # Debian's and hardened kernels'
    apparmor_restricts: int | None = None  # Ubuntu's
    is_filtered: bool = False  # this process runs under a seccomp filter, as in a container
    filter_of: str = "the container"
    filter_cure: str = "start the container with --security-opt seccomp=unconfined"
    proc_cure: str = "start the container with --security-opt systempaths=unconfined"


@record
class Refusal:
    """A sentence that says why, and one that says what to do."""

    reason: str
    cure: str


def read_switches() -> Switches:
    """The settings of this host as this process sees them."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        is_filtered = any(line.split() == ["Seccomp:", "2"] for line in file)
    return Switches(
        max_user_namespaces=_read_number("user/max_user_namespaces"),
        unprivileged_userns_clone=_read_number("kernel/unprivileged_userns_clone"),
        apparmor_restricts=_read_number("kernel/apparmor_restrict_unprivileged_userns"),
        is_filtered=is_filtered,
    )


def explain_refusal(trial: Trial, switches: Switches) -> Refusal:
    """Why `trial`, which failed, did. Raises ValueError for one that did not fail."""
    if trial.failed is None:
        raise ValueError("the trial did not fail")
    number = trial.error_number
    if number in (errno.EPERM, errno.EACCES):
        return _explain_permission(trial, trial.failed, switches)
    if trial.failed is Step.USER_NAMESPACE:
        if number == errno.ENOSPC:
            return _explain_count(switches)
        if number in (errno.EINVAL, errno.ENOSYS):
            return Refusal("this kernel is built without user namespaces", "use a kernel with CONFIG_USER_NS=y")
    if trial.failed is Step.OVERLAY and number in (errno.ENODEV, errno.ENOENT):
        return Refusal("this kernel has no overlay file system", "load it with 'modprobe overlay', as root")
    if number == errno.ENOSYS:
        return Refusal("this kernel lacks the newer mount calls", "use Linux 5.12 or newer")
    if trial.failed in (Step.WHITEOUT, Step.OPAQUE):
        return Refusal(
            f"overlays lose what is deleted in them ({trial.error})",
            "use Linux 6.6 or newer, whose tmpfs holds user attributes",
        )
    return Refusal(f"{trial.failed.value} failed ({trial.error})", "please report it with the output of this command")


def _explain_permission(trial: Trial, step: Step, switches: Switches) -> Refusal:
    if switches.is_filtered and step in (Step.USER_NAMESPACE, Step.NAMESPACES, Step.TMPFS, Step.OVERLAY):
        return Refusal(
            f"a system call filter of {switches.filter_of} refuses {step.value}",
            switches.filter_cure,
        )
    if trial.with_user_namespace and step is not Step.PROC:
        if switches.apparmor_restricts:
            return Refusal(
                f"AppArmor keeps programs without a profile from using user namespaces ({APPARMOR_SWITCH}=1)",
                f"as root: sysctl -w {APPARMOR_SWITCH}=0, or a profile with 'userns,' for this Python",
            )
        if switches.unprivileged_userns_clone == 0:
            return Refusal(
                "user namespaces are for root only (kernel.unprivileged_userns_clone=0)",
                "as root: sysctl -w kernel.unprivileged_userns_clone=1",
            )
        if step is Step.OVERLAY:
            return Refusal("overlays in a user namespace are refused", "use Linux 5.11 or newer")
        return Refusal(
            f"{step.value} is refused ({trial.error})",
            "look for a security module in the kernel's log; in a chroot user namespaces are forbidden",
        )
    if step is Step.PROC:
        return Refusal(
            "a fresh /proc is refused, since parts of this one are covered, as container engines do",
            switches.proc_cure,
        )
    return Refusal(f"{step.value} is refused: CAP_SYS_ADMIN is missing", "run as an ordinary user, or as full root")


def _explain_count(switches: Switches) -> Refusal:
    if switches.max_user_namespaces == 0:
        return Refusal(
            "user namespaces are switched off (user.max_user_namespaces=0)",
            "as root: sysctl -w user.max_user_namespaces=15000",
        )
    return Refusal(
        "no more user namespaces may be made, or they are nested too deep",
        "end programs that hold namespaces, or as root: sysctl -w user.max_user_namespaces=15000",
    )


def _read_number(name: str) -> int | None:
    try:
        with open(f"/proc/sys/{name}", encoding="utf-8") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
