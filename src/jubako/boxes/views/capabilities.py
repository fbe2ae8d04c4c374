"""Which capabilities what runs in a box keeps: those its box names, and root's usual ones in the wide view."""

from __future__ import annotations

from jubako.boxes.profiles import get_profile
from jubako.boxes.spec import Box
from jubako.kernel.capabilities import capability_name, capability_number, capget, last_capability

__all__ = ["ROOT_CAPABILITIES", "choose_capabilities"]

# What root keeps in the wide view: what package managers and installers need to change files and users. Not here:
# CAP_MKNOD (a device node is the machine), CAP_NET_RAW and CAP_NET_ADMIN (the network is shared), CAP_AUDIT_WRITE,
# CAP_SYS_*.
ROOT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
_TO_BECOME_ANOTHER = ("CAP_SETGID", "CAP_SETUID")  # who has none then


def choose_capabilities(box: Box, uid: int) -> tuple[str, ...]:
    """The names of those that a command or task of user `uid` keeps in `box`; the usual ones as far as we hold them.

    An init has all of those of its user namespace, which none of this is about.
    """
    asked = tuple(box.capabilities)
    kind = get_profile(box.profile).capabilities
    if uid != 0 or not box.base.whole:
        return asked
    if kind == "none":
        return _TO_BECOME_ANOTHER if box.user else ()
    held = capget().permitted
    if kind == "held":
        return tuple(capability_name(number) for number in range(last_capability() + 1) if held >> number & 1)
    usual = [name for name in ROOT_CAPABILITIES if held >> capability_number(name) & 1]
    return tuple(dict.fromkeys((*asked, *usual)))
