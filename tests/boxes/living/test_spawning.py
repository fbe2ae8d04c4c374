"""A program on a terminal that is made for it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from jubako.boxes.living.spawning import Order, parse_order, spawn_on_terminal
from jubako.kernel.children import wait_for

if TYPE_CHECKING:
    from tests.conftest import Runner


def test_terminal_has_its_size_before_the_program_can_ask(in_child: Runner) -> None:
    def use() -> tuple[bytes, int]:
        pid, master = spawn_on_terminal(Order(("stty", "size"), {"PATH": os.defpath}, "/", size=(31, 97)))
        printed = b""
        with suppress(OSError):  # EIO: no program has the terminal open any more
            while data := os.read(master, 100):
                printed += data
        return printed, wait_for(pid)

    assert in_child(use) == (b"31 97\r\n", 0)


def test_order_of_a_caller_that_says_no_size_has_none() -> None:
    frame = {"argv": ["true"], "environment": {}, "cwd": "/", "umask": 18}
    assert parse_order(frame).size == (0, 0)
    assert parse_order({**frame, "size": [31, 97]}).size == (31, 97)
