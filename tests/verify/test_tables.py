"""CSV and TSV: what counts as the same table, and where the first difference is."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jubako.verify import Tolerance

from .conftest import Compare

NEAR = Tolerance(relative=Decimal("1e-9"))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param("a,b\r\n1,2\r\n", id="line ends"),
        pytest.param('"a",b\n1,"2"\n', id="quotes"),
        pytest.param("a,b\n1,2", id="no line end at the end"),
        pytest.param(b"\xef\xbb\xbfa,b\n1,2\n", id="byte order mark"),
        pytest.param("a,b\n1,2\n".encode("utf-16"), id="encoding"),
    ],
)
def test_what_a_reader_cannot_tell_apart_is_the_same(compared: Compare, other: str | bytes) -> None:
    found = compared("x.csv", "a,b\n1,2\n", other)
    assert (found.verdict, found.how, found.describe()) == ("same", "csv", "the same contents in other bytes")


@pytest.mark.parametrize(
    ("name", "published", "recomputed", "sentence"),
    [
        ("x.csv", "a,b\n1,2\n", "a,b\n1,3\n", 'row 2, column 2 (b): published "2", recomputed "3"'),
        ("x.tsv", "a\tb,c\n1\t2\n", "a\tb,c\n1\t3\n", 'row 2, column 2 (b,c): published "2", recomputed "3"'),
        ("x.csv", "a;b\n1,5;2\n", "a;b\n1,6;2\n", 'row 2, column 1 (a): published "1,5", recomputed "1,6"'),
        ("x.csv", "a,b\n1,2\n", "a\n1\n", 'column "b": published 2 columns, recomputed 1 column'),
        ("x.csv", "a,b\n1,2\n", "b,a\n2,1\n", 'row 1, column 1: published "a", recomputed "b" (the first of 4)'),
        ("x.csv", "", "a,b\n", "the header: published nothing, recomputed 2 columns"),
        ("x.csv", "a,b\n1,2\n3,4\n", "a,b\n1,2\n", 'row 3: published "3,4", recomputed nothing'),
        ("x.csv", "a,b\n1,2\n", "a,b\n1,2\n3,4\n", 'row 3: published nothing, recomputed "3,4"'),
        ("x.csv", "a,b\n1,2\n", "a,b\n1\n", "row 2: published 2 cells, recomputed 1 cell"),
        ("x.csv", "a\n1.0\n", "a\n1.00\n", 'row 2, column 1 (a): published "1.0", recomputed "1.00"'),
        ("x.csv", b"a\n\xe4\n", b"a\n\xf6\n", 'row 2, column 1 (a): published "\udce4", recomputed "\udcf6"'),
    ],
)
def test_first_difference_is_named(
    compared: Compare, name: str, published: str, recomputed: str, sentence: str
) -> None:
    found = compared(name, published, recomputed)
    assert (found.verdict, found.how, found.describe()) == ("different", "csv", sentence)


def test_every_cell_that_differs_is_counted(compared: Compare) -> None:
    found = compared("x.csv", "a,b\n1,2\n3,4\n", "a,b\n9,2\n3,9\n")
    assert found.differing == 2
    assert found.describe() == 'row 2, column 1 (a): published "1", recomputed "9" (the first of 2)'


@pytest.mark.parametrize(
    ("published", "recomputed", "verdict"),
    [
        ("1.0", "1.0000000001", "within"),
        ("1.0", "1.00", "same"),
        ("1", "1.1", "different"),
        ("007", "7", "different"),  # no number: a name
        ("1_000", "1000", "different"),
        ("٣", "3", "different"),
        ("nan", "NaN", "same"),
        ("nan", "1", "different"),
        ("inf", "-inf", "different"),
        ("9007199254740993", "9007199254740992", "within"),
        ("0.0", "-0.0", "within"),
        ("", "0", "different"),
        ("1e400", "1.0000000001e400", "within"),
    ],
)
def test_tolerance_is_for_numbers_only(compared: Compare, published: str, recomputed: str, verdict: str) -> None:
    assert compared("x.csv", f"a,b\n{published},1\n", f"a,b\n{recomputed},1\n", tolerance=NEAR).verdict == verdict


def test_largest_deviation_is_named_and_counted(compared: Compare) -> None:
    found = compared("x.csv", "a\n1.0\n2.0\n", "a\n1.0000000001\n2.0000000010\n", tolerance=NEAR)
    assert (found.verdict, found.within) == ("within", 2)
    assert found.describe() == "2 numbers off by 1e-09 (5e-10 of it) at most, at row 3, column 1 (a)"


def test_ignored_column_is_left_out_and_said(compared: Compare) -> None:
    found = compared("x.csv", "a,made\n1,2\n", "a,made\n1,3\n", ignore=["made"])
    assert (found.verdict, found.describe()) == ("same", "made is not compared")
    assert compared("x.csv", "a,made\n1,2\n", "a,made\n9,3\n", ignore=["made"]).verdict == "different"


def test_a_line_without_end_is_compared_as_text_and_bounded(compared: Compare) -> None:
    long = b"x" * (1 << 24) + b"y"
    found = compared("x.csv", long + b"1", long + b"2")
    assert (found.verdict, found.how) == ("different", "text")
    assert "a line is longer than 16,777,216 characters" in found.describe()
    assert csv.field_size_limit() == 131072


def write(rows: list[list[str]], terminator: str, quoting: int) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator=terminator, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
TABLES = st.integers(2, 3).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=4)
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TABLES, TABLES)
def test_tables_are_the_same_exactly_if_their_cells_are(
    compared: Compare, one: list[list[str]], other: list[list[str]]
) -> None:
    head = [",".join(["n"] * len(rows[0])) + "\n" for rows in (one, other)]
    first = head[0] + write(one, "\n", csv.QUOTE_ALL)
    assert compared("x.csv", first, head[0] + write(one, "\r\n", csv.QUOTE_ALL)).verdict == "same"
    expected = "same" if one == other else "different"
    assert compared("x.csv", first, head[1] + write(other, "\r\n", csv.QUOTE_ALL)).verdict == expected


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, compared: Compare) -> None:
    import tracemalloc

    rows = "".join(f"{number},{number * 2}\n" for number in range(50_000))
    tracemalloc.start()
    found = compared("x.csv", f"a,b\n{rows}", f'a,b\n{rows}"1",2\n')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.describe() == 'row 50002: published nothing, recomputed "1,2"'
    assert peak < 4 << 20  # the two files, as this test holds them, are a megabyte
