"""What the pid 1 of a command's box does to itself before it starts the command: new namespaces, then fewer rights.

    enter_namespaces    a pid namespace it is in already; mounts, IPC, host name and perhaps the network become its own
    give_up_rights      once the view is mounted: capabilities, new privileges, system calls, being looked into

Both happen in a forked child, and there is no way back.
"""

from __future__ import annotations

import errno
import os

from jubako.boxes.views.loopback import bring_loopback_up
from jubako.errors import HostError
from jubako.kernel import mounts, namespaces
from jubako.kernel.capabilities import drop_capabilities
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.landlock import scope_abstract_sockets
from jubako.kernel.process import set_dumpable, set_no_new_privs
from jubako.kernel.seccomp import default_filter, install_filter
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.boxes.networks.carrier import Carrier
    from jubako.boxes.resources.restrain import Restraint
    from jubako.boxes.spec import Network

__all__ = ["Confinement", "NotStarted", "enter_namespaces", "enter_or_explain", "give_up_rights"]

_NAMESPACE_HINTS = {
    errno.EPERM: "user namespaces are forbidden to you here (AppArmor, a sysctl or a container); "
    "'jubako doctor' says which",
    errno.EACCES: "this process has given up another user's rights since it was started: start boxes from a fresh one",
    errno.ENOSPC: "raise /proc/sys/user/max_user_namespaces, as root",
    errno.EINVAL: "this kernel was built without one of these namespaces; 'jubako doctor' shows what it has",
}


class NotStarted(HostError):
    """The box could not be made; the command has not run."""


@record
class Confinement:
    """What the command is shut into, beside its view."""

    user_namespace: bool  # its own, with this user's uid and gid alone
    network: Network = "host"
    hostname: str = ""  # "": as this machine
    abstract_sockets: bool = False  # the machine's can be reached
    capabilities: frozenset[int] = frozenset()  # kept; all others are given up
    held_descriptors: tuple[int, ...] = ()  # left open in the processes around the command, not in the command
    restraint: Restraint | None = None  # None: no limits
    carrier: Carrier | None = None  # of a private network


def enter_namespaces(confinement: Confinement) -> None:
    """Moves this process, the first of a new pid namespace, into the other namespaces of its own."""
    flags = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS
    shares_network = confinement.network == "host"
    enter_or_explain(flags if shares_network else flags | namespaces.CLONE_NEWNET, namespaces.unshare)
    mounts.mount("none", "/", flags=mounts.MS_REC | mounts.MS_PRIVATE)  # or what is mounted here shows outside
    if not shares_network:
        bring_loopback_up()
    if confinement.carrier is not None:
        confinement.carrier.ask()
    if confinement.hostname:
        namespaces.sethostname(confinement.hostname)


def give_up_rights(confinement: Confinement) -> None:
    """Gives up what the command must not have."""
    # Only who could gain rights by executing a program, root, needs the bounding set emptied.
    drop_capabilities(confinement.capabilities, bounding=os.geteuid() == 0)
    set_no_new_privs()
    if not confinement.abstract_sockets:
        scope_abstract_sockets()
    install_filter(default_filter())
    # Or the command, which has the same user and rights, could enter this machine's own file system by way of the
    # box's directory, which is held open here (/proc/1/fd), and read the caller's memory, of which this is a copy.
    set_dumpable(dumpable=False)


def enter_or_explain(flags: int, enter: Callable[[int], None]) -> None:
    """Enters new namespaces with `enter`; a refusal becomes a sentence with the cure."""
    try:
        enter(flags)
    except OSError as error:
        what = "a user namespace" if enter is enter_user_namespace else "namespaces"
        raise HostError(
            f"cannot make {what} for the box: {error}", hint=_NAMESPACE_HINTS.get(error.errno or 0, "")
        ) from error
