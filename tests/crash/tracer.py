"""Runs a function in a forked child and stops it at its system calls (ptrace(2)), from outside.

At a stop the child can be killed, before the call has had any effect, or the world around it be changed; each call can
be looked at with its arguments. So every moment a process can be in, as seen by the disk, is reached in turn, with no
luck involved. Nothing in the code under test knows of it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

_TRACEME = 0
_SYSCALL = 24
_SETOPTIONS = 0x4200
_GET_SYSCALL_INFO = 0x420E
_SYSGOOD = 0x1  # stops for system calls are told from others by bit 7 of the signal
_EXITKILL = 0x100000  # the child does not outlive us
_INFO_BYTES = 88
_ENTRY = 1
FAILED = 70  # exit status of a child whose function raised

Function = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of the child, at its entry (`returned` None) or at its exit."""

    pid: int
    number: int
    arguments: tuple[int, ...]
    returned: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How the child ended: `killed` by us, or by itself with `status`, having made `calls` system calls."""

    killed: bool
    status: int
    calls: int


def count_calls(function: Function) -> int:
    """The number of system calls that `function` makes in a child of its own. It must not raise."""
    ended = _run(function, None, None)
    assert ended.status == 0, "the function failed in the child; its traceback is on stderr"
    return ended.calls


def kill_at(function: Function, number: int) -> Ended:
    """Kills the child when it is about to make its system call `number` (from 0); it may have ended before."""
    return _run(function, lambda call, count: count == number, None)


def act_at(function: Function, actions: Mapping[int, Callable[[], object]]) -> Ended:
    """Runs actions here while the child is about to make its system calls of those numbers, and lets it go on."""

    def at_entry(call: Call, count: int) -> bool:
        if count in actions:
            actions[count]()
        return False

    return _run(function, at_entry, None)


def observe(function: Function, entry: Callable[[Call], object], leave: Callable[[Call], object]) -> Ended:
    """Shows every system call of the child at its entry and at its exit."""

    def at_entry(call: Call, count: int) -> bool:
        entry(call)
        return False

    return _run(function, at_entry, leave)


def _run(
    function: Function, at_entry: Callable[[Call, int], bool] | None, at_exit: Callable[[Call], object] | None
) -> Ended:
    pid = _start(function)
    detailed = at_exit is not None
    entered: Call | None = None
    calls = 0
    going_on = 0
    while True:
        _ptrace(_SYSCALL, pid, 0, going_on)
        _, status = os.waitpid(pid, 0)
        going_on = 0
        if not os.WIFSTOPPED(status):
            return Ended(False, os.waitstatus_to_exitcode(status), calls)
        if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
            going_on = os.WSTOPSIG(status)
            continue
        if entered is None:
            entered = _look(pid) if detailed else Call(pid, 0, ())
            if at_entry is not None and at_entry(entered, calls):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return Ended(True, -signal.SIGKILL, calls)
            calls += 1
        else:
            if at_exit is not None:
                at_exit(Call(pid, entered.number, entered.arguments, _look(pid).returned))
            entered = None


def _start(function: Function) -> int:
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            _ptrace(_TRACEME, 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            function()
            status = 0
        except BaseException:  # noqa: BLE001  the fork boundary
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status)
    _ptrace(_SETOPTIONS, pid, 0, _SYSGOOD | _EXITKILL)
    return pid


def _look(pid: int) -> Call:
    buffer = ctypes.create_string_buffer(_INFO_BYTES)
    _ptrace(_GET_SYSCALL_INFO, pid, _INFO_BYTES, ctypes.addressof(buffer))
    if buffer.raw[0] == _ENTRY:
        number, *arguments = struct.unpack_from("=7Q", buffer, 24)
        return Call(pid, number, tuple(arguments))
    (returned,) = struct.unpack_from("=q", buffer, 24)
    return Call(pid, 0, (), returned)


def _ptrace(request: int, pid: int, address: int, data: int) -> None:
    if _libc_ptrace()(request, pid, address, data) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace {request}: {os.strerror(code)}")


@cache
def _libc_ptrace() -> Callable[..., int]:
    function = ctypes.CDLL(None, use_errno=True).ptrace
    function.restype = ctypes.c_long
    function.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return function
