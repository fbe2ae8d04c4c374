"""User namespaces, which an ordinary user's boxes are made in; every switch that forbids them; ranges of ids."""

from __future__ import annotations

import os
import stat

from jubako.kernel.host.ability import Ability, read_number, read_text
from jubako.kernel.idmap import parse_subordinate_ids
from jubako.kernel.refusal import APPARMOR_SWITCH, Switches, explain_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.kernel.box_trial import Trial
    from jubako.kernel.host.ability import Verdict

__all__ = ["look_at_id_ranges", "look_at_user_namespaces"]

_ABOUT = "user namespaces"
_COUNTS = ("user", "mnt", "pid", "net", "ipc", "uts")
_FEW_NAMESPACES = 64
_UNBOUNDED = 2**31 - 1  # what a new user namespace starts with; those around it count, too
_LENDS = "boxes and 'jubako unshare --map-auto' can have files of several users only with a range"


def look_at_user_namespaces(trial: Trial, switches: Switches) -> Iterator[Ability]:
    """Whether they can be had, by `trial`, which was made with one; then each thing that limits them."""
    why = "boxes of ordinary users are made in one, and root's tasks with no rights outside of it"
    forbidding: Verdict = "limited" if os.geteuid() == 0 else "no"
    if trial.failed is None:
        meaning = "ordinary users can make boxes, with overlays of what they may write"
        yield Ability(_ABOUT, "user namespaces", "yes", meaning, why)
    else:
        refusal = explain_refusal(trial, switches)
        yield Ability(
            _ABOUT,
            "user namespaces",
            forbidding,
            f"ordinary users cannot make boxes: {refusal.reason}",
            why,
            refusal.cure,
        )
    yield _look_at_counts()
    if switches.unprivileged_userns_clone is not None:
        value = switches.unprivileged_userns_clone
        yield Ability(
            _ABOUT,
            "unprivileged_userns_clone",
            "yes" if value else forbidding,
            f"kernel.unprivileged_userns_clone={value}",
            "0 keeps them for root (Debian's and hardened kernels)",
            "" if value else "as root: sysctl -w kernel.unprivileged_userns_clone=1",
        )
    yield _look_at_apparmor(trial, switches)
    yield _look_at_selinux(trial)


def look_at_id_ranges(environment_path: str, *, has_no_new_privs: bool = False) -> Ability:
    """Whether this user may map more ids than its own. Programs are looked for in `environment_path`."""
    name, uid = "id ranges", os.getuid()
    if uid == 0:
        return Ability(_ABOUT, name, "yes", "root may map any id", _LENDS)

    def lacks(what: str, cure: str) -> Ability:
        return Ability(_ABOUT, name, "limited", f"boxes map this user's id only: {what}", _LENDS, cure)

    import shutil  # 5 ms, for an ordinary user's doctor alone

    names = {str(uid), _user_name(uid)}
    lent = [
        any(one.owner in names for one in parse_subordinate_ids(read_text(path)))
        for path in ("/etc/subuid", "/etc/subgid")
    ]
    programs = [shutil.which(program, path=environment_path) for program in ("newuidmap", "newgidmap")]
    if not all(lent):
        cure = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {_user_name(uid)}"
        return lacks("no range in /etc/subuid and /etc/subgid", cure)
    if not all(programs):
        return lacks("newuidmap and newgidmap are missing", "install uidmap (shadow-utils)")
    if powerless := [program for program in programs if program and not _gives_rights(program)]:
        return lacks(
            f"{' and '.join(powerless)} {'have' if len(powerless) > 1 else 'has'} neither the set-id bit nor "
            "capabilities",
            f"as root: chmod u+s {' '.join(powerless)}",
        )
    if has_no_new_privs:
        return lacks("newuidmap gains no rights in this process", "start it without no_new_privs")
    return Ability(_ABOUT, name, "yes", "ranges of ids and the programs to map them are there", _LENDS)


def _look_at_counts() -> Ability:
    counts = {kind: read_number(f"/proc/sys/user/max_{kind}_namespaces") for kind in _COUNTS}
    few = {kind: count for kind, count in counts.items() if count is not None and count < _FEW_NAMESPACES}
    known = [count for count in counts.values() if count is not None]
    is_bounded = bool(known) and min(known) < _UNBOUNDED
    shown = ", ".join(f"user.max_{kind}_namespaces={count}" for kind, count in few.items())
    return Ability(
        _ABOUT,
        "counts of namespaces",
        "limited" if few else "yes",
        shown or (f"at least {min(known)} of each kind for each user" if is_bounded else "not limited"),
        "a box takes one of each kind but the network's, and 0 forbids them",
        "".join(f"{'as root: sysctl -w' if not number else ''} user.max_{kind}_namespaces=15000"
                for number, kind in enumerate(few)).strip(),
    )  # fmt: skip


def _look_at_apparmor(trial: Trial, switches: Switches) -> Ability:
    name, why = "AppArmor", "where it restricts them, only programs with a profile may use user namespaces (Ubuntu)"
    if not switches.apparmor_restricts:
        return Ability(_ABOUT, name, "yes", "does not restrict user namespaces", why)
    if trial.failed is None:
        return Ability(_ABOUT, name, "yes", f"{APPARMOR_SWITCH}=1, but this program may use user namespaces", why)
    refusal = explain_refusal(trial, switches)
    return Ability(_ABOUT, name, "limited", f"restricts user namespaces ({APPARMOR_SWITCH}=1)", why, refusal.cure)


def _look_at_selinux(trial: Trial) -> Ability:
    name, why = "SELinux", "a policy may forbid user namespaces, or labels keep a box from what it should see"
    enforces = read_number("/sys/fs/selinux/enforce")
    if enforces is None:
        return Ability(_ABOUT, name, "yes", "not used on this machine", why)
    if not enforces:
        return Ability(_ABOUT, name, "yes", "permissive: it logs and refuses nothing", why)
    if trial.failed is None:
        return Ability(_ABOUT, name, "yes", "enforcing, and this program may use user namespaces", why)
    cure = "look for 'denied { create } ... user_namespace' in 'ausearch -m avc', and allow it with audit2allow"
    return Ability(_ABOUT, name, "limited", "enforcing, and may be what refuses user namespaces", why, cure)


def _gives_rights(program: str) -> bool:
    """True if executing the file gives rights: it is set-user-id, or has capabilities."""
    try:
        if os.stat(program).st_mode & stat.S_ISUID:
            return True
        return bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False


def _user_name(uid: int) -> str:
    import pwd  # only here: not on every platform

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
