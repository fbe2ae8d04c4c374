"""Calls that are written down instead of made, and the script they become."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import BugError
from jubako.kernel.files import make_directory, make_file, make_symlink
from jubako.kernel.script import format_script
from jubako.kernel.syscall_numbers import find_number
from jubako.kernel.syscalls import Pointed, Recorded, Register, call, close, recorded

HEADER, CALL, ARGUMENT, PAIR = struct.Struct("=4sIII"), struct.Struct("=II"), struct.Struct("=QQ"), struct.Struct("=II")
STEP = CALL.size + 6 * ARGUMENT.size


def read_script(data: bytes) -> list[tuple[int, int, list[Any]]]:
    """What a performer would make of a script: the number, the error tolerated, and the arguments of each call.

    A string or structure is what the blob has from there on, with the place and the bytes of what it points to; a
    result is ("result", step).
    """
    magic, steps, relocations, size = HEADER.unpack_from(data)
    assert magic == b"jbk1"
    pairs_at = HEADER.size + steps * STEP
    blob = data[pairs_at + relocations * PAIR.size :]
    assert len(blob) == size
    pairs = dict(PAIR.unpack_from(data, pairs_at + at * PAIR.size) for at in range(relocations))
    found = []
    for step in range(steps):
        at = HEADER.size + step * STEP
        number, tolerated = CALL.unpack_from(data, at)
        arguments: list[Any] = []
        for which in range(6):
            means, value = ARGUMENT.unpack_from(data, at + CALL.size + which * ARGUMENT.size)
            if means == 0:
                arguments.append(value)
            elif means == 2:
                arguments.append(("result", value))
            else:
                inside = next((place for place in pairs if value <= place < value + 64), None)
                pointed = None if inside is None else (inside - value, blob[pairs[inside] :])
                arguments.append((blob[value:], pointed))
        found.append((number, tolerated, arguments))
    return found


def test_recorded_calls_are_not_made_and_refer_to_each_others_results(tmp_path: Path) -> None:
    path = str(tmp_path / "new")
    with recorded() as calls:
        make_directory(path)
        fd = call("open_tree", -100, b"/", 1)
        call("move_mount", fd, b"", -100, b"/mnt", 4)
        close(fd)
    assert not os.path.exists(path)
    assert [one.name for one in calls] == ["mkdirat", "open_tree", "move_mount", "close"]
    assert calls[0].tolerated == errno.EEXIST
    script = read_script(format_script(calls))
    machine = os.uname().machine
    assert [number for number, _, _ in script] == [find_number(one.name, machine) for one in calls]
    assert script[2][2][0] == script[3][2][0] == ("result", 1)
    assert script[0][2][0] == 2**64 - 100  # AT_FDCWD
    assert script[0][2][1][0].startswith(path.encode() + b"\0")
    make_directory(path)  # made again, not written down
    assert os.path.isdir(path)


def test_recording_ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), recorded():
        raise ZeroDivisionError
    assert call("gettid" if find_number("gettid", os.uname().machine) else "getpid") > 0


@given(
    st.lists(
        st.lists(
            st.integers(-(2**63), 2**63 - 1)
            | st.binary(max_size=40)
            | st.none()
            | st.builds(Pointed, st.binary(min_size=8, max_size=8), st.binary(min_size=1, max_size=40)),
            max_size=6,
        ),
        max_size=8,
    )
)
def test_script_says_what_was_written_down(calls: list[list[Any]]) -> None:
    written = [
        Recorded("any", 100 + at, tuple(arguments), Register(2**40 + at), at % 3) for at, arguments in enumerate(calls)
    ]
    script = read_script(format_script(written))
    assert [(number, tolerated) for number, tolerated, _ in script] == [(100 + at, at % 3) for at in range(len(calls))]
    for given_arguments, (_, _, read) in zip(calls, script, strict=True):
        for wanted, found in zip(given_arguments + [None] * (6 - len(given_arguments)), read, strict=True):
            if wanted is None:
                assert found == 0
            elif isinstance(wanted, int):
                assert found == wanted % 2**64
            elif isinstance(wanted, bytes):
                assert found[0].startswith(wanted + b"\0")
            else:
                data, pointed = found
                assert data.startswith(wanted.head)
                assert pointed is not None
                assert pointed[0] == len(wanted.head)
                assert pointed[1].startswith(wanted.target)


def test_argument_that_cannot_be_written_down_is_a_bug() -> None:
    with pytest.raises(BugError, match="cannot be written down"):
        format_script([Recorded("any", 1, (1.5,), Register(2**40), 0)])


def test_tolerated_error_is_no_error_and_others_are(tmp_path: Path) -> None:
    assert make_directory(tmp_path / "folder")
    assert not make_directory(tmp_path / "folder")
    assert make_file(tmp_path / "file")
    assert not make_file(tmp_path / "file")
    make_symlink(tmp_path / "link", "file")
    assert os.readlink(tmp_path / "link") == "file"
    with pytest.raises(FileNotFoundError):
        make_directory(tmp_path / "missing/folder")
    with pytest.raises(FileExistsError):
        make_symlink(tmp_path / "link", "file")
