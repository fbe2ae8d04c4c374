"""Logs of attempts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.ledger.task_log import NAMES, Gap, TaskLogs, describe_gap, find_gap
from jubako.flow.tasks.task import Task


def test_nothing_printed_makes_no_file(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path / "logs"), 100)
    logs.write("1", b"")
    assert logs.find("1") == ""
    assert not (tmp_path / "logs" / "1.log").exists()


def left_out(count: int, limit: int) -> bytes:
    return b"\n[jubako: %d bytes are left out here; of what a task prints %d bytes are kept]\n" % (count, limit)


def test_pieces_beyond_the_limit_leave_the_beginning_and_the_end(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path), 10)
    for piece in (b"12345", b"67890", b"more", b" and more"):
        logs.write("1", piece)
    assert logs.find("1") == str(tmp_path / "1.log")
    logs.close("1")
    assert (tmp_path / "1.log").read_bytes() == b"12345" + left_out(13, 10) + b" more"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=40), st.integers(2, 60))
def test_any_pieces_leave_their_beginning_and_end_and_never_much_more(pieces: list[bytes], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logs = TaskLogs(folder, limit)
        path = Path(logs.path("1"))
        printed = b""
        for piece in pieces:
            logs.write("1", piece)
            printed += piece
            assert path.stat().st_size <= limit * 3 // 2 + len(left_out(len(printed), limit)) + len(piece)
        logs.close("1")
        head, tail = limit - limit // 2, limit // 2
        if len(printed) > limit:
            assert path.read_bytes() == (
                printed[:head] + left_out(len(printed) - limit, limit) + printed[len(printed) - tail :]
            )
        elif pieces:
            assert path.read_bytes() == printed


def test_exactly_the_limit_is_not_cut(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path), 10)
    logs.write("1", b"1234567890")
    logs.close("1")
    assert (tmp_path / "1.log").read_bytes() == b"1234567890"


def test_log_that_cannot_be_written_costs_no_more_than_itself(tmp_path: Path) -> None:
    (tmp_path / "1.log").mkdir()
    logs = TaskLogs(str(tmp_path), 10)
    logs.write("1", b"lost")
    logs.write("1", b"lost too")
    logs.close("1")
    logs.write("2", b"kept")
    assert (tmp_path / "2.log").read_bytes() == b"kept"


def test_closed_log_keeps_its_file(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path), 10)
    logs.write("1", b"x")
    logs.close("1")
    logs.close("never seen")
    assert logs.find("1") == ""
    assert (tmp_path / "1.log").exists()


def test_size_of_a_run_is_that_of_all_its_files(tmp_path: Path) -> None:
    class Day(Task):
        pass

    logs = TaskLogs(str(tmp_path), 100)
    logs.write("1", b"x" * 250, [Day()])
    logs.write("2", b"y", [Day()])
    logs.close("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.log", "2.log", NAMES]
    assert logs.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


@given(st.integers(1, 99), st.integers(0, 300), st.booleans())
def test_gap_is_found_where_it_is_and_says_what_is_missing(limit: int, printed: int, closes: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logs = TaskLogs(folder, limit)
        logs.write("1", b"x" * printed)
        if closes:
            logs.close("1")
        if printed == 0:
            assert not Path(logs.path("1")).exists()
            return
        with open(logs.path("1"), "rb") as file:
            gap = find_gap(file.fileno(), limit)
        if printed <= limit or (printed <= limit + limit // 2 and not closes):
            assert gap is None
        else:
            line = describe_gap(printed - limit, limit)
            assert gap == Gap(limit - limit // 2, len(line), printed - limit)
            assert Path(logs.path("1")).read_bytes()[gap.head_bytes :].startswith(line)
