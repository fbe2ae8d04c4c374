"""Deliveries as processes: how they end, and that all of one ends."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

import pytest

from jubako.flow.interrupts import Interrupts
from jubako.flow.notices.delivery import Delivery, wait_for_deliveries
from jubako.flow.notices.order import Order


def order(script: str, *, timeout_s: float = 30.0, is_ours: bool = False, data: bytes = b"") -> Order:
    return Order(["sh", "-c", script], data, timeout_s, os.environ, is_ours=is_ours)


def deliver(given: Order) -> str:
    delivery = Delivery(given, time.monotonic())
    with Interrupts(lambda: False) as interrupts:
        while not delivery.is_over:
            wait_for_deliveries([delivery], time.monotonic(), interrupts)
            delivery.look(time.monotonic())
    return delivery.problem


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 0", ""),
        ("echo fine; echo really >&2", ""),
        ("exit 3", "exit code 3"),
        ("echo one; echo no such channel >&2; echo; exit 3", "exit code 3: no such channel"),
        ("kill -9 $$", "it was killed by SIGKILL"),
    ],
)
def test_end_of_a_command_is_a_sentence(script: str, problem: str) -> None:
    assert deliver(order(script)) == problem


def test_what_our_own_sender_says_is_the_sentence() -> None:
    assert deliver(order("echo the server answered 404; exit 1", is_ours=True)) == "the server answered 404"
    assert deliver(order("echo Traceback; exit 70", is_ours=True)) == "exit code 70: Traceback"


def test_message_need_not_be_read() -> None:
    assert deliver(order("exit 0", data=b"x" * 1_000_000)) == ""


def test_message_can_be_read_whole(tmp_path: Path) -> None:
    assert deliver(order(f"cat > {tmp_path}/got", data=b"x" * 1_000_000)) == ""
    assert (tmp_path / "got").stat().st_size == 1_000_000


def test_command_that_prints_without_end_is_read_and_bounded() -> None:
    assert (
        deliver(order("head -c 10000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1")) == "exit code 1: the end"
    )


def test_command_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    script = f"(setsid sleep 1000 & echo $! > {tmp_path}/1; wait) & echo $! > {tmp_path}/2; echo > {tmp_path}/3; wait"
    delivery = Delivery(order(script, timeout_s=60.0), 0.0)
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "123"):
        delivery.look(59.9)
        time.sleep(0.005)
    held = [os.pidfd_open(int((tmp_path / name).read_text())) for name in "12"]
    delivery.look(60.0)
    assert delivery.problem == "it was not over within 60 s, and was killed"
    for pidfd in held:
        assert select.select([pidfd], [], [], 30)[0]
        os.close(pidfd)


def test_command_that_leaves_something_behind_is_over_when_it_ends_itself(tmp_path: Path) -> None:
    assert deliver(order(f"sleep 1000 & echo $! > {tmp_path}/pid")) == ""
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_what_cannot_be_started_is_an_error_that_says_why() -> None:
    with pytest.raises(FileNotFoundError):
        Delivery(Order([str(Path(sys.executable) / "no")[1:]], b"", 1.0, os.environ), 0.0)
