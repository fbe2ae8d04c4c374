"""What a run remembers of itself."""

from __future__ import annotations

from jubako.flow.ledger.history import History
from jubako.flow.ledger.ledger import AttemptRecord
from jubako.flow.observer import Note
from jubako.flow.result import TaskError
from jubako.flow.run.book import Book
from jubako.testing import FakeClock, RecordingObserver, begin_fake_run, open_memory_ledger


def attempt(number: int) -> AttemptRecord:
    return AttemptRecord(str(number), f"T_{number}", f"T(n={number})", "published")


def test_records_are_written_many_at_a_time_with_their_leases() -> None:
    with open_memory_ledger() as ledger:
        run, clock = begin_fake_run(ledger), FakeClock()
        run.leases.claim([f"T_{n}" for n in range(300)], clock.moment())
        book = Book(run, None)
        for number in range(255):
            book.record(attempt(number), clock.monotonic_s())
        assert len(run.leases.tokens) == 300
        book.record(attempt(255), clock.monotonic_s())
        assert len(run.leases.tokens) == 44
        assert [a.label for a in History(ledger.connection).list_attempts("pipeline.py", "T_255")] == ["T(n=255)"]


def test_records_do_not_wait_long() -> None:
    with open_memory_ledger() as ledger:
        run, clock = begin_fake_run(ledger), FakeClock()
        book = Book(run, None)
        book.record(attempt(1), clock.monotonic_s())
        clock.advance(1.0)
        book.record(attempt(2), clock.monotonic_s())
        assert len(History(ledger.connection).list_attempts("pipeline.py", "T_1")) == 1


def test_attempt_that_is_not_the_last_keeps_its_lease() -> None:
    with open_memory_ledger() as ledger:
        run, clock = begin_fake_run(ledger), FakeClock()
        run.leases.claim(["T_1"], clock.moment())
        book = Book(run, None)
        book.record(attempt(1), clock.monotonic_s(), is_last=False)
        book.flush()
        assert list(run.leases.tokens) == ["T_1"]


def test_note_is_said_once() -> None:
    with open_memory_ledger() as ledger:
        seen = RecordingObserver()
        book = Book(begin_fake_run(ledger), seen)
        book.note("a", hint="do b")
        book.note("a", hint="do b")
        assert (list(book.notes), seen.events) == (["a"], [Note("a", "do b")])


def test_success_forgets_why_it_failed_and_not_that_it_did() -> None:
    with open_memory_ledger() as ledger:
        book = Book(begin_fake_run(ledger), None)
        book.fail(3, TaskError("T", "T()", "it broke"))
        book.succeed(3)
        book.succeed(4)
        assert (book.errors, book.ever_failed, book.watches) == ({}, {3}, False)
