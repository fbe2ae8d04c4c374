"""Which user a command runs as, for boxes of root's: a name or a number, looked up here, become in the child."""

from __future__ import annotations

import os

from jubako.errors import InputError
from jubako.records import record

__all__ = ["Identity", "find_identity"]


@record
class Identity:
    """A user id with its groups, and what the environment says of it."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def become(self) -> None:
        """Makes this process that user's. There is no way back."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def find_identity(user: str) -> Identity:
    """Who `user` is: a name, a uid, or either with ":gid" or ":group" behind it. InputError for who isn't known.

    Only root can become somebody else.
    """
    import grp  # 0.3 ms each, for boxes with a user
    import pwd

    if os.geteuid() != 0:
        raise InputError(
            f"user={user!r}: only root can run something as another user",
            hint="As an ordinary user what runs in a box is yours.",
        )
    name, colon, group = user.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        if not name.isdecimal():
            raise InputError(f"there is no user {name!r} on this machine", hint="A number needs no entry.") from None
        entry = None
    uid = int(name) if entry is None else entry.pw_uid
    gid = uid if entry is None else entry.pw_gid
    groups = (gid,) if entry is None else tuple(os.getgrouplist(entry.pw_name, gid))
    if colon:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise InputError(f"there is no group {group!r} on this machine", hint="A number needs no entry.") from None
        groups = (gid,)
    says = () if entry is None else (("HOME", entry.pw_dir), ("USER", entry.pw_name), ("LOGNAME", entry.pw_name))
    return Identity(uid, gid, groups, says)
