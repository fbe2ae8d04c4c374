"""Whether boxes can be made on this host, and how; why not, and the cure.

`probe_can_box` is asked at the start of every run and tries only what a box is made of (under 10 ms). It changes
nothing that outlives it. `host` looks at everything else.
"""

from __future__ import annotations

import os
import sys

from jubako.kernel.box_trial import Trial, try_box
from jubako.kernel.refusal import Switches, explain_refusal, read_switches
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BoxAbility", "judge_trials", "probe_can_box", "try_boxes"]

_NO_LINUX_CURE = "use a Linux machine, also a virtual one; tasks without a box run anywhere"


@record
class BoxAbility:
    """Whether boxes can be made here, and how: root needs no user namespace, if it really is root."""

    works: bool
    with_user_namespace: bool
    reason: str = ""  # why not
    cure: str = ""


def probe_can_box() -> BoxAbility:
    """Whether a box can be made, tried in a child. The caller should be single-threaded, as for any fork."""
    if sys.platform != "linux":
        return BoxAbility(False, False, f"boxes need Linux, and this is {sys.platform}", _NO_LINUX_CURE)
    return judge_trials(try_boxes(), read_switches)


def try_boxes() -> list[Trial]:
    """The trials of the ways open to this user, until one succeeds; the last one decides."""
    if os.geteuid() != 0:
        return [try_box(with_user_namespace=True)]
    trial = try_box(with_user_namespace=False)
    return [trial] if trial.failed is None else [trial, try_box(with_user_namespace=True)]


def judge_trials(trials: Sequence[Trial], switches: Callable[[], Switches]) -> BoxAbility:
    """What the last of the trials says."""
    last = trials[-1]
    if last.failed is None:
        return BoxAbility(True, last.with_user_namespace)
    refusal = explain_refusal(last, switches())
    return BoxAbility(False, last.with_user_namespace, refusal.reason, refusal.cure)
