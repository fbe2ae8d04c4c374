"""Logs of attempts."""

from __future__ import annotations

from pathlib import Path

from jubako.flow.task_log import TaskLogs


def test_nothing_printed_makes_no_file(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path / "logs"), 100)
    logs.write("1", b"")
    assert logs.find("1") == ""
    assert not (tmp_path / "logs" / "1.log").exists()


def test_pieces_are_kept_in_order_and_cut_at_the_limit(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path), 10)
    for piece in (b"12345", b"67890", b"more", b"and more"):
        logs.write("1", piece)
    text = (tmp_path / "1.log").read_bytes()
    assert text.startswith(b"1234567890\n[jubako:")
    assert text.count(b"the limit is 10 bytes") == 1
    assert logs.find("1") == str(tmp_path / "1.log")


def test_exactly_the_limit_is_not_cut(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path), 10)
    logs.write("1", b"1234567890")
    assert (tmp_path / "1.log").read_bytes() == b"1234567890"


def test_log_that_cannot_be_written_costs_no_more_than_itself(tmp_path: Path) -> None:
    (tmp_path / "1.log").mkdir()
    logs = TaskLogs(str(tmp_path), 10)
    logs.write("1", b"lost")
    logs.write("2", b"kept")
    assert (tmp_path / "2.log").read_bytes() == b"kept"


def test_forgotten_attempt_keeps_its_file(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path), 10)
    logs.write("1", b"x")
    logs.forget("1")
    logs.forget("never seen")
    assert logs.find("1") == ""
    assert (tmp_path / "1.log").exists()
