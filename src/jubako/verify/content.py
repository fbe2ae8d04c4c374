"""Files to be compared: opened without following surprises, and read as what is in them, compressed or not.

The header of a gzip file holds the time it was made, so files are compared by what they hold. Only regular files are
opened, and never waited for: a named pipe in place of one would never end.
"""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager

from jubako.errors import InputError
from jubako.records import record
from jubako.verify.findings import Incomparable, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

__all__ = ["COMPRESSED", "File", "find_encoding", "open_regular", "strip_compression"]

COMPRESSED = (".gz", ".bz2", ".xz")  # endings of names, each of its own kind

_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@record
class File:
    """One of two files: where it is, and the name by which one knows what is in it."""

    path: str
    name: str = ""

    @property
    def known_as(self) -> str:
        """The name without its folder."""
        return os.path.basename(self.name or self.path)

    @contextmanager
    def open_raw(self) -> Iterator[BinaryIO]:
        """The bytes as they are. Incomparable for what is no regular file or cannot be read."""
        try:
            stream = open_regular(self.path, os.O_NOFOLLOW)
        except InputError as error:
            raise Incomparable(f"{self.name or self.path} is no regular file") from error
        except OSError as error:
            raise Incomparable(f"{self.name or self.path} cannot be read: {error.strerror}") from error
        with stream:
            yield stream

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The content, decompressed where the name says it is compressed. Unreadable if it isn't after all."""
        ending = os.path.splitext(self.known_as)[1].lower()
        with self.open_raw() as raw:
            if ending not in COMPRESSED:
                yield raw
                return
            opener, errors = _find_opener(ending)
            try:
                with opener(raw) as stream:
                    yield stream
            except errors as error:
                raise Unreadable(f"{self.known_as} cannot be decompressed: {error}") from error

    @contextmanager
    def open_text(self) -> Iterator[io.TextIOWrapper]:
        """The content as text, line ends as they are: UTF-8, or UTF-16 after its mark; other bytes are kept."""
        with self.open() as stream:
            buffered = io.BufferedReader(stream)  # type: ignore[type-var]  # it needs no more than reading
            encoding = find_encoding(buffered.peek(4)[:4])
            text = io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline="")
            try:
                yield text
            except UnicodeError as error:
                raise Unreadable(f"{self.known_as} is not {encoding}: {error}") from error
            finally:
                text.detach().detach()  # the stream is closed by whoever opened it


def open_regular(path: str | os.PathLike[str], flags: int = 0) -> BinaryIO:
    """The file, to be read. InputError if it is no regular one, OSError if it cannot be opened."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"{os.fspath(path)} is no regular file")
    return os.fdopen(fd, "rb", buffering=1 << 16)


def find_encoding(head: bytes) -> str:
    """What the first bytes of a text say about its encoding."""
    return next((encoding for mark, encoding in _BOMS if head.startswith(mark)), "utf-8")


def strip_compression(name: str) -> str:
    """`name` without the ending that says how it is compressed."""
    head, ending = os.path.splitext(name)
    return head if ending.lower() in COMPRESSED else name


def _find_opener(ending: str) -> tuple[Callable[[BinaryIO], BinaryIO], tuple[type[Exception], ...]]:
    """How to decompress, and what that raises for what is not compressed like that. Imports only what is needed."""
    if ending == ".gz":
        import gzip
        import zlib

        return (lambda raw: gzip.GzipFile(fileobj=raw, mode="rb")), (gzip.BadGzipFile, EOFError, zlib.error)  # type: ignore[return-value]
    if ending == ".bz2":
        import bz2

        return bz2.BZ2File, (OSError, EOFError)  # type: ignore[return-value]
    import lzma

    return lzma.LZMAFile, (lzma.LZMAError, EOFError)  # type: ignore[return-value]
