"""Filters of system calls for boxes: rules by the name of the call, compiled to what the kernel runs on every call.

    default_rules   what a box refuses: what reaches out of it, or widens what can go wrong in the kernel
    strict_rules    a box that allows nothing but `allowed_calls`
    init_rules      what is left to refuse where an init may mount and make namespaces of its own

What is refused fails with EPERM, as for one without the privilege; clone3, whose flags a filter cannot see, with
ENOSYS, so that libc falls back to clone. Calls made the 32-bit way end the process, and x32 ones fail with ENOSYS: both
have numbers of their own, which would slip past any list. It narrows what honest programs can break; it is not a wall
against hostile ones.

A program is classic BPF over `struct seccomp_data` (seccomp(2)). It searches the number of the call in a tree, since
the kernel, when it loads a program, runs it once for every number: a list would take three times as long to load.
"""

from __future__ import annotations

import errno
import os
import struct
from itertools import accumulate

from jubako.kernel.once import once
from jubako.kernel.syscall_numbers import find_number, last_number
from jubako.kernel.syscalls import Pointed, call
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    Instruction: TypeAlias = "tuple[int, int, int, int]"  # code, jump if true, jump if false, constant

__all__ = [
    "DENIED",
    "DENIED_FLAGS",
    "Rule",
    "compile_filter",
    "default_filter",
    "default_rules",
    "init_filter",
    "init_rules",
    "install_filter",
    "strict_filter",
    "strict_rules",
]

_MOUNTS_AND_NAMESPACES = (
    *("mount", "umount2", "pivot_root", "setns", "sethostname", "setdomainname"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "open_tree_attr", "mount_setattr"),
)
# Calls refused whatever their arguments.
DENIED = (
    *_MOUNTS_AND_NAMESPACES,
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev"),
    # the kernel itself
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "bpf", "perf_event_open"),
    *("userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "lookup_dcookie"),
    # kernel keyrings, which no namespace separates
    *("add_key", "request_key", "keyctl"),
    # files by handle, past every directory permission
    "open_by_handle_at",
    # the machine
    *("reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "vhangup", "iopl", "ioperm"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
)

_LEFT_TO_AN_INIT = (*_MOUNTS_AND_NAMESPACES, "reboot", "vhangup")  # of its own namespaces, which the kernel sees to
_NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_NEW_NAMESPACES_OF_CLONE = 0x7E020000  # in clone the low byte is a signal; there is no CLONE_NEWTIME
_TIOCSTI = 0x5412  # puts a character into the terminal's input, as if typed
_TIOCLINUX = 0x541C  # the same by way of the console's selection
_AF_VSOCK = 40  # to what runs this virtual machine, or runs in it: no network namespace separates them
_ORDINARY_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)  # Linux, with what uname(2) says; ADDR_NO_RANDOMIZE; ask

_AUDIT_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
_X32_BIT = 0x40000000
_CALLS = 512  # about as many as any machine has; only for the shape of the search
_FURTHEST = 255  # instructions that a conditional jump can skip

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP = 0x05  # BPF_JMP | BPF_JA
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000

_OFFSET_OF_NUMBER = 0
_OFFSET_OF_ARCH = 4
_OFFSET_OF_ARGUMENTS = 16  # eight bytes each, the low word first on the machines above

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4  # without it Linux before 5.16 slows the process down
_INSTRUCTION = struct.Struct("=HBBI")

DENIED_FLAGS: Mapping[str, tuple[int, int]] = {  # refused if the argument with this index has any of these bits
    "unshare": (0, _NEW_NAMESPACES),
    "clone": (0, _NEW_NAMESPACES_OF_CLONE),
}


@record
class Rule:
    """What happens to one system call: it fails with `code`, always or on some values of one argument.

    Only the low 32 bits of the argument are looked at, which is what the kernel takes for flags and ioctl commands too
    (a rule that compared 64 would be evaded by setting a high one).
    """

    code: int
    argument: int = 0
    any_bit: int = 0  # applies when the argument has one of these bits
    equal_to: tuple[int, ...] = ()  # applies when the argument is one of these
    other_than: tuple[int, ...] = ()  # applies when it is none of these, and nothing else is to be looked at

    @property
    def is_conditional(self) -> bool:
        return bool(self.any_bit or self.equal_to or self.other_than)


@record
class _Span:
    """Consecutive call numbers, from `start` on, that share a rule; `weight` of them are calls the kernel has."""

    start: int
    rule: Rule | None
    weight: int


@once
def default_filter() -> bytes:
    """What boxes have on this machine. OSError ENOSYS on one whose call numbers jubako doesn't know."""
    return compile_filter(default_rules(), os.uname().machine)


@once
def strict_filter() -> bytes:
    """As `default_filter`, for a box that allows only what is listed."""
    return compile_filter(strict_rules(), os.uname().machine, otherwise=errno.EPERM)


@once
def init_filter() -> bytes:
    """As `default_filter`, for a box whose command is an init."""
    return compile_filter(init_rules(), os.uname().machine)


def default_rules() -> dict[str, Rule | None]:
    """What is refused in a box."""
    rules: dict[str, Rule | None] = {name: Rule(errno.EPERM) for name in DENIED}
    rules |= _conditions()
    rules["socket"] = Rule(errno.EAFNOSUPPORT, equal_to=(_AF_VSOCK,))
    return rules


