"""Files that appear whole or not at all, and replace nothing but what was made here before."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress

from jubako.errors import HostError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

__all__ = ["publish_files", "publishing"]

_LOOKED_AT = 1024  # bytes at the start of a file among which the mark of its kind is


@contextmanager
def publishing(path: str | os.PathLike[str], mark: bytes, kind: str) -> Iterator[BinaryIO]:
    """A file to write, which is at `path` when the block ends well; else nothing has changed.

    What is there already is replaced if it is a file with `mark` at its start, that is one of this `kind` ("page of
    maps"); anything else is refused with InputError. HostError: it can't be written.
    """
    path = os.path.realpath(path) if os.path.islink(path) else os.fspath(path)
    _refuse_others(path, mark, kind)
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with open(aside, "xb") as file:
            try:
                yield file
                file.close()
                os.replace(aside, path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(aside)
                raise
    except OSError as error:
        raise _unwritable(path, error) from error


def publish_files(folder: str | os.PathLike[str], files: Iterable[tuple[str, bytes]]) -> int:
    """Makes a directory of these files, all at once, where there is none or an empty one; how many there are."""
    folder = os.path.abspath(folder)
    aside = os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.{os.getpid()}")
    if os.path.lexists(folder) and (not os.path.isdir(folder) or os.path.islink(folder) or os.listdir(folder)):
        raise InputError(f"{folder} is there already and no empty directory", hint="name a new one, or remove it first")
    count = 0
    try:
        os.mkdir(aside)
        try:
            for name, content in files:
                with open(os.path.join(aside, name), "xb") as file:
                    file.write(content)
                count += 1
            os.rename(aside, folder)
        except BaseException:
            for name in os.listdir(aside):
                os.unlink(os.path.join(aside, name))
            os.rmdir(aside)
            raise
    except OSError as error:
        raise _unwritable(folder, error) from error
    return count


def _refuse_others(path: str, mark: bytes, kind: str) -> None:
    hint = "name another file, or remove this one if nobody needs it"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path} is no file that a {kind} could replace", hint="name another file")
        with open(path, "rb") as file:
            start = file.read(_LOOKED_AT)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if start and mark not in start:
        raise InputError(f"{path} is there already and no {kind}, so it is not replaced", hint=hint)


def _unwritable(path: str, error: OSError) -> HostError:
    return HostError(f"{path} cannot be written: {error.strerror}", hint="name a place where you may write and is room")
