"""The system calls a boxed task may not make: a list, compiled to a filter that the kernel runs on every call.

A task needs none of them, and each reaches out of the box or widens what can go wrong in the kernel. They fail with
EPERM, as for one without the privilege; clone3, whose flags a filter cannot see, with ENOSYS, so that libc falls back
to clone. Calls made the 32-bit way end the process, and x32 ones fail with ENOSYS: both have numbers of their own,
which would slip past the list. It narrows what honest programs can break; it is not a wall against hostile ones.

A program is classic BPF over `struct seccomp_data` (seccomp(2)). It searches the number of the call in a tree, since
the kernel, when it loads a program, runs it once for every number: a list would take three times as long to load.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from itertools import accumulate

from jubako.kernel.once import once
from jubako.kernel.syscall_numbers import find_number
from jubako.kernel.syscalls import call
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DENIED", "DENIED_FLAGS", "Rule", "compile_filter", "default_filter", "install_filter"]

# Calls refused whatever their arguments.
DENIED = (
    # mounts, roots and namespaces
    *("mount", "umount2", "pivot_root", "setns"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "open_tree_attr", "mount_setattr"),
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
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname"),
)

_NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_NEW_NAMESPACES_OF_CLONE = 0x7E020000  # in clone the low byte is a signal; there is no CLONE_NEWTIME
_TIOCSTI = 0x5412  # puts a character into the terminal's input, as if typed
_TIOCLINUX = 0x541C  # the same by way of the console's selection

_AUDIT_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
_X32_BIT = 0x40000000
_CALLS = 512  # about as many as any machine has; only for the shape of the search

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
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
_INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if false, constant

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

    @property
    def is_conditional(self) -> bool:
        return bool(self.any_bit or self.equal_to)


@record
class _Span:
    """Consecutive call numbers, from `start` on, that share a rule; `weight` of them are calls the kernel has."""

    start: int
    rule: Rule | None
    weight: int


@once
def default_filter() -> bytes:
    """The filter for boxed tasks on this machine. OSError ENOSYS on one whose call numbers jubako doesn't know."""
    return compile_filter(default_rules(), os.uname().machine)


def default_rules() -> dict[str, Rule]:
    """What is refused in a box, by the name of the call."""
    rules = {name: Rule(errno.EPERM) for name in DENIED}
    for name, (argument, bits) in DENIED_FLAGS.items():
        rules[name] = Rule(errno.EPERM, argument=argument, any_bit=bits)
    rules["ioctl"] = Rule(errno.EPERM, argument=1, equal_to=(_TIOCSTI, _TIOCLINUX))
    rules["clone3"] = Rule(errno.ENOSYS)
    return rules


def compile_filter(rules: Mapping[str, Rule], machine: str) -> bytes:
    """The BPF program for `rules` on `machine` (as `uname -m` says), ready for `install_filter`."""
    if machine not in _AUDIT_ARCHES:
        raise OSError(errno.ENOSYS, f"no system call filter for {machine} machines")
    program = _Program()
    program.load(_OFFSET_OF_ARCH)
    program.jump(_JUMP_EQUAL, _AUDIT_ARCHES[machine], "native", "foreign")
    program.label("foreign")
    program.give(_RET_KILL_PROCESS)
    program.label("native")
    program.load(_OFFSET_OF_NUMBER)
    _search(program, _spans(rules, machine))
    return program.assemble()


def install_filter(program: bytes) -> None:
    """Puts this thread, and all it will start, under `program` for ever. Needs no_new_privs or CAP_SYS_ADMIN."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(instructions))
    call("seccomp", _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW, header)


def _spans(rules: Mapping[str, Rule], machine: str) -> list[_Span]:
    """All numbers of system calls from 0 up, cut where what happens to them changes."""
    numbered = {find_number(name, machine): rule for name, rule in rules.items()}
    allowed = [(number + 1, None) for number in numbered if number is not None and number + 1 not in numbered]
    refused = [(number, rule) for number, rule in numbered.items() if number is not None]
    starts: list[tuple[int, Rule | None]] = [
        (0, numbered.get(0)),
        *sorted([*refused, *allowed], key=lambda one: one[0]),
    ]
    if machine == "x86_64":
        starts.append((_X32_BIT, Rule(errno.ENOSYS)))
    merged = [one for at, one in enumerate(starts) if at == 0 or one[1] != starts[at - 1][1]]
    ends = [start for start, _ in merged[1:]] + [_CALLS]
    return [
        _Span(start, rule, weight=max(1, min(end, _CALLS) - start))
        for (start, rule), end in zip(merged, ends, strict=True)
    ]


def _search(program: _Program, spans: Sequence[_Span]) -> None:
    """Emits the search for the span of the loaded number; wide spans are found first. Every path ends in a return."""
    if len(spans) == 1:
        _decide(program, spans[0].rule)
        return
    before = list(accumulate(span.weight for span in spans))  # the weight up to and with each
    cut = 1 + min(range(len(spans) - 1), key=lambda at: abs(2 * before[at] - before[-1]))
    at_least, below = program.new_label(), program.new_label()
    program.jump(_JUMP_AT_LEAST, spans[cut].start, at_least, below)
    program.label(below)
    _search(program, spans[:cut])
    program.label(at_least)
    _search(program, spans[cut:])


def _decide(program: _Program, rule: Rule | None) -> None:
    if rule is None:
        program.give(_RET_ALLOW)
        return
    if rule.is_conditional:
        refuse = program.new_label()
        program.load(_OFFSET_OF_ARGUMENTS + 8 * rule.argument)
        for value in rule.equal_to:
            program.jump(_JUMP_EQUAL, value, refuse, after := program.new_label())
            program.label(after)
        if rule.any_bit:
            program.jump(_JUMP_ANY_BIT, rule.any_bit, refuse, after := program.new_label())
            program.label(after)
        program.give(_RET_ALLOW)
        program.label(refuse)
    program.give(_RET_ERRNO | rule.code)


class _Program:
    """Instructions with named places in between. Classic BPF jumps forward only, by at most 255 instructions."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, str, str]] = []  # code, constant, label if true, label if false
        self._places: dict[str, int] = {}
        self._labels = 0

    def load(self, offset: int) -> None:
        self._instructions.append((_LOAD_WORD, offset, "", ""))

    def give(self, verdict: int) -> None:
        self._instructions.append((_RETURN, verdict, "", ""))

    def jump(self, code: int, constant: int, when_true: str, when_false: str) -> None:
        self._instructions.append((code, constant, when_true, when_false))

    def label(self, name: str) -> None:
        self._places[name] = len(self._instructions)

    def new_label(self) -> str:
        self._labels += 1
        return f"label {self._labels}"

    def assemble(self) -> bytes:
        return b"".join(
            _INSTRUCTION.pack(code, self._distance(at, when_true), self._distance(at, when_false), constant)
            for at, (code, constant, when_true, when_false) in enumerate(self._instructions)
        )

    def _distance(self, at: int, label: str) -> int:
        return self._places[label] - at - 1 if label else 0
