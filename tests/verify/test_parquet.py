"""Parquet: in a process of its own, because pyarrow starts a thread that later tests, which fork, must not have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import datetime, json, math, pathlib
import pyarrow as pa, pyarrow.parquet as pq
from jubako.verify import Rules, Tolerance, compare

found = {}
near = Tolerance(relative=1e-9)

def table(columns, **options):
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue().to_pybytes()

def case(name, one, other, **rules):
    for side, content in (("one", one), ("other", other)):
        pathlib.Path(side).write_bytes(content if isinstance(content, bytes) else table(content))
    result = compare("one", "other", Rules(**rules), name="x.parquet")
    found[name] = [result.verdict, result.how, result.describe()]

base = {"n": [1, 2, None], "x": [1.0, math.nan, None]}
case("packed", base, table(base, compression="gzip", row_group_size=1))
case("value", base, {**base, "n": [1, 3, None]})
case("null", base, {**base, "n": [1, 2, 0]})
case("near", base, {**base, "x": [1.0 + 1e-12, math.nan, None]}, tolerance=near)
case("zero", {"x": [0.0]}, {"x": [-0.0]})
case("big", {"n": [2**53 + 1]}, {"n": [2**53]})
case("type", base, {**base, "n": [1.0, 2.0, None]})
case("column", base, {"n": base["n"]})
case("new", {"n": base["n"]}, base)
case("order", base, dict(reversed(base.items())))
case("rows", base, {"n": [1, 2], "x": [1.0, math.nan]})
case("ignored", base, {**base, "n": [1, 3, None]}, ignore=["n"])
case("list", {"l": [[1, 2], [3]]}, {"l": [[1, 2], [4]]})
case("struct", {"s": [{"a": 1, "b": "x"}]}, {"s": [{"a": 1, "b": "y"}]})
case("day", {"d": [datetime.date(2010, 1, 1)]}, {"d": [datetime.date(2010, 1, 2)]})
case("many", {"n": list(range(100_000))}, {"n": [*range(99_999), 0]})
case("dotted", {"a.b": [1]}, {"a.b": [2]})
case("junk", b"PAR1 no", b"PAR1 nothing")
case("cut", table(base)[:-20], base)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path_factory.mktemp("parquet"),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("name", "verdict", "sentence"),
    [
        ("packed", "same", "the same contents in other bytes"),
        ("value", "different", "row 1, column n: published 2, recomputed 3"),
        ("null", "different", "row 2, column n: published null, recomputed 0"),
        ("near", "within", "1 number off by 1e-12 (1e-12 of it) at most, at row 0, column x"),
        ("zero", "different", "row 0, column x: published 0.0, recomputed -0.0"),
        ("big", "different", "row 0, column n: published 9007199254740993, recomputed 9007199254740992"),
        ("type", "different", "column n: published type int64, recomputed type double"),
        ("column", "different", "column x: published type double, recomputed nothing"),
        ("new", "different", "column x: published nothing, recomputed type double"),
        ("order", "different", "the order of columns: published n, x, recomputed x, n"),
        ("rows", "different", "the number of rows: published 3, recomputed 2"),
        ("ignored", "same", "n is not compared"),
        ("list", "different", "row 1, column l[0]: published 3, recomputed 4"),
        ("struct", "different", 'row 0, column s.b: published "x", recomputed "y"'),
        ("day", "different", "row 0, column d: published 2010-01-01, recomputed 2010-01-02"),
        ("many", "different", "row 99999, column n: published 99999, recomputed 0"),
        ("dotted", "different", "row 0, column a.b: published 1, recomputed 2"),
    ],
)
def test_tables_are_compared_by_column_and_row(found: Any, name: str, verdict: str, sentence: str) -> None:
    assert found[name] == [verdict, "parquet", sentence]


@pytest.mark.parametrize("name", ["junk", "cut"])
def test_what_is_no_parquet_file_is_compared_as_it_is(found: Any, name: str) -> None:
    assert found[name][0] == "different"
    assert "it is no Parquet file" in found[name][2]
