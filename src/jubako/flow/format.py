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
from collections.abc import Iterable
from itertools import pairwise
from typing import IO, Any, Self

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
        encoder = gzip.GzipFile(filename="", mode="wb", compresslevel=self._level, fileobj=output_pipe, mtime=0)
        return _EncodedWriter(encoder, output_pipe)  # type: ignore[return-value]


class Bzip2Format(Format):
    """bzip2."""

    def pipe_reader(self, input_pipe: Any) -> IO[Any]:
        return _Bzip2Reader(input_pipe)

    def pipe_writer(self, output_pipe: Any) -> IO[Any]:
        return _EncodedWriter(_Bzip2Encoder(output_pipe), output_pipe)  # type: ignore[return-value]


class _TextWriter(io.TextIOWrapper):
    """Text on its way into `buffer`, which is a writer of this module or an atomic file."""

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


class _EncodedWriter(io.BufferedIOBase):
    """Bytes on their way through an encoder into `below`. The encoder writes to `below`, but doesn't close it."""

    def __init__(self, encoder: Any, below: Any) -> None:
        self._encoder = encoder
        self._below = below

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        written: int = self._encoder.write(data)
        return written

    def flush(self) -> None:
        if not self.closed:
            self._encoder.flush()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._encoder.close()  # writes the end of the compressed data
        except BaseException:
            self.abort()
            raise
        super().close()
        self._below.close()

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self.closed:
            return
        self._encoder.fileobj = None  # so that nothing more is written when it is dropped
        super().close()
        self._below.abort()


class _Bzip2Encoder:
    """What `gzip.GzipFile` is for gzip; `bz2.BZ2File` would write its end into a file that was given up."""

    def __init__(self, below: Any) -> None:
        self.fileobj = below
        self._compressor = bz2.BZ2Compressor()

    def write(self, data: Any) -> int:
        self.fileobj.write(self._compressor.compress(data))
        return memoryview(data).nbytes

    def flush(self) -> None:
        self.fileobj.flush()

    def close(self) -> None:
        self.fileobj.write(self._compressor.flush())


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
