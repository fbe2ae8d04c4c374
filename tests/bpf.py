"""Classic BPF as the kernel runs it over a system call: a reference to judge filters by, slow and plain (seccomp(2)).

It refuses what the kernel's checker would: instructions it does not know, loads outside the record or not of a whole
word, jumps beyond the end, and programs that do not end in a return.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
INSTRUCTION = struct.Struct("=HBBI")
MOST_INSTRUCTIONS = 4096
LOAD, RETURN, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_ANY_BIT = 0x20, 0x06, 0x05, 0x15, 0x25, 0x35, 0x45
CONDITIONAL = {
    JUMP_EQUAL: lambda left, right: left == right,
    JUMP_GREATER: lambda left, right: left > right,
    JUMP_AT_LEAST: lambda left, right: left >= right,
    JUMP_ANY_BIT: lambda left, right: bool(left & right),
}


class Refused(Exception):
    """The kernel would not take this program."""


@dataclass(frozen=True)
class Call:
    """What a filter sees of a system call."""

    arch: int
    number: int
    arguments: tuple[int, ...] = ()

    def pack(self) -> bytes:
        padded = (*self.arguments, *[0] * 6)[:6]
        return struct.pack("<IIQ6Q", self.number, self.arch, 0, *padded)


def check(program: bytes) -> list[tuple[int, int, int, int]]:
    """The instructions of `program`; Refused if the kernel would refuse it."""
    if not program or len(program) % INSTRUCTION.size or len(program) > MOST_INSTRUCTIONS * INSTRUCTION.size:
        raise Refused(f"{len(program)} bytes")
    instructions = list(INSTRUCTION.iter_unpack(program))
    for at, (code, when_true, when_false, constant) in enumerate(instructions):
        after = len(instructions) - at - 1
        if code == LOAD:
            if constant % 4 or constant >= 64:
                raise Refused(f"{at}: load at {constant}")
        elif code in CONDITIONAL:
            if max(when_true, when_false) >= after:
                raise Refused(f"{at}: jump beyond the end")
        elif code == JUMP:
            if constant >= after:
                raise Refused(f"{at}: jump beyond the end")
        elif code != RETURN:
            raise Refused(f"{at}: code {code:#x}")
    if instructions[-1][0] != RETURN:
        raise Refused("the end is no return")
    return instructions


def run(instructions: list[tuple[int, int, int, int]], call: Call) -> int:
    """What the program answers to `call`. It ends: jumps go forward only."""
    data = call.pack()
    at = accumulator = 0
    while True:
        code, when_true, when_false, constant = instructions[at]
        at += 1
        if code == RETURN:
            return constant
        if code == LOAD:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == JUMP:
            at += constant
        else:
            at += when_true if CONDITIONAL[code](accumulator, constant) else when_false
