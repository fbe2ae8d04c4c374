"""Interrupts are counted in the process of the run, and in no other."""

from __future__ import annotations

import os
import signal

import pytest

from jubako.flow.interrupts import Interrupts


def test_interrupts_are_counted_and_wake_a_wait() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts(lambda: False) as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupts.count == 2
        assert len(os.read(interrupts.fileno(), 10)) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_interrupt_while_a_task_runs_in_this_process_ends_it() -> None:
    with Interrupts(lambda: True) as interrupts, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.count == 1


def test_signal_to_a_fork_of_this_process_does_what_it_did_before() -> None:
    with Interrupts(lambda: True) as interrupts:
        pid = os.fork()
        if pid == 0:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                os._exit(0)  # not ended by the signal
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
        assert interrupts.count == 0
