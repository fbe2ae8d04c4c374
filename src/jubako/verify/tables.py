"""Tables as text (CSV, TSV): row by row, cell by cell, in memory that does not grow.

What counts is what a reader of the format gets: not quotes, line ends, a byte order mark or the encoding. Rows are
compared in their order. Cells are texts; only with a tolerance are two that are numbers compared as such (007 is none).
"""

from __future__ import annotations

import csv
import re
from contextlib import contextmanager
from decimal import Decimal
from itertools import zip_longest

from jubako.verify.findings import Unreadable, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import TextIOWrapper

    from jubako.verify.content import File
    from jubako.verify.findings import Findings

__all__ = ["compare_tables"]

_LINE = 1 << 24  # characters of a line, and of a cell
_SNIFFED = 1 << 16
_DELIMITERS = ",\t;|"
_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]{1,9})?|[+-]?(?:nan|inf|infinity)",
    re.IGNORECASE | re.ASCII,
)


def compare_tables(one: File, other: File, findings: Findings) -> None:
    """Every cell. The first row is taken for the names of the columns, and compared like any other."""
    with one.open_text() as published, other.open_text() as recomputed, _large_cells():
        delimiter = _find_delimiter(one)
        rows = _read_rows(published, delimiter), _read_rows(recomputed, delimiter)
        heads = next(rows[0], []), next(rows[1], [])
        left_out = _compare_heads(*heads, findings)
        if left_out is None:
            return
        for number, pair in enumerate(zip_longest(*rows), 2):
            if pair[0] != pair[1]:
                _compare_rows(number, pair, heads[0], left_out, findings)


def _compare_heads(published: list[str], recomputed: list[str], findings: Findings) -> set[int] | None:
    """Which columns are to be left out; None if the tables don't have equally many."""
    left_out = {index for index, name in enumerate(published) if findings.ignores(name)}
    if len(published) == len(recomputed):
        _compare_rows(1, (published, recomputed), (), left_out, findings)
        return left_out
    longer, shorter = sorted((published, recomputed), key=len, reverse=True)
    names = [name for name in longer if name not in shorter] or longer[len(shorter) :]
    shown = [_count(row, "column") if row else "" for row in (published, recomputed)]
    where = "the header" if not shorter else f"column{'' if len(names) == 1 else 's'} {', '.join(map(show, names))}"
    findings.differ(where, *shown)
    findings.is_partial = True
    return None


def _compare_rows(
    number: int,
    pair: tuple[list[str] | None, list[str] | None],
    names: Sequence[str],
    left_out: set[int],
    findings: Findings,
) -> None:
    published, recomputed = pair
    if published is None or recomputed is None:
        shown = ["" if row is None else show(",".join(row)) for row in pair]
        findings.differ(f"row {number}", *shown)
        return
    if len(published) != len(recomputed):
        findings.differ(f"row {number}", _count(published, "cell"), _count(recomputed, "cell"))
        return
    for index, (cell, new) in enumerate(zip(published, recomputed, strict=True)):
        if cell == new or index in left_out:
            continue

        def where(index: int = index) -> str:
            name = f" ({names[index]})" if index < len(names) else ""
            return f"row {number}, column {index + 1}{name}"

        if not findings.tolerance.is_exact and _NUMBER.fullmatch(cell) and _NUMBER.fullmatch(new):
            findings.numbers(Decimal(cell), Decimal(new), where)
        else:
            findings.differ(where(), show(cell), show(new))


def _read_rows(text: TextIOWrapper, delimiter: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(_read_lines(text), delimiter=delimiter)
    except csv.Error as error:
        raise Unreadable(f"it is no table: {error}") from error


def _read_lines(text: TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LINE):
        if len(line) == _LINE and line[-1] not in "\r\n":
            raise Unreadable(f"it is no table: a line is longer than {_LINE:,} characters")
        yield line


def _count(row: Sequence[str], what: str) -> str:
    return f"{len(row)} {what}{'' if len(row) == 1 else 's'}"


def _find_delimiter(file: File) -> str:
    """What the first line has most of; a comma if it has nothing like that."""
    if file.known_as.lower().partition(".")[2].startswith("tsv"):
        return "\t"
    with file.open_text() as text:
        line = text.readline(_SNIFFED)
    return max(_DELIMITERS, key=line.count)


@contextmanager
def _large_cells() -> Iterator[None]:
    before = csv.field_size_limit(_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)
