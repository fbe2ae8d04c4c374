"""What speaks against forking a process, found in real ones."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from jubako.boxes.workers.hazards import find_hazards, list_descriptors

if TYPE_CHECKING:
    from tests.conftest import Runner


def test_plain_process_has_no_hazards(in_child: Runner) -> None:
    assert in_child(lambda: find_hazards(list_descriptors())) == ()


def test_threads_are_counted(in_child: Runner) -> None:
    def look() -> tuple[str, ...]:
        for _ in range(2):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return find_hazards(list_descriptors())

    assert in_child(look) == ("starts 2 threads",)


def test_threads_that_end_when_the_process_forks_do_no_harm(in_child: Runner) -> None:
    def look() -> tuple[str, ...]:
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, daemon=True)
        thread.start()

        def end_thread() -> None:
            stop.set()
            thread.join()

        os.register_at_fork(before=end_thread)
        return find_hazards(list_descriptors())

    assert in_child(look) == ()


def test_file_open_for_writing_is_named_and_one_for_reading_is_not(in_child: Runner, tmp_path: Path) -> None:
    def look() -> tuple[str, ...]:
        ours = list_descriptors()
        with open(tmp_path / "log", "w"), open(__file__), open(os.devnull, "w"):
            return find_hazards(ours)

    assert in_child(look) == (f"opens {tmp_path}/log for writing",)


def test_socket_is_a_hazard_unless_it_is_ours(in_child: Runner) -> None:
    def look() -> tuple[tuple[str, ...], tuple[str, ...]]:
        ours = list_descriptors()
        with socket.socket(socket.AF_UNIX):
            return find_hazards(ours), find_hazards(list_descriptors())

    assert in_child(look) == (("opens a network connection or another socket",), ())
