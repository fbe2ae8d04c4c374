"""How what a task writes becomes the bytes of a file, and back: text encodings, compression, and chains of them.

    LocalTarget("a.txt")                            text, in the locale's encoding
    LocalTarget("a.bin", format=Nop)                bytes
    LocalTarget("a.txt.gz", format=UTF8 >> Gzip)    UTF-8 text, compressed: what is written goes from left to right

A writer that is closed publishes its file; one that is left by an exception, or just dropped, discards it. So every
writer here has `abort()`, which passes the discard down to the file, where `close()` would publish it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Iterable
from itertools import pairwise
from typing import IO, Any, Final, Self

__all__ = [
    "UTF8",
    "Bzip2",
    "ChainFormat",
    "Format",
    "Gzip",
    "MixedUnicodeBytes",
    "Nop",
    "SysNewLine",
    "Text",
    "TextFormat",
    "get_default_format",
]

_GZIP_WBITS: Final = 31  # zlib.compressobj writes a gzip header and trailer, without name and time


class Format:
    """What can be put between a task and a file. `input` and `output` say what a writer takes and what it passes on."""

    input: str = "bytes"
    output: str = "bytes"

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        """A file to read from, decoding what `input_pipe` gives."""
        raise NotImplementedError

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        """A file to write to, encoding into `output_pipe`."""
        raise NotImplementedError

    def __rshift__(self, other: Format) -> ChainFormat:
        return ChainFormat(self, other)


class ChainFormat(Format):
    """Formats in a row: what is written passes the first one first."""

    def __init__(self, *formats: Format, check_consistency: bool = True) -> None:
        self.formats = formats
        self.input = formats[0].input
        self.output = formats[-1].output
        if check_consistency:
            for left, right in pairwise(formats):
                if left.output != right.input:
                    raise TypeError(
                        f"The format chaining is not valid, {type(right).__name__} expect {right.input} "
                        f"but {type(left).__name__} provide {left.output}"
                    )

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        for part in reversed(self.formats):
            input_pipe = part.pipe_reader(input_pipe)
        return input_pipe  # type: ignore[no-any-return]

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        for part in reversed(self.formats):
            output_pipe = part.pipe_writer(output_pipe)
        return output_pipe  # type: ignore[no-any-return]


class NopFormat(Format):
    """Bytes as they are."""

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        return input_pipe  # type: ignore[no-any-return]

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        return output_pipe  # type: ignore[no-any-return]


class TextFormat(Format):
    """Text in an encoding (None: the locale's), with the options of `open()`."""

    input = "unicode"

    def __init__(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> None:
        self._options: dict[str, Any] = {"encoding": encoding, "errors": errors, "newline": newline}

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        return io.TextIOWrapper(input_pipe, **self._options)

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        return _TextWriter(output_pipe, **self._options)


class MixedFormat(Format):
    """Text, or bytes that are taken as they are; read back as bytes. For old code that writes both."""

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        return input_pipe  # type: ignore[no-any-return]

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        return _MixedWriter(output_pipe)  # type: ignore[return-value]  # as much of a file as writing takes


class GzipFormat(Format):
    """gzip, with neither name nor time in it: the same content makes the same bytes."""

    def __init__(self, compression_level: int | None = None) -> None:
        self._level = 6 if compression_level is None else compression_level

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        return _GzipReader(input_pipe)  # type: ignore[return-value]

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        return _CompressedWriter(zlib.compressobj(self._level, wbits=_GZIP_WBITS), output_pipe)  # type: ignore[return-value]


class Bzip2Format(Format):
    """bzip2."""

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        return _Bzip2Reader(input_pipe)

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        return _CompressedWriter(bz2.BZ2Compressor(), output_pipe)  # type: ignore[return-value]


class _TextWriter(io.TextIOWrapper):
    """Text on its way into `buffer`, which is a writer of this module or an atomic file."""

    def close(self) -> None:
        if self.closed:
            return
        try:
            self.flush()  # TextIOWrapper would close what is below, and so publish it, even if this fails
        except BaseException:
            self.abort()
            raise
        super().close()

    _is_detached = False  # after which TextIOWrapper can't even be asked if it is closed

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self._is_detached or self.closed:
            return
        below: Any = self.buffer
        self._is_detached = True
        try:
            self.detach()  # writes what it still holds; whether that works doesn't matter any more
        except (OSError, ValueError):
            pass
        finally:
            below.abort()


class _CompressedWriter(io.BufferedIOBase):
    """Bytes on their way through a compressor into `below`."""

    def __init__(self, compressor: Any, below: Any) -> None:
        self._compressor = compressor
        self._below = below

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        compressed = self._compressor.compress(data)
        try:
            self._below.write(compressed)
        except BaseException:
            self.abort()  # what the compressor gave away can't be had again, so nothing complete can come of this
            raise
        return memoryview(data).nbytes

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._below.write(self._compressor.flush())
            super().close()
            self._below.close()
        except BaseException:
            self.abort()
            raise

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        self.abort()

    def abort(self) -> None:
        super().close()  # nothing is held back here that this could write
        self._below.abort()


class _MixedWriter:
    """Takes text and bytes."""

    def __init__(self, below: Any) -> None:
        self._below = below

    def write(self, data: str | bytes) -> int:
        written: int = self._below.write(data.encode() if isinstance(data, str) else data)
        return written

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        self._below.__exit__(exc_type, exc, traceback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


class _GzipReader(gzip.GzipFile):
    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        super().__init__(fileobj=pipe, mode="rb")

    def close(self) -> None:
        super().close()
        self._pipe.close()


class _Bzip2Reader(bz2.BZ2File):
    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        super().__init__(pipe, "rb")

    def close(self) -> None:
        super().close()
        self._pipe.close()


Text = TextFormat()
UTF8 = TextFormat(encoding="utf8")
Nop = NopFormat()
SysNewLine = TextFormat()
Gzip = GzipFormat()
Bzip2 = Bzip2Format()
MixedUnicodeBytes = MixedFormat()


def get_default_format() -> Format:
    """The format of a target that names none."""
    return Text
