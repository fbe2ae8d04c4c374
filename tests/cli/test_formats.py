"""One document as table, JSON, CSV and YAML; and names that would do things to a terminal."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from jubako.cli.document import Document
from jubako.cli.formats import format_document
from jubako.cli.terminal import printable

BOXES = Document(
    schema="jubako.boxes/1",
    columns=("name", "changes", "seconds", "kept", "paths"),
    rows=[
        {"name": "b1", "changes": 12, "seconds": 1.5, "kept": True, "paths": ["/a", "/b"]},
        {"name": "long one", "changes": 3, "seconds": 0.25, "kept": False},
    ],
    facts={"state": "/var/state", "empty": [], "limits": {"size": 3}},
    rows_are="boxes",
)


def test_format_document_table_aligns_numbers_right_and_the_rest_left() -> None:
    assert format_document(BOXES, "table").splitlines() == [
        "NAME      CHANGES  SECONDS  KEPT  PATHS",
        "b1             12     1.50  yes   /a, /b",
        "long one        3     0.25  no    -",
    ]


def test_format_document_table_without_rows_is_empty() -> None:
    assert format_document(Document("jubako.none/1", ("a",), ()), "table") == ""


def test_format_document_table_counts_wide_characters_as_two() -> None:
    rows = [{"name": "重箱", "n": 1}, {"name": "abcd", "n": 2}]
    assert format_document(Document("x/1", ("name", "n"), rows), "table").splitlines()[1:] == ["重箱  1", "abcd  2"]


def test_format_document_json_has_the_schema_first_the_facts_and_every_column() -> None:
    document = json.loads(format_document(BOXES, "json"))
    assert list(document) == ["schema", "state", "empty", "limits", "boxes"]
    assert document["boxes"][1] == {"name": "long one", "changes": 3, "seconds": 0.25, "kept": False, "paths": None}


def test_format_document_csv_has_one_line_a_row() -> None:
    rows = list(csv.reader(io.StringIO(format_document(BOXES, "csv"))))
    assert rows[0] == ["name", "changes", "seconds", "kept", "paths"]
    assert rows[1:] == [["b1", "12", "1.5", "true", '["/a", "/b"]'], ["long one", "3", "0.25", "false", ""]]


def test_format_document_yaml_nests_and_quotes_what_could_be_misread() -> None:
    document = Document("jubako.x/1", ("name", "on"), [{"name": "no", "on": "2010-01-01"}], {"size": {"a": [1, None]}})
    assert format_document(document, "yaml").splitlines() == [
        "schema: jubako.x/1",
        "size:",
        "  a:",
        "    - 1",
        "    - null",
        "rows:",
        '  - name: "no"',
        '    "on": "2010-01-01"',
    ]


def test_printable_control_characters_and_bytes_become_escapes() -> None:
    assert printable("a\x1b[31m\n\udcff\u202e") == r"a\x1b[31m\n\xff\u202e"
    assert printable("Zürich 重箱") == "Zürich 重箱"


@given(st.text())
def test_printable_any_text_has_nothing_a_terminal_obeys(text: str) -> None:
    assert printable(text).isprintable()


@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.none() | st.integers() | st.booleans()}), max_size=4))
def test_format_document_json_of_any_rows_reads_back(rows: list[dict[str, object]]) -> None:
    assert json.loads(format_document(Document("x/1", ("a", "b"), rows), "json"))["rows"] == rows


@given(st.lists(st.fixed_dictionaries({"a": st.text(st.characters(exclude_characters="\r"))}), max_size=4))
def test_format_document_csv_of_any_text_reads_back(rows: list[dict[str, str]]) -> None:
    text = format_document(Document("x/1", ("a", "n"), [{**row, "n": 1} for row in rows]), "csv")
    assert [row[0] for row in csv.reader(io.StringIO(text, newline=""))][1:] == [row["a"] for row in rows]


@given(st.lists(st.fixed_dictionaries({"a": st.text()}), min_size=1, max_size=3))
def test_format_document_table_of_any_text_is_one_line_a_row(rows: list[dict[str, str]]) -> None:
    assert len(format_document(Document("x/1", ("a",), rows), "table").split("\n")) == len(rows) + 1
