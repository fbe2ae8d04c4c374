"""Files that appear whole or not at all, and replace nothing but what was made here before.

A file is written without a name (O_TMPFILE) and given its name at the end: of a process that is killed nothing is left.
Where there is a file to be replaced, and on file systems that have no files without names, it is `.NAME.PID.jubako` for
a moment, or meanwhile; and locked (flock) as long as somebody writes it. What such a name has and nobody locks was left
by a process that was killed, and is removed when the same is written next. The same holds for directories of files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from contextlib import contextmanager, suppress

from jubako.errors import HostError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

__all__ = ["publish_files", "publishing"]

_LOOKED_AT = 1024  # bytes at the start of a file among which the mark of its kind is
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)  # open(2): the file system, or the kernel, has none
_NO_LINK = (errno.ENOENT, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP)  # linkat(2): without /proc, say


@contextmanager
def publishing(path: str | os.PathLike[str], mark: bytes, kind: str) -> Iterator[BinaryIO]:
    """A file to write, which is at `path` when the block ends well; else nothing has changed.

    What is there already is replaced if it is a file with `mark` at its start, that is one of this `kind` ("page of
    maps"); anything else is refused with InputError. HostError: it can't be written.
    """
    path = os.path.realpath(path) if os.path.islink(path) else os.fspath(path)
    _refuse_others(path, mark, kind)
    folder, name = os.path.split(path)
    aside = _name_aside(folder, name)
    try:
        _remove_leftovers(folder, name)
        with _open_unnamed(folder) or _open_named(aside) as file:
            try:
                yield file
                file.flush()
                if os.fstat(file.fileno()).st_nlink:
                    os.replace(aside, path)
                else:
                    _give_name(file, aside, path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(aside)
                raise
    except OSError as error:
        raise _unwritable(path, error) from error


def publish_files(folder: str | os.PathLike[str], files: Iterable[tuple[str, bytes]]) -> int:
    """Makes a directory of these files, all at once, where there is none or an empty one; how many there are."""
    folder = os.path.abspath(folder)
    home, own = os.path.split(folder)
    aside = _name_aside(home, own)
    if os.path.lexists(folder) and (not os.path.isdir(folder) or os.path.islink(folder) or os.listdir(folder)):
        raise _taken(folder)
    count = 0
    try:
        _remove_leftovers(home, own)
        os.mkdir(aside)
        fd = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            for name, content in files:
                with open(os.path.join(aside, name), "xb") as file:
                    file.write(content)
                count += 1
            os.rename(aside, folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process has made it meanwhile
            raise _taken(folder) from error
        raise _unwritable(folder, error) from error
    return count


def _taken(folder: str) -> InputError:
    return InputError(f"{folder} is there already and no empty directory", hint="name a new one, or remove it first")


def _name_aside(folder: str, name: str) -> str:
    return os.path.join(folder, f".{name}.{os.getpid()}.jubako")


def _open_unnamed(folder: str) -> BinaryIO | None:
    """A file without a name in this folder; None where there are none such."""
    try:
        fd = os.open(folder or ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in _NO_UNNAMED:
            return None
        raise
    return os.fdopen(fd, "w+b")


def _open_named(path: str) -> BinaryIO:
    """A new file of this name, locked."""
    while True:
        file = open(path, "x+b")  # noqa: SIM115  (whoever asked for it closes it)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # else it was taken for a leftover, before it was locked
            return file
        file.close()


def _give_name(file: BinaryIO, aside: str, path: str) -> None:
    """The name `path` for a file that has none; what is there is replaced, by way of `aside`."""
    try:
        try:
            _link(file, path)
        except FileExistsError:
            fcntl.flock(file, fcntl.LOCK_EX)
            _link(file, aside)
            os.replace(aside, path)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        file.seek(0)
        with _open_named(aside) as named:
            shutil.copyfileobj(file, named)
            named.flush()
            os.replace(aside, path)


def _link(file: BinaryIO, path: str) -> None:
    fd = file.fileno()
    # With a directory it is linkat(2) that is called, which alone follows the link in /proc to the file.
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def _remove_leftovers(folder: str, name: str) -> None:
    """Removes what processes that were killed have left of earlier tries to write this; what cannot be is left."""
    pattern = re.compile(rf"\.{re.escape(name)}\.[0-9]+\.jubako")
    for found in os.listdir(folder or "."):
        if not pattern.fullmatch(found):
            continue
        path = os.path.join(folder, found)
        with suppress(OSError):  # it is gone, somebody else's, or locked: being written
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
            finally:
                os.close(fd)


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
