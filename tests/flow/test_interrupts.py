"""Signals as something to ask about."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest

from jubako.flow.interrupts import Interrupts


@pytest.fixture(autouse=True)
def hangup_is_not_ignored() -> Iterator[None]:
    """Below nohup, which ignores it on purpose, it is left alone."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_signals_are_counted_and_wake_a_wait() -> None:
    with Interrupts(lambda: False) as interrupts:
        assert select.select([interrupts], [], [], 0)[0] == []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        assert interrupts.count == 3
        assert select.select([interrupts], [], [], 0)[0] == [interrupts]
        interrupts.drain()
        assert select.select([interrupts], [], [], 0)[0] == []
        assert interrupts.count == 3


def test_keyboard_interrupt_is_raised_only_where_it_may_be() -> None:
    may = [True]
    with Interrupts(lambda: may.pop() if may else False) as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert interrupts.count == 2


def test_handlers_and_wakeup_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interrupts(lambda: False):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(lambda: False) as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.count == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_get_a_silent_one() -> None:
    counts = []

    def enter() -> None:
        with Interrupts(lambda: False) as interrupts:
            counts.append(interrupts.count)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert counts == [0]


def test_fork_within_the_block_has_the_handlers_from_before_it() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupts(lambda: True) as interrupts:
        pid = os.fork()
        if pid == 0:
            restored = [signal.getsignal(number) for number in numbers] == before and signal.set_wakeup_fd(-1) == -1
            os._exit(0 if restored else 1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert signal.getsignal(signal.SIGTERM) == interrupts._handle


def test_usr1_winds_down_where_it_is_asked_for() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Interrupts(lambda: False, winds_down_on_usr1=True) as interrupts:
        signal.raise_signal(signal.SIGUSR1)
        assert interrupts.is_winding_down
        assert interrupts.count == 0
    assert signal.getsignal(signal.SIGUSR1) == before
