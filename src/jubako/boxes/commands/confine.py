"""What the pid 1 of a command's box does to itself before it starts the command: new namespaces, then fewer rights.

    enter_namespaces    a pid namespace it is in already; mounts, IPC and host name become its own
    enter_inner         once the view is mounted: root's box gets a user namespace, which owns none of that, and a
                        box with a network of its own gets that
    give_up_rights      capabilities, new privileges, system calls, being looked into

All of it happens in a forked child, and there is no way back. `open_inner` is for the process that forks it.
"""

from __future__ import annotations

import errno
import os

from jubako.boxes.profiles import PROFILES, Profile
from jubako.boxes.views.loopback import bring_loopback_up
from jubako.errors import HostError
from jubako.kernel import mounts, namespaces
from jubako.kernel.capabilities import drop_capabilities
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.landlock import scope_abstract_sockets
from jubako.kernel.process import set_dumpable, set_no_new_privs
from jubako.kernel.seccomp import default_filter, init_filter, install_filter, strict_filter
from jubako.kernel.syscalls import close
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.boxes.networks.carrier import Carrier
    from jubako.boxes.resources.restrain import Restraint
    from jubako.boxes.spec import Network

__all__ = [
    "Confinement",
    "NotStarted",
    "close_inner",
    "compile_profile",
    "enter_inner",
    "enter_namespaces",
    "enter_or_explain",
    "give_up_rights",
    "open_inner",
]

_OF_AN_INIT = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWCGROUP
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

    user_namespace: bool  # its own from the start, with this user's uid and gid alone
    profile: Profile = PROFILES["task"]
    inner: bool = False  # root's: another one, with every id, when the view is mounted
    network: Network = "host"
    hostname: str = ""  # "": as this machine
    abstract_sockets: bool = False  # the machine's can be reached
    capabilities: frozenset[int] = frozenset()  # kept; all others are given up
    held_descriptors: tuple[int, ...] = ()  # left open in the processes around the command, not in the command
    restraint: Restraint | None = None  # None: no limits
    carrier: Carrier | None = None  # of a private network
    inner_descriptor: int = -1  # of the inner user namespace
    own_session: bool = False  # pid 1 leads one, and a process group, that nobody outside is in

    @property
    def carried_descriptors(self) -> tuple[int, ...]:
        """What pid 1 must have besides the held ones until it has entered everything."""
        carried = () if self.carrier is None else (self.carrier.fd,)
        return carried if self.inner_descriptor < 0 else (*carried, self.inner_descriptor)


def compile_profile(profile: Profile) -> bytes | None:
    """The filter of system calls, computed once in each process; None: there is none."""
    match profile.filter:
        case "refusing":
            return default_filter()
        case "allowing":
            return strict_filter()
        case "init":
            return init_filter()
        case "none":
            return None


def open_inner(confinement: Confinement) -> tuple[Confinement, tuple[str, ...]]:
    """The confinement with its inner user namespace made, and what this machine did not allow, in words."""
    if not confinement.inner:
        return confinement, ()
    # A module with the forks and pipes that make one, for root's boxes.
    from jubako.boxes.commands.user_namespaces import find_identity_namespace, make_identity_namespace

    profile = confinement.profile
    try:
        fd = make_identity_namespace(nests=profile.nests) if profile.is_first else find_identity_namespace()
    except OSError as error:
        if profile.is_first:
            found = _explain(error, "a user namespace")
            raise NotStarted(found.message, hint=found.hint) from error
        note = (
            f"the box has no user namespace of its own ({error.strerror}): its capabilities are those of this machine"
        )
        return replace(confinement, inner=False), (note,)
    return replace(confinement, inner_descriptor=fd), ()


def close_inner(confinement: Confinement) -> None:
    """Closes what `open_inner` opened for one box alone."""
    if confinement.inner_descriptor >= 0 and confinement.profile.is_first:
        os.close(confinement.inner_descriptor)


def enter_namespaces(confinement: Confinement) -> None:
    """Moves this process, the first of a new pid namespace, into the namespaces that its view is made in."""
    enter_or_explain(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS, namespaces.unshare)
    mounts.mount("none", "/", flags=mounts.MS_REC | mounts.MS_PRIVATE)  # or what is mounted here shows outside
    if confinement.hostname:
        namespaces.sethostname(confinement.hostname)


def enter_inner(confinement: Confinement) -> None:
    """Moves this process, whose view is mounted, into its inner user namespace and its own network, as far as it is to
    have them. What the command could do to namespaces, it can do to those made here alone."""
    if confinement.inner:
        namespaces.setns(confinement.inner_descriptor, namespaces.CLONE_NEWUSER)
        close(confinement.inner_descriptor)
    elif confinement.profile.is_first:
        enter_or_explain(0, lambda flags: enter_user_namespace(flags, as_root=True))
    own = 0 if confinement.network == "host" else namespaces.CLONE_NEWNET
    if confinement.profile.is_first:
        own |= _OF_AN_INIT
    if own:
        enter_or_explain(own, namespaces.unshare)
    if confinement.network != "host":
        bring_loopback_up()
    if confinement.carrier is not None:
        confinement.carrier.ask()


def give_up_rights(confinement: Confinement) -> None:
    """Gives up what the command must not have."""
    profile = confinement.profile
    if profile.capabilities != "own":
        # Only who could gain rights by executing a program, root, needs the bounding set emptied.
        drop_capabilities(confinement.capabilities, bounding=os.geteuid() == 0)
    if profile.no_new_privileges:
        set_no_new_privs()
    if not confinement.abstract_sockets:
        scope_abstract_sockets()
    program = compile_profile(profile)
    if program is not None:
        install_filter(program)
    # Or the command, which has the same user and rights, could enter this machine's own file system by way of the
    # box's directory, which is held open here (/proc/1/fd), and read the caller's memory, of which this is a copy.
    set_dumpable(dumpable=False)


def enter_or_explain(flags: int, enter: Callable[[int], None]) -> None:
    """Enters new namespaces with `enter`; a refusal becomes a sentence with the cure."""
    try:
        enter(flags)
    except OSError as error:
        raise _explain(error, "namespaces" if enter is namespaces.unshare else "a user namespace") from error


def _explain(error: OSError, what: str) -> HostError:
    return HostError(f"cannot make {what} for the box: {error}", hint=_NAMESPACE_HINTS.get(error.errno or 0, ""))
