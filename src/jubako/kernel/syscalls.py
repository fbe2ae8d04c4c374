"""The one way into the kernel: a system call by its name; a failure is an `OSError` that says which call it was.

The modules beside this one (`namespaces`, `mounts`, `files`, `process`, `capabilities`, `seccomp`) give each call a
typed function. Every call goes through libc's `syscall`, so an old libc that lacks a wrapper for a new call makes no
difference; a kernel, a machine or a platform that lacks the call answers ENOSYS. libc is opened on the first call, not
at import.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from jubako.kernel.once import once
from jubako.kernel.syscall_numbers import find_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["AT_EMPTY_PATH", "AT_FDCWD", "AT_RECURSIVE", "AT_SYMLINK_NOFOLLOW", "Path", "call", "encode", "fail"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Argument = int | bytes | None | ctypes.Array[ctypes.c_char]

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000


def call(name: str, *arguments: Argument, path: Path | None = None, path2: Path | None = None) -> int:
    """What the system call `name` returned. At most six arguments; buffers must outlive the call only.

    `path` and `path2` are for the error alone. Raises OSError with errno, a text that starts with the name of the call,
    and the path; ENOSYS where there is no such call. EINTR is an error here: who may repeat the call knows best.
    """
    number = _number(name)
    if number is None:
        fail(errno.ENOSYS, name, path, path2)
    result = _syscall()(number, *arguments, *_PADDING[len(arguments) :])
    if result == -1:
        fail(ctypes.get_errno(), name, path, path2)
    return result


def fail(code: int, what: str, path: Path | None = None, path2: Path | None = None) -> NoReturn:
    """Raises the OSError (of the subclass that fits `code`) saying that `what` failed, naming the paths."""
    text = f"{what}: {os.strerror(code)}"
    if path is None:
        raise OSError(code, text)
    raise OSError(code, text, _for_people(path), None, None if path2 is None else _for_people(path2))


def encode(path: Path) -> bytes:
    """The bytes the kernel gets for `path` (surrogate escapes become the bytes they stand for).

    Raises ValueError on an embedded null byte, which the kernel would take for the end.
    """
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError(f"embedded null byte in {path!r}")
    return raw


_PADDING = (0, 0, 0, 0, 0, 0)


def _for_people(path: Path) -> str:
    return os.fsdecode(path)


_numbers: dict[str, int | None] = {}  # those asked for so far


def _number(name: str) -> int | None:
    if name not in _numbers:
        number = find_number(name, _machine())
        _numbers[name] = number if sys.platform == "linux" else None
    return _numbers[name]


@once
def _machine() -> str:
    if not hasattr(os, "uname") or struct.calcsize("P") != 8:  # a 32-bit interpreter uses other numbers
        return ""
    return os.uname().machine


@once
def _syscall() -> Callable[..., int]:
    try:
        function = ctypes.CDLL(None, use_errno=True).syscall
    except (AttributeError, OSError, TypeError) as error:
        raise OSError(errno.ENOSYS, f"no libc to make system calls with: {error}") from error
    function.restype = ctypes.c_long
    # c_void_p takes what a call may need: an int of either sign, bytes, a buffer, None.
    function.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 6
    return function
