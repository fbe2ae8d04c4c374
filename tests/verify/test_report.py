"""Reports of comparisons and claims: in words, as data, as a page."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.errors import InputError, WorkError
from jubako.verify import Claim, Entry, Report, Tolerance, entry_of_claim, entry_of_comparison

if TYPE_CHECKING:
    from tests.verify.conftest import Compare

TENTH = Tolerance(absolute=0.05, reason="rounded to a tenth")
GOOD = Claim("mean of Seattle", 7.25, 7.27, unit="°C", tolerance=TENTH)
BAD = Claim("mean of Boston", 7.25, 7.45, unit="°C", tolerance=TENTH)


class Words(HTMLParser):
    """The texts of a page's cells, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.outside: list[str] = []
        self._is_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._is_cell = tag in ("td", "dd", "h1") or (tag == "span" and self._is_cell)
        if tag in ("td", "dd", "h1"):
            self.cells.append("")
        self.outside += [value or "" for name, value in attributes if name in ("src", "href")]
        assert tag != "script"

    def handle_endtag(self, tag: str) -> None:
        self._is_cell &= tag == "span"

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.cells[-1] += data


def test_text_says_what_does_not_agree_first_and_what_it_came_to(compared: Compare) -> None:
    comparison = compared("x.csv", "a\n1\n", "a\n2\n")
    report = Report("March", [entry_of_claim(GOOD), entry_of_claim(BAD), entry_of_comparison("x.csv", comparison)])
    assert report.to_text() == (
        "March\n"
        "different  mean of Boston: stated 7.25 °C, recomputed 7.45 °C, off by 0.2 °C; "
        "allowed: absolute 0.05 (rounded to a tenth)\n"
        'different  x.csv: row 2, column 1 (a): published "1", recomputed "2"\n'
        "within     mean of Seattle: stated 7.25 °C, recomputed 7.27 °C, off by 0.02 °C; "
        "allowed: absolute 0.05 (rounded to a tenth)\n"
        "3 verified = 1 within tolerance + 2 different\n"
    )
    assert not report


def test_data_have_the_numbers_and_go_through_json() -> None:
    told = json.loads(json.dumps(Report("March", [entry_of_claim(BAD)], {"run": "7"}).to_json(), allow_nan=False))
    assert (told["schema"], told["agrees"], told["facts"]) == ("jubako.verify.report/1", False, {"run": "7"})
    [entry] = told["entries"]
    assert (entry["what"], entry["verdict"], entry["stated"], entry["unit"]) == (
        "mean of Boston",
        "different",
        "7.25",
        "°C",
    )
    assert entry["off_by"] == pytest.approx(0.2)


def test_distance_that_is_no_number_is_left_out_of_the_data() -> None:
    told = entry_of_claim(Claim("x", float("nan"), 1.0)).details
    assert (told["off_by"], told["off_by_relative"]) == (None, None)


def test_page_has_every_entry_and_facts_and_takes_nothing_from_elsewhere() -> None:
    hostile = "<script>alert(1)</script> & \"'"
    report = Report(hostile, [Entry(hostile, "cannot", hostile), Entry("fine", "same")], {"seed": hostile})
    words = Words(report.to_html())
    assert words.cells == [hostile, hostile, "cannot be compared", hostile, hostile, "same", "fine", ""]
    assert words.outside == []
    assert "default-src 'none'" in report.to_html()


def test_page_is_written_whole_and_replaces_only_its_like(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    Report("first", []).write_html(path)
    Report("second", [Entry("\udcff", "same")]).write_html(path)
    assert "second" in path.read_text()
    assert os.listdir(tmp_path) == ["report.html"]
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        Report("third", []).write_html(tmp_path / "notes.html")
    assert (tmp_path / "notes.html").read_text() == "mine"


def test_require_names_all_that_does_not_agree() -> None:
    Report("fine", [entry_of_claim(GOOD), Entry("a", "same")]).require()
    with pytest.raises(WorkError) as caught:
        Report("x", [entry_of_claim(BAD), Entry("b.npy", "cannot", "too large"), Entry("a", "same")]).require()
    assert "mean of Boston: stated 7.25" in caught.value.message
    assert caught.value.message.endswith("; b.npy: too large")


def test_nothing_verified_is_said_and_does_not_agree() -> None:
    report = Report("empty", [])
    assert (bool(report), report.describe()) == (False, "0 verified")
    assert report.to_json()["agrees"] is False
    with pytest.raises(WorkError, match="nothing was verified in empty"):
        report.require()
