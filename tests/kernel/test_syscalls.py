from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jubako.kernel.syscall_numbers import find_number
from jubako.kernel.syscalls import AT_FDCWD, call, encode, fail


def test_call_that_fails_names_call_and_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        call("umount2", b"/no/such/place", 0, path="/no/such/place")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.strerror == "umount2: No such file or directory"
    assert caught.value.filename == "/no/such/place"


def test_call_with_two_paths_names_both() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        call("renameat2", AT_FDCWD, b"/no/old", AT_FDCWD, b"/no/new", 0, path="/no/old", path2=b"/no/new\xff")
    assert caught.value.filename2 == "/no/new\udcff"


def test_call_of_a_machine_without_numbers_is_enosys() -> None:
    assert find_number("mount", "m68k") is None
    with pytest.raises(OSError, match="mount: Function not implemented") as caught:
        fail(errno.ENOSYS, "mount")
    assert caught.value.errno == errno.ENOSYS


def test_call_unknown_to_the_table_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        find_number("fork_me_a_pony", "x86_64")


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 304), ("aarch64", 265), ("riscv64", 265)])
def test_find_number_differs_by_machine(machine: str, number: int) -> None:
    assert find_number("open_by_handle_at", machine) == number


def test_encode_keeps_the_bytes_of_hostile_names() -> None:
    assert encode("line\nend\udcff") == b"line\nend\xff"


def test_encode_of_an_embedded_null_is_refused() -> None:
    with pytest.raises(ValueError, match="null byte"):
        encode("/etc\0/passwd")


def test_call_passes_a_negative_number_as_it_is(tmp_path: Path) -> None:
    # AT_FDCWD is -100: resolved against the working directory, not refused as a descriptor.
    fd = call("open_tree", AT_FDCWD, encode(tmp_path), os.O_CLOEXEC)
    assert os.path.samestat(os.fstat(fd), tmp_path.stat())
    os.close(fd)
