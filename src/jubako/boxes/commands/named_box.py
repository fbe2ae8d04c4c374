"""Kept boxes with a name of the user's own: a symbolic link, anywhere, to the box's directory in the state root.

The link is only a name. A box whose link is removed is still there, and a link whose box is gone leads nowhere.
"""

from __future__ import annotations

import os

from jubako.errors import ConflictError, HostError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.state import StateRoot

__all__ = ["check_name", "drop_name", "find_named", "name_box"]


def find_named(state: StateRoot, name: str) -> str | None:
    """The id of the box that the link `name` leads to; None if it is none, or the box is gone."""
    try:
        target = os.readlink(name)
    except OSError:
        return None
    above, box_id = os.path.split(os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(name)), target)))
    is_ours = os.path.realpath(above) == state.boxes_path
    return box_id if is_ours and os.path.isdir(os.path.join(state.boxes_path, box_id)) else None


def check_name(state: StateRoot, name: str) -> None:
    """Raises InputError if `name` cannot come to be the name of a box: something else is there."""
    if not name:
        raise InputError("an empty name was given for the box", hint="Is it a variable of the shell that is not set?")
    folder = os.path.dirname(os.path.abspath(name))
    if not os.path.isdir(folder):
        raise InputError(f"{name} cannot name a box: there is no directory {folder}")
    if not os.path.lexists(name) or _is_name(state, name):
        return
    if os.path.islink(name):
        raise InputError(f"{name} is a symbolic link to something else than a box of {state.path}")
    if not os.path.isdir(name):
        raise InputError(f"{name} is there, and is no box", hint="Name one that is not there yet.")
    if os.listdir(name):
        raise InputError(
            f"{name} is a directory with something in it, and no box",
            hint="Name one that is empty or not there yet: the box is kept with the others, and this becomes a link.",
        )


def name_box(state: StateRoot, name: str, box_id: str) -> None:
    """Makes the link `name` lead to the box; an empty directory and a link to another box give way to it.

    ConflictError if something else has come there meanwhile, HostError where it cannot be made; the box stays.
    """
    said = f"The box is kept: 'jubako try summary {box_id}'."
    try:
        check_name(state, name)
    except InputError as error:
        raise ConflictError(error.message, hint=said) from error
    try:
        if os.path.isdir(name) and not os.path.islink(name):
            os.rmdir(name)
        made = f"{os.path.abspath(name)}.{os.urandom(4).hex()}"
        os.symlink(os.path.join(state.boxes_path, box_id), made)
        os.rename(made, name)
    except OSError as error:
        raise HostError(f"{name} cannot be made a link to box {box_id}: {error.strerror}", hint=said) from error


def drop_name(state: StateRoot, name: str) -> None:
    """Removes the link `name` if its box is gone."""
    if _is_name(state, name) and find_named(state, name) is None:
        os.unlink(name)


def _is_name(state: StateRoot, name: str) -> bool:
    if not os.path.islink(name):
        return False
    target = os.path.join(os.path.dirname(os.path.abspath(name)), os.readlink(name))
    return os.path.realpath(os.path.dirname(os.path.normpath(target))) == state.boxes_path
