"""Names of living boxes: each is a link in boxes/names to the directory of its box, so that it can be taken only once.

    boxes/names/web -> ../3f9c01ab

Who takes a name or gives one back holds boxes/names (flock). A link to a box that is gone, or goes by another name, is
what a killed process left; the next one who wants the name takes it. Reading a name needs no lock.
"""

from __future__ import annotations

import fcntl
import os
import string

from jubako.boxes.keeping.kept import is_box_held
from jubako.boxes.living.living_record import read_living
from jubako.errors import ConflictError, HostError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["claim_name", "find_named", "make_up_name", "release_name", "validate_name"]

_LETTERS = frozenset(string.ascii_letters + string.digits + "_.-")
_LONGEST = 63
_HEX = frozenset("0123456789abcdef")
_TRIES = 100
# To be said over a telephone: short, told apart by ear, nothing that could offend.
_ADJECTIVES = (
    *("amber", "brave", "bright", "calm", "clever", "cosy", "crisp", "eager", "early", "gentle", "golden", "happy"),
    *("honest", "jolly", "keen", "kind", "lively", "lucky", "mellow", "merry", "mighty", "modest", "neat", "nimble"),
    *("patient", "polite", "proud", "quick", "quiet", "rapid", "silent", "simple", "steady", "sunny", "tidy", "witty"),
)
_NOUNS = (
    *("badger", "beaver", "bison", "camel", "condor", "cricket", "dolphin", "eagle", "falcon", "ferret", "finch"),
    *("gecko", "gibbon", "heron", "ibex", "jaguar", "kestrel", "koala", "lemur", "lizard", "magpie", "marmot"),
    *("narwhal", "ocelot", "otter", "panda", "pelican", "puffin", "rabbit", "raven", "salmon", "sparrow", "tapir"),
    *("toucan", "turtle", "walrus", "weasel", "wombat", "zebra"),
)


def validate_name(name: str) -> None:
    """InputError unless `name` can be a box's."""
    if not name:
        raise InputError("a box cannot have an empty name", hint="Leave --name out, and it is given one.")
    if not _LETTERS.issuperset(name) or not name[0].isalnum() or len(name) > _LONGEST:
        raise InputError(
            f"{name!r} cannot be the name of a box",
            hint=f"Letters, digits, '_', '.' and '-', a letter or a digit first, at most {_LONGEST} of them.",
        )
    if len(name) == 8 and _HEX.issuperset(name):
        raise InputError(f"{name!r} cannot be the name of a box: it could be another's id")


def make_up_name(random: Callable[[int], bytes] = os.urandom) -> str:
    """A name that people can say."""
    first, second = random(2)
    return f"{_ADJECTIVES[first % len(_ADJECTIVES)]}-{_NOUNS[second % len(_NOUNS)]}"


def claim_name(boxes: str, name: str, box_id: str) -> str:
    """Takes `name` ("": one that is free) for the box `box_id`, which the caller holds; the name.

    ConflictError if another box has it.
    """
    if name:
        validate_name(name)
    with _hold_names(boxes) as folder:
        for attempt in range(_TRIES):
            wanted = name or (make_up_name() if attempt < _TRIES // 2 else f"{make_up_name()}-{attempt}")
            if _take(boxes, folder, wanted, box_id):
                return wanted
            if name:
                owner = os.path.basename(os.readlink(os.path.join(folder, name)))
                raise ConflictError(
                    f"there is a box {name!r} already ({owner})",
                    hint=f"Choose another name, or remove that one: 'jubako box rm {name}'.",
                )
    raise HostError(f"no name could be found for a box in {boxes}", hint="Give one with --name.")


def release_name(boxes: str, name: str, box_id: str) -> None:
    """Gives the name of the box `box_id` back; nothing happens if it isn't that one's."""
    with _hold_names(boxes) as folder:
        path = os.path.join(folder, name)
        if name and _read_link(path) == box_id:
            os.unlink(path)


def find_named(boxes: str, name: str) -> str | None:
    """The id of the box that goes by `name`, None if there is none."""
    if not name or "/" in name or name in (".", ".."):
        return None
    box_id = _read_link(os.path.join(boxes, "names", name))
    return box_id if box_id and _goes_by(boxes, box_id, name) else None


def _take(boxes: str, folder: str, name: str, box_id: str) -> bool:
    path = os.path.join(folder, name)
    while True:
        try:
            os.symlink(f"../{box_id}", path)
            return True
        except FileExistsError:
            owner = _read_link(path)
            # One that is being made is held and has no record yet.
            if owner and (is_box_held(os.path.join(boxes, owner)) or _goes_by(boxes, owner, name)):
                return False
            os.unlink(path)


def _goes_by(boxes: str, box_id: str, name: str) -> bool:
    try:
        living = read_living(os.path.join(boxes, box_id))
    except HostError:  # its record cannot be read: it is somebody's all the same, until it is removed
        return True
    return living is not None and living.name == name


def _read_link(path: str) -> str:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return ""


class _hold_names:
    """The folder of names, held for the time of a `with` block."""

    def __init__(self, boxes: str) -> None:
        self._folder = os.path.join(boxes, "names")

    def __enter__(self) -> str:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self._folder

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)
