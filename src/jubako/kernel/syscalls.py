"""The one way into the kernel: a system call by its name; a failure is an `OSError` that says which call it was.

The modules beside this one (`namespaces`, `mounts`, `files`, `process`, `capabilities`, `seccomp`) give each call a
typed function. Every call goes through libc's `syscall`, so an old libc that lacks a wrapper for a new call makes no
difference; a kernel, a machine or a platform that lacks the call answers ENOSYS. libc is opened on the first call, not
at import.

Calls can be written down instead of being made (`recorded`): whoever performs them later does what this process would
have done (`script`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from jubako.kernel.once import once
from jubako.kernel.syscall_numbers import find_number
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = [
    "AT_EMPTY_PATH",
    "AT_FDCWD",
    "AT_RECURSIVE",
    "AT_SYMLINK_NOFOLLOW",
    "Path",
    "Pointed",
    "Recorded",
    "Register",
    "call",
    "close",
    "encode",
    "fail",
    "recorded",
]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000


class Register(int):
    """Stands for what a call that was written down will return: a descriptor, for later ones."""


@record
class Pointed:
    """An argument that is a structure: `head`, and after it the address of `target`."""

    head: bytes
    target: bytes

    @property
    def _as_parameter_(self) -> ctypes.Array[ctypes.c_char]:
        """The structure in memory, as ctypes asks for it; the target lives as long."""
        target = ctypes.create_string_buffer(self.target, len(self.target))
        structure = ctypes.create_string_buffer(self.head + struct.pack("@P", ctypes.addressof(target)))
        structure.target = target  # type: ignore[attr-defined]
        return structure


@record
class Recorded:
    """A call that was written down."""

    name: str
    number: int
    arguments: tuple[Any, ...]
    result: Register
    tolerated: int  # the error that it may fail with


_recorder: list[Recorded] | None = None


def call(name: str, *arguments: Any, path: Path | None = None, path2: Path | None = None, tolerated: int = 0) -> int:
    """What the system call `name` returned. At most six arguments; buffers must outlive the call only.

    `path` and `path2` are for the error alone. Raises OSError with errno, a text that starts with the name of the call,
    and the path; ENOSYS where there is no such call; -1 is returned for the error `tolerated`. EINTR is an error here:
    who may repeat the call knows best.
    """
    number = _number(name)
    if number is None:
        fail(errno.ENOSYS, name, path, path2)
    if _recorder is not None:
        result = Register(_FIRST_REGISTER + len(_recorder))
        _recorder.append(Recorded(name, number, arguments, result, tolerated))
        return result
    returned = _syscall()(number, *arguments, *_PADDING[len(arguments) :])
    if returned == -1 and (tolerated == 0 or ctypes.get_errno() != tolerated):
        fail(ctypes.get_errno(), name, path, path2)
    return returned


def close(fd: int) -> None:
    """Closes a descriptor, also one that a call which was written down will return."""
    call("close", fd)


class recorded:
    """A list of the calls that would be made in a `with` block. None of them is; none fails, and each returns a
    Register. For one thread: calls of others would be written down, too."""

    def __enter__(self) -> list[Recorded]:
        global _recorder  # noqa: PLW0603  what `call` does must not cost a look-up through an object
        _recorder = []
        return _recorder

    def __exit__(self, *_error: object) -> None:
        global _recorder  # noqa: PLW0603
        _recorder = None


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
_FIRST_REGISTER = 1 << 40  # no descriptor, pid or flag is as large


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
