"""JSON compared as values: the order of members and how they are written do not count, the order in lists does.

Numbers are read exactly (whole ones of any size, decimals as decimals), so 1 is not 1.0 and 0.1 is not
0.10000000000000000001. A member that appears twice means something else to every reader, and is compared as such.

Walked with a list instead of recursion: depth costs nothing here, and where it is too much for the parser the file is
compared as text.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from itertools import zip_longest

from jubako.records import record
from jubako.verify.findings import Unreadable, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from typing import Any, TypeAlias

    from jubako.verify.content import File
    from jubako.verify.findings import Findings

    # A place in a value: what it is in, and its name or number there; None for all of it.
    Place: TypeAlias = "tuple[Place, str | int] | None"

__all__ = ["compare_json", "compare_json_lines", "compare_values"]

_MOST = 128 << 20  # characters of a text that is read as one value: it takes ten times that in memory
_NUMBERS = (int, float, Decimal)
_ABSENT: Any = object()


@record
class _Repeated:
    """The values of a member that an object has several times."""

    values: tuple[Any, ...]


def compare_json(one: File, other: File, findings: Findings) -> None:
    """Two files with one value each."""
    with one.open_text() as published, other.open_text() as recomputed:
        value, new = _parse(_read_all(published)), _parse(_read_all(recomputed))
    compare_values(value, new, findings)


def compare_json_lines(one: File, other: File, findings: Findings) -> None:
    """Two files with a value in each line; memory does not grow with their number."""
    with one.open_text() as published, other.open_text() as recomputed:
        lines = zip_longest(_read_lines(published), _read_lines(recomputed))
        for number, pair in enumerate(lines, 1):
            if pair[0] == pair[1]:
                continue
            if pair[0] is None or pair[1] is None:
                shown = ["" if line is None else show(line) for line in pair]
                findings.differ(f"line {number}", *shown)
            else:
                compare_values(_parse(pair[0]), _parse(pair[1]), findings, root=f"line {number}: $")


def compare_values(published: Any, recomputed: Any, findings: Findings, *, root: str = "$") -> None:
    """Two values made of mappings, lists and scalars, as JSON has them; `root` is what they are called."""
    waiting: list[tuple[Any, Any, Place]] = [(published, recomputed, None)]
    while waiting:
        one, other, place = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [*one, *(key for key in other if key not in one)]
            children = [(one.get(key, _ABSENT), other.get(key, _ABSENT), (place, key)) for key in reversed(keys)]
            if findings.ignored:
                children = [child for child in children if not _is_ignored(child[2], findings)]
            waiting += children
        elif isinstance(one, list) and isinstance(other, list):
            pairs = list(enumerate(zip_longest(one, other, fillvalue=_ABSENT)))
            waiting += [(a, b, (place, index)) for index, (a, b) in reversed(pairs)]
        elif isinstance(one, _Repeated) and isinstance(other, _Repeated):
            waiting.append((list(one.values), list(other.values), place))
        else:
            _compare_scalars(one, other, place, root, findings)


def _compare_scalars(one: Any, other: Any, place: Place, root: str, findings: Findings) -> None:
    if _is_number(one) and _is_number(other):
        findings.numbers(one, other, lambda: _format_place(place, root))
    elif type(one) is not type(other) or one != other:
        findings.differ(_format_place(place, root), _show(one), _show(other))


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def _is_ignored(place: Place, findings: Findings) -> bool:
    name = "" if place is None or isinstance(place[1], int) else place[1]
    return findings.ignores(name, _format_place(place, "$", any_index=True))


def _format_place(place: Place, root: str, *, any_index: bool = False) -> str:
    """As JSONPath writes it: "$.cities[0].mean"; with `any_index` "$.cities[*].mean"."""
    parts = []
    while place is not None:
        place, key = place
        if isinstance(key, int):
            parts.append("[*]" if any_index else f"[{key}]")
        else:
            parts.append(f".{key}" if key.isidentifier() else f"[{json.dumps(key, ensure_ascii=False)}]")
    return root + "".join(reversed(parts))


def _show(value: Any) -> str:
    if value is _ABSENT:
        return ""
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, _Repeated):
        return f"a member that is there {len(value.values)} times"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return show(value)


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_float=Decimal,
            parse_constant=lambda word: math.nan if word == "NaN" else math.inf if word == "Infinity" else -math.inf,
            object_pairs_hook=_make_object,
        )
    except RecursionError as error:
        raise Unreadable("it is too deep to be read as JSON") from error
    except (ValueError, ArithmeticError) as error:  # also a number of more digits than Python reads
        raise Unreadable(f"it is no JSON: {error}") from error


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        values: dict[str, list[Any]] = {}
        for key, value in pairs:
            values.setdefault(key, []).append(value)
        made.update((key, _Repeated(tuple(several))) for key, several in values.items() if len(several) > 1)
    return made


def _read_all(text: TextIOWrapper) -> str:
    content = text.read(_MOST + 1)
    if len(content) > _MOST:
        raise Unreadable(f"it is longer than {_MOST:,} characters, too long to be read as one JSON value")
    return content


def _read_lines(text: TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_MOST):
        if len(line) == _MOST:
            raise Unreadable(f"a line of it is longer than {_MOST:,} characters")
        if line.strip():
            yield line
