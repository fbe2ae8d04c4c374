"""Events on their way: to a file that others write too, and to collectors that are slow, dead or in trouble."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import HostError, InputError
from jubako.flow.clock import SystemClock
from jubako.flow.interrupts import Interrupts
from jubako.flow.lineage import sinks
from jubako.flow.lineage.sending import deliver
from jubako.flow.lineage.sinks import FileSink, PostSink, Sink
from jubako.flow.notices.posting import Poster
from jubako.testing import FakeClock


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def post_to(url: str) -> PostSink:
    return PostSink(url, "", SystemClock(), os.environ)


def finish(sink: Sink) -> tuple[int, str]:
    with Interrupts(lambda: False) as interrupts:
        return sink.finish(interrupts)


def test_file_gets_whole_lines_after_those_that_are_there(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.jsonl", FakeClock()
    path.write_bytes(b'{"other": 1}\n{"cut sho')  # a disk was full once
    sink = FileSink(str(path), clock)
    sink.take(b'{"n": 1}\n')
    assert path.read_bytes().endswith(b"sho")  # not one write for each event
    clock.advance(1)
    sink.take(b'{"n": 2}\n')
    assert path.read_bytes().endswith(b'sho\n{"n": 1}\n{"n": 2}\n')
    sink.take(b'{"n": 3}\n')
    assert finish(sink) == (0, "")
    assert path.read_bytes().endswith(b'{"n": 3}\n')


def test_many_events_are_written_as_they_come(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "events.jsonl"), FakeClock())
    for _ in range(200):
        sink.take(b"{}\n")
    assert (tmp_path / "events.jsonl").read_bytes() == b"{}\n" * 200


def test_events_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = FileSink(str(folder / "events.jsonl"), FakeClock())
    (folder / "events.jsonl").unlink()
    folder.rmdir()
    sink.take(b"{}\n")
    assert finish(sink) == (1, "No such file or directory")


def test_place_that_is_no_file_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        FileSink(str(tmp_path), FakeClock())
    with pytest.raises(HostError, match=r"lineage cannot go to .*/no/events.jsonl: No such file"):
        FileSink(str(tmp_path / "no/events.jsonl"), FakeClock())


def test_collector_gets_all_events_in_order(web: Any) -> None:
    sink = PostSink(web.url, "k3y", SystemClock(), os.environ)
    for n in range(20):
        sink.take(b'{"n": %d}\n' % n)
    assert finish(sink) == (0, "")
    assert [asked.body for asked in web.asked] == [b'{"n": %d}' % n for n in range(20)]
    assert {asked.headers["authorization"] for asked in web.asked} == {"Bearer k3y"}


def test_events_that_are_refused_are_counted_and_the_others_arrive(web: Any) -> None:
    web.script = [200, 400, 200]
    sink = post_to(web.url)
    for _ in range(3):
        sink.take(b"{}\n")
    assert finish(sink) == (1, "the collector answered 400 Bad Request")
    assert len(web.asked) == 3


def test_collector_in_trouble_gets_an_event_again(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_PATIENCE_S", 60.0)
    monkeypatch.setattr(sinks, "_LITTLE_S", 60.0)
    web.script = [503, 200]
    sink = post_to(web.url)
    sink.take(b"{}\n")
    assert finish(sink) == (0, "")
    assert len(web.asked) == 2


def test_dead_collector_costs_events_and_no_time() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        sink = post_to(f"http://127.0.0.1:{taken.getsockname()[1]}/")
        for _ in range(3):
            sink.take(b"{}\n")
        assert finish(sink) == (3, "Connection refused")


def test_collector_that_never_answers_is_waited_for_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_PATIENCE_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sink = post_to(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        sink.take(b"{}\n")
        assert finish(sink) == (1, "the collector is too slow")


def test_signal_ends_all_waiting_for_a_collector() -> None:
    with socket.socket() as silent, Interrupts(lambda: False) as interrupts:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sink = post_to(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        sink.take(b"{}\n")
        os.kill(os.getpid(), signal.SIGINT)
        assert sink.finish(interrupts) == (1, "the collector is too slow")


def test_what_is_kept_for_a_slow_collector_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_PATIENCE_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sink = post_to(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        line = b"x" * 1_000 + b"\n"
        for _ in range(12_000):
            sink.take(line)
        assert len(sink._lines) <= 10_000
        assert finish(sink) == (12_000, "the collector is too slow")


def test_process_that_dies_is_said() -> None:
    sink = post_to("http://127.0.0.1:1/")
    sink._process.send_signal(signal.SIGKILL)
    sink._process.wait()
    sink.take(b"{}\n")
    assert finish(sink) == (1, "the process that posts lineage has died")


def test_waits_between_tries_grow_up_to_five_seconds(web: Any) -> None:
    web.script = [503]
    said: list[str] = []
    slept: list[float] = []
    deliver(Poster(web.url), b"{}", {}, say=said.append, sleep=slept.append, goes_on=lambda: len(slept) < 7)
    assert slept == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert set(said) == {"!the collector answered 503 Service Unavailable"}
