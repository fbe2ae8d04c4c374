"""Which capabilities a box leaves: what it names, and what root's wide view adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jubako.boxes.spec import Box, Host
from jubako.boxes.views.capabilities import ROOT_CAPABILITIES, choose_capabilities
from jubako.kernel.capabilities import capability_number, capget, drop_all_capabilities

if TYPE_CHECKING:
    from tests.conftest import Runner

WIDE = Box(Host(whole=True), capabilities=["CAP_NET_RAW", "CAP_CHOWN"])


def test_narrow_box_keeps_what_it_names_alone() -> None:
    assert choose_capabilities(Box(), uid=0) == ()
    assert choose_capabilities(Box(capabilities=["CAP_CHOWN"]), uid=0) == ("CAP_CHOWN",)


def test_wide_box_of_a_user_keeps_what_it_names_alone() -> None:
    assert choose_capabilities(WIDE, uid=1000) == ("CAP_NET_RAW", "CAP_CHOWN")


def test_wide_box_of_root_adds_the_usual_ones_as_far_as_they_are_held(in_child: Runner) -> None:
    held = [name for name in ROOT_CAPABILITIES if capget().permitted >> capability_number(name) & 1]
    assert choose_capabilities(WIDE, uid=0) == tuple(dict.fromkeys(("CAP_NET_RAW", "CAP_CHOWN", *held)))

    def without_any() -> tuple[str, ...]:
        drop_all_capabilities()
        return choose_capabilities(WIDE, uid=0)

    assert in_child(without_any) == ("CAP_NET_RAW", "CAP_CHOWN")
