"""Reading a command line without click: what is read is what click reads, and everything else is declined."""

from __future__ import annotations

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.cli.box import box
from jubako.cli.box_run import OPTIONS
from jubako.cli.line import read_line

NAMES = [name for option in OPTIONS for name in option.names]
WORDS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(["--", "-", "", "true", "a b", "--help", "--debug", "--kee", "--bind=/x", "-k", "json", "table"]),
    st.text(alphabet="-=ab\udcff", max_size=4),
)


def read_by_click(words: list[str]) -> dict[str, object] | None:
    """What click makes of `jubako box run WORDS`; None where it ends with help or an error instead."""
    try:
        context = box.commands["run"].make_context("run", list(words), color=False)
    except (click.ClickException, click.exceptions.Exit):
        return None
    return context.params


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=7))
def test_read_line_of_any_words_declines_or_reads_what_click_reads(words: list[str]) -> None:
    read = read_line(OPTIONS, words)
    if read is not None:
        values, command = read
        assert {**values, "command": tuple(command)} == read_by_click(words)


@given(
    st.lists(
        st.sampled_from(
            [
                ["--keep"],
                ["--no-network"],
                ["--network", "none"],
                ["--memory", "1G"],
                ["--bind", "/x"],
                ["--commit", "p"],
                ["--changes-to", "-"],
            ]
            + [["--format", "csv"]]
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_read_line_of_ordinary_words_reads_them(parts: list[list[str]], with_dashes: bool) -> None:
    words = [word for part in parts for word in part] + (["--"] if with_dashes else []) + ["make", "--keep", "--"]
    read = read_line(OPTIONS, words)
    assert read is not None
    assert read[1] == ["make", "--keep", "--"]
    assert {**read[0], "command": tuple(read[1])} == read_by_click(words)


@pytest.mark.parametrize(
    "line",
    ["", "--", "--keep", "--help -- true", "--kepe true", "--bind --keep true", "--format xml true", "--bind"]
    + ["--debug true", "--bind=/x true", "-k true"],
)
def test_read_line_without_a_command_or_with_doubts_is_declined(line: str) -> None:
    assert read_line(OPTIONS, line.split()) is None
