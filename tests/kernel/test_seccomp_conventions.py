"""What the filter answers to every number by every way of calling, judged by an interpreter; and any filter at all.

A machine takes calls by more than one convention, each with numbers of its own: x86-64 also as x32 and as i386, aarch64
also as 32-bit arm. What is refused by one must not be had by another.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf import ALLOW, ERRNO, INSTRUCTION, KILL, LOAD, RETURN, Call, Refused, check, run
from jubako.kernel.seccomp import (
    DENIED,
    DENIED_FLAGS,
    Rule,
    compile_filter,
    default_rules,
    init_rules,
    strict_rules,
)
from jubako.kernel.syscall_numbers import _NUMBERS, find_number

if TYPE_CHECKING:
    from collections.abc import Mapping

X86_64, I386, AARCH64, ARM, RISCV64 = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028, 0xC00000F3
NATIVE = {"x86_64": X86_64, "aarch64": AARCH64, "riscv64": RISCV64}
FOREIGN = {"x86_64": (I386, AARCH64, 0), "aarch64": (ARM, X86_64, 0), "riscv64": (0x400000F3, X86_64, 0)}
X32 = 0x40000000
NUMBERS = (*range(1024), *(2**bit + more for bit in range(10, 32) for more in (-1, 0, 1)), 2**32 - 1)
KINDS = {
    "default": (default_rules(), 0),
    "strict": (strict_rules(), errno.EPERM),
    "init": (init_rules(), 0),
}
ALL_ONES = (2**64 - 1,) * 6
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


def decide(rules: Mapping[str, Rule | None], otherwise: int, machine: str, call: Call) -> int:
    """What `rules` say about `call`, read off them without any program."""
    if call.arch != NATIVE[machine]:
        return KILL
    if machine == "x86_64" and call.number >= X32:
        return ERRNO | errno.ENOSYS
    for name, rule in rules.items():
        if find_number(name, machine) != call.number:
            continue
        if rule is None:
            return ALLOW
        low = ((*call.arguments, *[0] * 6)[rule.argument]) & 0xFFFFFFFF
        if rule.other_than:
            return ALLOW if low in rule.other_than else ERRNO | rule.code
        if not rule.is_conditional or low & rule.any_bit or low in rule.equal_to:
            return ERRNO | rule.code
        return ALLOW
    if not otherwise:
        return ALLOW
    known = [number for name in _NUMBERS if (number := find_number(name, machine)) is not None]
    return ERRNO | (otherwise if call.number <= max(known) else errno.ENOSYS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("machine", NATIVE)
def test_every_number_is_answered_as_the_rules_say(machine: str, kind: str) -> None:
    rules, otherwise = KINDS[kind]
    instructions = check(compile_filter(rules, machine, otherwise=otherwise))
    for number in NUMBERS:
        for arguments in ((), ALL_ONES):
            call = Call(NATIVE[machine], number, arguments)
            assert run(instructions, call) == decide(rules, otherwise, machine, call), call


@pytest.mark.parametrize("kind", ["default", "strict"])
@pytest.mark.parametrize("machine", NATIVE)
def test_nothing_on_the_list_is_allowed_by_any_convention(machine: str, kind: str) -> None:
    rules, otherwise = KINDS[kind]
    instructions = check(compile_filter(rules, machine, otherwise=otherwise))
    known = [number for name in (*DENIED, "clone3") if (number := find_number(name, machine)) is not None]
    conditional = [find_number(name, machine) for name in DENIED_FLAGS]
    assert len(known) > 40
    for number in known:
        assert run(instructions, Call(NATIVE[machine], number)) & 0xFFFF0000 == ERRNO
    for number in conditional:
        assert number is not None
        assert run(instructions, Call(NATIVE[machine], number, ALL_ONES)) == ERRNO | errno.EPERM
    for number in NUMBERS:
        for arch in FOREIGN[machine]:
            assert run(instructions, Call(arch, number)) == KILL
    if machine == "x86_64":
        # From 512 on x32 has numbers of its own for some calls (ptrace is 521, kexec_load 528).
        for number in (*range(1024), *known):
            assert run(instructions, Call(X86_64, X32 | number)) == ERRNO | errno.ENOSYS
            assert run(instructions, Call(X86_64, 2**31 | X32 | number)) == ERRNO | errno.ENOSYS


values = st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple)
rules_of_any_kind = st.dictionaries(
    st.sampled_from(sorted(_NUMBERS)),
    st.none()
    | st.builds(
        Rule,
        st.integers(1, 133),
        argument=st.integers(0, 5),
        any_bit=st.sampled_from([0, 1, 0x80000000, 0x7E020000]),
        equal_to=values,
    )
    | st.builds(Rule, st.integers(1, 133), argument=st.integers(0, 5), other_than=values),
    max_size=300,
)


@given(rules_of_any_kind, st.sampled_from([0, errno.EPERM]), st.sampled_from(sorted(NATIVE)), st.data())
def test_any_rules_become_a_program_that_answers_as_they_say(
    rules: dict[str, Rule | None], otherwise: int, machine: str, data: st.DataObject
) -> None:
    instructions = check(compile_filter(rules, machine, otherwise=otherwise))
    interesting = [number for name in rules if (number := find_number(name, machine)) is not None]
    near = [one + more for one in interesting for more in (-1, 0, 1) if one + more >= 0]
    conditions = [rule for rule in rules.values() if rule is not None]
    values = [value for rule in conditions for value in (*rule.equal_to, *rule.other_than, rule.any_bit)]
    argument = st.integers(0, 2**64 - 1) | st.sampled_from([*values, 0]).flatmap(
        lambda low: st.integers(0, 2**32 - 1).map(lambda high: high << 32 | low)
    )
    arguments = data.draw(st.tuples(*[argument] * 6))
    arch = data.draw(st.sampled_from([*[NATIVE[machine]] * 4, *FOREIGN[machine]]))
    for number in (*near, data.draw(st.integers(0, 2**32 - 1))):
        call = Call(arch, number, arguments)
        assert run(instructions, call) == decide(rules, otherwise, machine, call)


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = next(Path(path) for path in HEADERS[machine] if Path(path).exists())
    found = {
        name: int(number)
        for name, number in re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    }
    wrong = {
        name: (number, found[name])
        for name in _NUMBERS
        if (number := find_number(name, machine)) is not None and name in found and number != found[name]
    }
    assert wrong == {}
    assert {"ptrace", "mount", "unshare", "setns", "clone"} <= set(found)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        INSTRUCTION.pack(LOAD, 0, 0, 0),
        INSTRUCTION.pack(LOAD, 0, 0, 64) + INSTRUCTION.pack(RETURN, 0, 0, 0),
        INSTRUCTION.pack(LOAD, 0, 0, 2) + INSTRUCTION.pack(RETURN, 0, 0, 0),
        INSTRUCTION.pack(0x15, 1, 0, 0) + INSTRUCTION.pack(RETURN, 0, 0, 0),
        INSTRUCTION.pack(0x99, 0, 0, 0) + INSTRUCTION.pack(RETURN, 0, 0, 0),
    ],
)
def test_interpreter_refuses_what_the_kernel_would(program: bytes) -> None:
    with pytest.raises(Refused):
        check(program)
