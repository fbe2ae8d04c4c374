"""Every refused call is really tried, in a child under the filter; what a program needs is tried too.

What the filter answers to calls that no program here makes is in `test_seccomp_conventions`.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pty
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf import ALLOW, ERRNO, KILL, Call, check, run
from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.namespaces import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import DENIED, compile_filter, default_filter, default_rules, install_filter
from jubako.kernel.syscall_numbers import find_number
from jubako.kernel.syscalls import call

if TYPE_CHECKING:
    from tests.conftest import Runner

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}


def confine() -> None:
    set_no_new_privs()
    install_filter(default_filter())


def error_number(name: str, *arguments: int) -> int:
    try:
        call(name, *arguments)
    except OSError as error:
        return error.errno or 0
    return 0


def verdict(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    return run(check(program), Call(arch, number, arguments))


# --- the program -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_program_ends_who_calls_by_another_convention(arch: int) -> None:
    expected = ALLOW if arch == MACHINES["x86_64"] else KILL
    assert verdict(compile_filter(default_rules(), "x86_64"), 39, arch) == expected


@given(st.integers(0x40000000, 2**32 - 1))
def test_program_refuses_x32_numbers(number: int) -> None:
    assert verdict(compile_filter(default_rules(), "x86_64"), number, MACHINES["x86_64"]) == ERRNO | errno.ENOSYS


@given(st.integers(0, 2**64 - 1))
def test_program_looks_at_the_low_half_of_an_ioctl_only(command: int) -> None:
    number = find_number("ioctl", "x86_64") or 0
    refused = command & 0xFFFFFFFF in (0x5412, 0x541C)
    answer = verdict(compile_filter(default_rules(), "x86_64"), number, MACHINES["x86_64"], (0, command))
    assert answer == (ERRNO | errno.EPERM if refused else ALLOW)


@given(st.integers(0, 2**64 - 1))
def test_program_lets_clone_make_threads_but_no_namespaces(flags: int) -> None:
    answer = verdict(
        compile_filter(default_rules(), "x86_64"), find_number("clone", "x86_64") or 0, MACHINES["x86_64"], (flags,)
    )
    assert answer == (ERRNO | errno.EPERM if flags & 0x7E020000 else ALLOW)


def test_program_for_a_machine_unknown_is_refused() -> None:
    with pytest.raises(OSError, match="no system call filter for m68k machines") as caught:
        compile_filter(default_rules(), "m68k")
    assert caught.value.errno == errno.ENOSYS


# --- the kernel ------------------------------------------------------------------------------------------------------


def test_filter_refuses_every_call_on_the_list(in_user_child: Runner) -> None:
    def refused() -> dict[str, int]:
        os.setsid()  # so that even vhangup, let through, would find no terminal
        confine()
        # -1 is no descriptor, address or pid any of them takes: a call let through would fail in another way.
        return {name: error_number(name, -1, -1, -1, -1, -1, -1) for name in DENIED}

    known = [name for name in DENIED if find_number(name, os.uname().machine) is not None]
    assert {name: code for name, code in in_user_child(refused).items() if name in known} == dict.fromkeys(
        known, errno.EPERM
    )


@pytest.mark.parametrize("flag", [CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, CLONE_NEWUSER | 0x400])
def test_filter_refuses_new_namespaces(in_user_child: Runner, flag: int) -> None:
    def refused() -> tuple[int, int]:
        confine()
        return error_number("unshare", flag), error_number("clone", flag | signal.SIGCHLD)

    assert in_user_child(refused) == (errno.EPERM, errno.EPERM)


def test_filter_lets_unshare_without_namespaces_through(in_user_child: Runner) -> None:
    def allowed() -> int:
        confine()
        return error_number("unshare", 0x400)  # CLONE_FILES

    assert in_user_child(allowed) == 0


def test_filter_hides_clone3(in_user_child: Runner) -> None:
    def hidden() -> int:
        confine()
        return error_number("clone3", 0, 0)

    assert in_user_child(hidden) == errno.ENOSYS


@pytest.mark.parametrize("high_bits", [0, 1 << 32])
@pytest.mark.parametrize("command", [0x5412, 0x541C])
def test_filter_refuses_typing_into_the_terminal(in_child: Runner, command: int, high_bits: int) -> None:
    def refused() -> int:
        main, side = pty.openpty()
        os.setsid()
        confine()
        letter = ctypes.create_string_buffer(b"x")
        try:
            return error_number("ioctl", side, command | high_bits, ctypes.addressof(letter))
        finally:
            os.close(main)

    assert in_child(refused) == errno.EPERM


def test_filter_lets_programs_threads_and_terminals_work(in_user_child: Runner) -> None:
    def work() -> tuple[bytes, int, bool]:
        confine()
        printed = subprocess.run(["echo", "works"], capture_output=True, check=True).stdout
        done: list[int] = []
        thread = threading.Thread(target=done.append, args=(1,))
        thread.start()
        thread.join()
        main, side = pty.openpty()
        is_terminal = os.isatty(side)
        os.close(main)
        return printed, len(done), is_terminal

    assert in_user_child(work) == (b"works\n", 1, True)


def test_filter_stays_on_programs_executed_later(in_user_child: Runner) -> None:
    def mount_by_program() -> bytes:
        confine()
        return subprocess.run(["unshare", "-U", "true"], capture_output=True, check=False).stderr

    assert b"Operation not permitted" in in_user_child(mount_by_program)


if os.uname().machine == "x86_64":  # the only one of ours with another convention built in

    def test_filter_ends_a_process_that_calls_the_32_bit_way(in_child: Runner) -> None:
        def run(*, confined: bool) -> int:
            code = bytes.fromhex("b814000000 cd80 c3")  # mov eax, 20 (getpid); int 0x80; ret
            page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            page.write(code)
            function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
            if confined:
                confine()
            function()
            return 0

        def both() -> tuple[int, int]:
            return wait_for(fork_child(lambda: run(confined=False))), wait_for(fork_child(lambda: run(confined=True)))

        free, confined = in_child(both)
        assert confined == 128 + signal.SIGSYS
        assert free in (0, 128 + signal.SIGSEGV)  # 32-bit calls may be configured away


def test_filter_refuses_a_call_by_its_x32_number(in_child: Runner) -> None:
    def refused() -> tuple[int, int]:
        confine()
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.syscall(ctypes.c_long(0x40000000 + 39))
        return result, ctypes.get_errno()

    assert in_child(refused) == (-1, errno.ENOSYS)


def test_filter_needs_no_new_privs_of_an_ordinary_user(in_child: Runner) -> None:
    def refused() -> int:
        if os.geteuid() == 0:
            os.setresuid(54321, 54321, 54321)
        try:
            install_filter(default_filter())
        except OSError as error:
            return error.errno or 0
        return 0

    assert in_child(refused) == errno.EACCES
