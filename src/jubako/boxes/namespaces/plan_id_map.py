"""Which ids of a new user namespace are which outside, from what was asked for and what the caller may have. Pure.

A single mapping (`single`, as of --map-user) beside ranges makes a hole in them: neither its id inside nor its id
outside may be mapped twice, so both are left out of the ranges, whose ids then meet in order:

    range 0 -> 100000, 4 ids, single 1 -> 1000          inside 0  2  3        outside 100000 100001 100002
"""

from __future__ import annotations

import itertools

from jubako.errors import HostError, InputError
from jubako.kernel.idmap import IdRange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.namespaces.unshare_options import MapRange
    from jubako.kernel.idmap import SubordinateRange

__all__ = ["ID_LIMIT", "check_overlap", "find_subordinate_range", "plan_id_map"]

ID_LIMIT = 2**32 - 1  # ids are smaller; this one means "none"
_MAX_RANGES = 340  # user_namespaces(7)


def plan_id_map(
    asked: Sequence[MapRange],
    single: IdRange | None,
    *,
    lent: SubordinateRange | None,
    parent: Sequence[IdRange],
) -> tuple[IdRange, ...]:
    """The map for what was `asked` for, in the order of the ids inside.

    `lent` is the caller's first range in /etc/subuid or /etc/subgid, for "auto" and "subids"; `parent` the map of the
    namespace it is in, for "all". Raises InputError where two ranges overlap.
    """
    ranges: list[IdRange] = []
    for one in asked:
        if isinstance(one, IdRange):
            ranges += _around([one], single)
        elif one == "all":
            ranges += _around([IdRange(there.inside, there.inside, there.count) for there in parent], single)
        elif lent is None:
            raise HostError(f"no subordinate ids were given for {one!r}")
        elif one == "subids":
            ranges += _around([IdRange(lent.first, lent.first, lent.count)], single)
        else:
            ranges += _from_zero(lent, single)
    if single is not None:
        ranges.append(single)
    ranges.sort(key=lambda each: each.inside)
    check_overlap(ranges)
    return tuple(ranges)


def check_overlap(ranges: Sequence[IdRange]) -> None:
    """Raises InputError where two ranges share an id, on either side, or there are more than the kernel takes."""
    for side in ("inside", "outside"):
        in_order = sorted(ranges, key=lambda each: getattr(each, side))
        for one, following in itertools.pairwise(in_order):
            if getattr(one, side) + one.count > getattr(following, side):
                raise InputError(
                    f"two ranges of a map share the id {getattr(following, side)} {side}: "
                    f"{_shown(one)} and {_shown(following)}",
                    hint="Each id can be mapped once. A range is INSIDE:OUTSIDE:COUNT.",
                )
    if len(ranges) > _MAX_RANGES:
        raise InputError(f"a map of {len(ranges)} ranges is too long: the kernel takes {_MAX_RANGES}")


def find_subordinate_range(
    ranges: Sequence[SubordinateRange], owner: str | None, owner_id: int, file: str
) -> SubordinateRange:
    """The first range that `file` lends to a user, by name or number. HostError if there is none."""
    for one in ranges:
        if one.owner in (owner, str(owner_id)):
            return one
    name = owner or str(owner_id)
    option = "--add-subuids" if file.endswith("subuid") else "--add-subgids"
    raise HostError(f"{file} lends no ids to {name}", hint=f"As root: usermod {option} 100000-165535 {name}")


def _around(ranges: Sequence[IdRange], single: IdRange | None) -> list[IdRange]:
    """The ranges without the ids of `single`; what follows one of these on either side moves up."""
    if single is None:
        return list(ranges)
    made: list[IdRange] = []
    for one in ranges:
        inside = _without(one.inside, one.count, single.inside)
        outside = _without(one.outside, one.count, single.outside)
        made += _zip(inside, outside)
    return made


def _from_zero(lent: SubordinateRange, single: IdRange | None) -> list[IdRange]:
    if single is None:
        return [IdRange(0, lent.first, lent.count)]
    outside = _without(lent.first, lent.count, single.outside)
    return _zip(_without(0, lent.count + 1, single.inside), outside)


def _without(first: int, count: int, id_: int) -> list[tuple[int, int]]:
    """The runs, first id and count, of a range without one id."""
    if not first <= id_ < first + count:
        return [(first, count)]
    runs = [(first, id_ - first), (id_ + 1, first + count - id_ - 1)]
    return [run for run in runs if run[1]]


def _zip(inside: list[tuple[int, int]], outside: list[tuple[int, int]]) -> list[IdRange]:
    """Runs of ids on both sides, met in order, as long as there are ids on both."""
    made = []
    inside, outside = list(reversed(inside)), list(reversed(outside))
    while inside and outside:
        (one, left), (other, right) = inside.pop(), outside.pop()
        count = min(left, right)
        made.append(IdRange(one, other, count))
        if left > count:
            inside.append((one + count, left - count))
        if right > count:
            outside.append((other + count, right - count))
    return made


def _shown(one: IdRange) -> str:
    return f"{one.inside}:{one.outside}:{one.count}"
