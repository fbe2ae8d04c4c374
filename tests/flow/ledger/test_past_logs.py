"""Logs read back: whose they are, their ends, and along with a writer."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import InputError
from jubako.flow.ledger.history import History
from jubako.flow.ledger.ledger import AttemptRecord, Ledger
from jubako.flow.ledger.past_logs import Follower, list_logs, read_log
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.tasks.task import Task
from jubako.testing.ledger import begin_fake_run, open_memory_ledger


class Day(Task):
    pass


class Other(Task):
    pass


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with open_memory_ledger() as opened:
        yield opened


@pytest.fixture
def logs(tmp_path: Path) -> TaskLogs:
    return TaskLogs(str(tmp_path), 1000)


def listed(
    ledger: Ledger, folder: Path, task: str | None = None, *, living: bool = False
) -> list[tuple[str, str, str]]:
    history = History(ledger.connection, lambda run_id: living)
    return [
        (log.label, log.outcome, os.path.basename(log.path))
        for log in list_logs(history, history.get_run("run-1"), str(folder), task)
    ]


def test_logs_of_a_run_are_named_by_the_ledger_or_by_the_file_beside_them(
    ledger: Ledger, logs: TaskLogs, tmp_path: Path
) -> None:
    run = begin_fake_run(ledger)
    with run.transaction():
        run.record(
            [AttemptRecord("2", "Day_1", "Day(n=1)", "published"), AttemptRecord("3", "Q", "Quiet()", "published")]
        )
        run.record([AttemptRecord("4", "B", "Bad()", "failed")])
    for attempt_id, task in (("10", Other()), ("2", Day()), ("after-7", Day())):
        logs.write(attempt_id, b"x", [task])
    logs.write("9", b"x")
    assert listed(ledger, tmp_path) == [
        ("Day(n=1)", "published", "2.log"),
        ("Bad()", "failed", ""),
        ("attempt 9", "", "9.log"),
        ("Other()", "", "10.log"),
        ("Day().after_publish()", "", "after-7.log"),
    ]
    assert listed(ledger, tmp_path, "Quiet") == [("Quiet()", "published", "")]
    assert listed(ledger, tmp_path, "Day(n=1)") == [("Day(n=1)", "published", "2.log")]


def test_log_of_a_batch_is_that_of_each_task_it_stood_for(ledger: Ledger, logs: TaskLogs, tmp_path: Path) -> None:
    run = begin_fake_run(ledger)
    batch = AttemptRecord("1", "Day_1_2", "Day(n=1,2)", "published")
    members = [
        AttemptRecord("1", f"Day_{n}", f"Day(n={n})", outcome) for n, outcome in ((1, "published"), (2, "failed"))
    ]
    with run.transaction():
        run.record([batch, *members])
    logs.write("1", b"x", [Other()])
    assert listed(ledger, tmp_path) == [("Day(n=1,2)", "published", "1.log")]
    assert listed(ledger, tmp_path, "Day") == [("Day(n=1,2)", "published", "1.log")]
    assert listed(ledger, tmp_path, "Day(n=2)") == [("Day(n=2)", "failed", "1.log")]
    assert listed(ledger, tmp_path, "Day_1") == [("Day(n=1)", "published", "1.log")]
    assert History(ledger.connection).count_outcomes("run-1") == {"published": 1, "failed": 1}


def test_follower_of_a_task_reads_the_log_of_the_batch_that_stands_for_it(logs: TaskLogs, tmp_path: Path) -> None:
    logs.write("1", b"both\n", [Other(), Day()])
    logs.write("2", b"neither\n", [Other()])
    [(log, piece)] = Follower(str(tmp_path), task="Day").look()
    assert (log.label, piece) == ("Other()", b"both\n")


def test_task_the_run_has_not_tried_is_refused_with_the_nearest(ledger: Ledger, logs: TaskLogs, tmp_path: Path) -> None:
    begin_fake_run(ledger)
    logs.write("1", b"x", [Other()])
    with pytest.raises(InputError, match="run run-1 has not tried Othre") as caught:
        listed(ledger, tmp_path, "Othre")
    assert caught.value.hint == "did you mean Other?"
    assert listed(ledger, tmp_path, "Later", living=True) == []


def test_half_a_line_that_a_crash_left_is_no_name(ledger: Ledger, logs: TaskLogs, tmp_path: Path) -> None:
    begin_fake_run(ledger)
    logs.write("1", b"x", [Other()])
    logs.write("2", b"x")
    with (tmp_path / "tasks").open("a") as file:
        file.write('["2", "Day')
    assert listed(ledger, tmp_path) == [("Other()", "", "1.log"), ("attempt 2", "", "2.log")]


@given(
    text=st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"x" * 40_000]), max_size=12).map(b"".join),
    count=st.integers(0, 8),
)
def test_last_lines_are_those_that_splitting_gives(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, count: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(text)
    expected = b"".join(text.splitlines(keepends=True)[-count:]) if count else b""
    assert b"".join(read_log(str(path), last_lines=count)) == expected
    assert b"".join(read_log(str(path))) == text


def test_follower_gives_each_byte_once_and_of_what_was_there_the_last_lines(logs: TaskLogs, tmp_path: Path) -> None:
    logs.write("1", b"old\nolder\nold", [Day()])
    follower = Follower(str(tmp_path), last_lines=1)
    assert [piece for _, piece in follower.look()] == [b"old"]
    assert list(follower.look()) == []
    logs.write("1", b"er\n", [Day()])
    logs.write("2", b"new\nlines\n", [Other()])
    assert [(log.label, piece) for log, piece in follower.look()] == [("Day()", b"er\n"), ("Other()", b"new\nlines\n")]


def put_together(pieces: list[bytes], limit: int) -> tuple[bytes, int]:
    """What a follower gave, with "?" for each byte it said is missing."""
    text = b"".join(pieces)
    missing = 0
    while (
        match := re.search(rb"\n\[jubako: (\d+) bytes are left out here; .* %d bytes are kept\]\n" % limit, text)
    ) is not None:
        missing += int(match[1])
        text = text.replace(match[0], b"?" * int(match[1]), 1)
    return text, missing


@given(
    steps=st.lists(st.integers(0, 70), max_size=25),  # so many bytes are printed; 0: a look
    limit=st.integers(2, 60),
    closes=st.booleans(),
)
def test_follower_of_a_log_that_is_cut_gives_or_names_each_byte_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], limit: int, closes: bool
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    logs, follower = TaskLogs(str(folder), limit), Follower(str(folder))
    printed = b""
    pieces: list[bytes] = []
    for step in steps:
        if step:
            data = bytes(ord("a") + place % 26 for place in range(len(printed), len(printed) + step))
            logs.write("1", data, [Day()])
            printed += data
        else:
            pieces += [piece for _, piece in follower.look()]
    if closes:
        logs.close("1")
    pieces += [piece for _, piece in follower.look()]
    given, missing = put_together(pieces, limit)
    assert len(given) == len(printed)
    assert all(one in (other, ord("?")) for one, other in zip(given, printed, strict=True))
    if len(printed) <= limit:
        assert missing == 0
    elif closes and 0 not in steps:
        assert missing == len(printed) - limit


def test_follower_of_the_last_lines_goes_on_after_a_gap(tmp_path: Path) -> None:
    logs = TaskLogs(str(tmp_path), 20)
    logs.write("1", b"one\ntwo\nthree\nfour\nfive\nsix\nseven\n", [Day()])
    follower = Follower(str(tmp_path), last_lines=2)
    assert [piece for _, piece in follower.look()] == [b"six\nseven\n"]
    logs.write("1", b"eight\n", [Day()])
    assert [piece for _, piece in follower.look()] == [b"eight\n"]


def test_follower_beside_a_task_that_prints_without_end_gives_or_names_each_byte_once(tmp_path: Path) -> None:
    logs, follower = TaskLogs(str(tmp_path), 1000), Follower(str(tmp_path))
    alphabet = bytes(range(ord("a"), ord("z") + 1))
    count = 2000
    writer = threading.Thread(target=lambda: [logs.write("1", alphabet, [Day()]) for _ in range(count)])
    pieces: list[bytes] = []
    writer.start()
    while writer.is_alive():
        pieces += [piece for _, piece in follower.look()]
    writer.join()
    logs.close("1")
    pieces += [piece for _, piece in follower.look()]
    given, _ = put_together(pieces, 1000)
    assert len(given) == count * len(alphabet)
    assert all(one in (other, ord("?")) for one, other in zip(given, alphabet * count, strict=True))


def test_follower_of_a_task_leaves_out_the_others(logs: TaskLogs, tmp_path: Path) -> None:
    logs.write("1", b"one", [Day()])
    logs.write("2", b"two", [Other()])
    assert [piece for _, piece in Follower(str(tmp_path), task="Other").look()] == [b"two"]


def test_run_that_printed_nothing_has_no_logs(ledger: Ledger, tmp_path: Path) -> None:
    begin_fake_run(ledger)
    assert listed(ledger, tmp_path / "none") == []
    assert list(Follower(str(tmp_path / "none")).look()) == []
