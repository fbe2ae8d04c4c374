"""Profiles: how much a command's box takes away from what runs in it, as values that the makers of boxes act upon.

    task      the default: for work that you would run anyway, and that may go wrong
    strict    for code that you would rather not run: little to see, nothing to write but scratch, listed calls alone
    trusted   for debuggers, and containers inside of a box: a view of the machine, and no more than that
    system    for an init: it is the first process, and root of namespaces of its own

What each property comes to, in words, is in `commands.explain_profile`.
"""

from __future__ import annotations

from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    ProfileName: TypeAlias = "Literal['task', 'strict', 'trusted', 'system']"
    FilterName: TypeAlias = "Literal['refusing', 'allowing', 'init', 'none']"

__all__ = ["PROFILES", "Profile", "get_profile"]


@record
class Profile:
    """What holds in a box."""

    name: ProfileName
    purpose: str
    filter: FilterName  # of system calls: a list of refused ones, of allowed ones, what an init leaves, or none
    capabilities: Literal[
        "usual", "none", "held", "own"
    ]  # root's: what installers need, none, all that the caller has;
    # or all of them, also an ordinary user's, in a user namespace that owns nothing of the machine
    user_namespace: bool = True  # root's boxes too have one of their own, entered when the mounts are made
    is_sealed: bool = False  # the view is read-only, without homes, devices and a network
    nests: bool = False  # namespaces can be made in it
    is_first: bool = False  # the command itself is pid 1, and may mount
    no_new_privileges: bool = True


PROFILES: dict[str, Profile] = {
    one.name: one
    for one in (
        Profile("task", "work that you would run anyway, and that may go wrong", "refusing", "usual"),
        Profile("strict", "code that you would rather not run", "allowing", "none", is_sealed=True),
        Profile(
            "trusted",
            "debuggers, tracers, and containers inside of a box",
            "none",
            "held",
            user_namespace=False,
            nests=True,
        ),
        Profile(
            "system",
            "an init, which mounts, and starts services as other users",
            "init",
            "own",
            nests=True,
            is_first=True,
            no_new_privileges=False,
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of this name. InputError, with the names there are."""
    try:
        return PROFILES[name]
    except KeyError:
        raise InputError(f"profile={name!r} is none of {', '.join(map(repr, PROFILES))}") from None