def strict_rules() -> dict[str, Rule | None]:
    """What is allowed where nothing else is."""
    from jubako.kernel.allowed_calls import ALLOWED  # a long list, for strict boxes alone

    rules: dict[str, Rule | None] = {name: None for names in ALLOWED.values() for name in names}
    rules |= _conditions()
    rules["socket"] = Rule(errno.EAFNOSUPPORT, other_than=_ORDINARY_FAMILIES)
    rules["personality"] = Rule(errno.EPERM, other_than=_PERSONALITIES)
    return rules


def init_rules() -> dict[str, Rule | None]:
    """What is refused to an init, which has capabilities in a user namespace, and mounts and namespaces below that."""
    rules: dict[str, Rule | None] = {name: Rule(errno.EPERM) for name in DENIED if name not in _LEFT_TO_AN_INIT}
    rules["ioctl"] = _conditions()["ioctl"]
    rules["socket"] = Rule(errno.EAFNOSUPPORT, equal_to=(_AF_VSOCK,))
    return rules


def _conditions() -> dict[str, Rule]:
    """What depends on an argument, in every box but an init's; and clone3, in which it can't be seen."""
    rules = {
        name: Rule(errno.EPERM, argument=argument, any_bit=bits) for name, (argument, bits) in DENIED_FLAGS.items()
    }
    rules["ioctl"] = Rule(errno.EPERM, argument=1, equal_to=(_TIOCSTI, _TIOCLINUX))
    rules["clone3"] = Rule(errno.ENOSYS)
    return rules


def compile_filter(rules: Mapping[str, Rule | None], machine: str, *, otherwise: int = 0) -> bytes:
    """The BPF program for `rules` on `machine` (as `uname -m` says), ready for `install_filter`. None allows a call.

    `otherwise` is the error of calls without a rule; 0 allows them. Where they are not allowed, calls newer than all
    that is known here fail with ENOSYS, so that programs do without.
    """
    if machine not in _AUDIT_ARCHES:
        raise OSError(errno.ENOSYS, f"no system call filter for {machine} machines")
    program: list[Instruction] = [
        (_LOAD_WORD, 0, 0, _OFFSET_OF_ARCH),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCHES[machine]),
        (_RETURN, 0, 0, _RET_KILL_PROCESS),
        (_LOAD_WORD, 0, 0, _OFFSET_OF_NUMBER),
        *_search(_spans(rules, machine, otherwise)),
    ]
    return b"".join([_INSTRUCTION.pack(*instruction) for instruction in program])


def install_filter(program: bytes) -> None:
    """Puts this thread, and all it will start, under `program` for ever. Needs no_new_privs or CAP_SYS_ADMIN."""
    header = struct.pack("@H6x", len(program) // _INSTRUCTION.size)  # struct sock_fprog: a count, and a pointer
    call("seccomp", _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW, Pointed(header, program))


def _spans(rules: Mapping[str, Rule | None], machine: str, otherwise: int) -> list[_Span]:
    """All numbers of system calls from 0 up, cut where what happens to them changes."""
    usual = Rule(otherwise) if otherwise else None
    numbered = {number: rule for name, rule in rules.items() if (number := find_number(name, machine)) is not None}
    starts = {0: usual}
    starts |= {number + 1: usual for number in numbered}
    if usual is not None:
        starts[last_number(machine) + 1] = Rule(errno.ENOSYS)
    starts |= numbered
    if machine == "x86_64":
        starts[_X32_BIT] = Rule(errno.ENOSYS)
    merged: list[tuple[int, Rule | None]] = []
    for start, rule in sorted(starts.items()):
        if not merged or merged[-1][1] != rule:
            merged.append((start, rule))
    ends = [start for start, _ in merged[1:]] + [_CALLS]
    return [
        _Span(start, rule, weight=max(1, min(end, _CALLS) - start))
        for (start, rule), end in zip(merged, ends, strict=True)
    ]


def _search(spans: Sequence[_Span]) -> list[Instruction]:
    """The search for the span of the loaded number; wide spans are found first. Every path ends in a return."""
    if len(spans) == 1:
        return _decide(spans[0].rule)
    before = list(accumulate([span.weight for span in spans]))  # the weight up to and with each
    cut = 1 + min(range(len(spans) - 1), key=lambda at: abs(2 * before[at] - before[-1]))
    below, start = _search(spans[:cut]), spans[cut].start
    if len(below) <= _FURTHEST:
        return [(_JUMP_AT_LEAST, len(below), 0, start), *below, *_search(spans[cut:])]
    return [(_JUMP_AT_LEAST, 0, 1, start), (_JUMP, 0, 0, len(below)), *below, *_search(spans[cut:])]


def _decide(rule: Rule | None) -> list[Instruction]:
    """The end of a search, where the call's number is known."""
    allow = (_RETURN, 0, 0, _RET_ALLOW)
    if rule is None:
        return [allow]
    refuse = (_RETURN, 0, 0, _RET_ERRNO | rule.code)
    if not rule.is_conditional:
        return [refuse]
    tests = [(_JUMP_EQUAL, value) for value in rule.other_than or rule.equal_to]
    if rule.any_bit and not rule.other_than:
        tests.append((_JUMP_ANY_BIT, rule.any_bit))
    load = (_LOAD_WORD, 0, 0, _OFFSET_OF_ARGUMENTS + 8 * rule.argument)
    jumps = [(code, len(tests) - at, 0, value) for at, (code, value) in enumerate(tests)]  # past the first return
    return [load, *jumps, refuse, allow] if rule.other_than else [load, *jumps, allow, refuse]
