"""Formats and their chains: what is written is read back, by us and by others; what is given up is given up below."""

from __future__ import annotations

import bz2
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow.targets.format import (
    UTF8,
    Bzip2,
    ChainFormat,
    Gzip,
    MixedUnicodeBytes,
    Nop,
    SysNewLine,
    Text,
    TextFormat,
    get_default_format,
)
from jubako.flow.targets.local_target import LocalTarget


class Sink(io.BytesIO):
    """A file that remembers what became of it."""

    def __init__(self, fails_after: int = 10**9) -> None:
        super().__init__()
        self.fate = "open"
        self.content = b""
        self.fails_after = fails_after

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.fails_after:
            raise OSError("full")
        return super().write(data)

    def close(self) -> None:
        if not self.closed:
            self.content, self.fate = self.getvalue(), "published"
        super().close()

    def abort(self) -> None:
        if not self.closed:
            self.fate = "given up"
        super().close()


def written(format: Any, data: Any) -> bytes:
    sink = Sink()
    with format.pipe_writer(sink) as file:
        file.write(data)
    assert sink.fate == "published"
    return sink.content


@pytest.mark.parametrize(
    "format", [UTF8, UTF8 >> Gzip, UTF8 >> Bzip2, UTF8 >> Nop >> Gzip, (UTF8 >> Nop) >> (Nop >> Bzip2)]
)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_text_is_read_back_through_any_chain(format: Any, text: str) -> None:
    with format.pipe_reader(io.BytesIO(written(format, text))) as file:
        assert file.read() == text


@pytest.mark.parametrize("format", [Nop, Gzip, Bzip2, Gzip >> Bzip2])
@given(data=st.binary())
def test_bytes_are_read_back_through_any_chain(format: Any, data: bytes) -> None:
    with format.pipe_reader(io.BytesIO(written(format, data))) as file:
        assert file.read() == data


def test_compressed_files_are_what_others_read() -> None:
    assert gzip.decompress(written(Gzip, b"abc" * 999)) == b"abc" * 999
    assert bz2.decompress(written(Bzip2, b"abc" * 999)) == b"abc" * 999
    with (UTF8 >> Gzip).pipe_reader(io.BytesIO(gzip.compress(b"a") + gzip.compress("é\n".encode()))) as file:
        assert list(file) == ["aé\n"]


def test_compressed_content_does_not_depend_on_when_it_was_written() -> None:
    header = written(Gzip, b"abc")[:10]
    assert (header[3], header[4:8]) == (0, bytes(4))  # neither a name nor a time


@pytest.mark.parametrize("format", [Text, UTF8 >> Gzip, Gzip, Bzip2, MixedUnicodeBytes])
def test_exception_gives_up_the_file_below(format: Any) -> None:
    sink = Sink()
    sink.__exit__ = lambda kind, *rest: sink.abort() if kind else sink.close()  # type: ignore[method-assign,misc]
    file = format.pipe_writer(sink) if format is not MixedUnicodeBytes else format.pipe_writer(_Guarded(sink))
    with pytest.raises(RuntimeError), file:
        file.write(b"half" if format in (Gzip, Bzip2) else "half")
        raise RuntimeError
    assert sink.fate == "given up"


class _Guarded:
    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.write = sink.write

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.sink.abort() if kind else self.sink.close()


@pytest.mark.parametrize("format", [UTF8, UTF8 >> Gzip, UTF8 >> Bzip2])
@pytest.mark.parametrize("fails_after", [0, 5, 60, 5000])
def test_failing_write_gives_up_the_file_below_whenever_it_fails(format: Any, fails_after: int) -> None:
    sink = Sink(fails_after)
    file = format.pipe_writer(sink)
    with pytest.raises(OSError, match="full"):
        for n in range(5000):
            file.write(f"{n * 7919 % 10007} {n}\n")
        file.close()
    file.close() if file.closed else file.abort()
    assert sink.fate == "given up"


def test_mixed_takes_text_and_bytes_and_reads_bytes(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "a", format=MixedUnicodeBytes)
    with target.open("w") as file:
        file.write("é")
        file.writelines([b"\xff", "\n"])
    with target.open() as file:
        assert file.read() == "é".encode() + b"\xff\n"


def test_text_has_the_options_of_open() -> None:
    format = TextFormat(encoding="latin-1", errors="replace", newline="\r\n")
    assert written(format, "é€\n") == b"\xe9?\r\n"
    assert written(SysNewLine, "a\n") == b"a\n"
    assert get_default_format() is Text


def test_chain_that_does_not_fit_is_refused_as_in_luigi(luigi: Any) -> None:
    def words(module: Any) -> str:
        with pytest.raises(TypeError) as caught:
            module.Gzip >> module.Text
        return str(caught.value)

    assert words(luigi.format).startswith("The format chaining is not valid")
    with pytest.raises(
        TypeError, match="The format chaining is not valid, TextFormat expect unicode but GzipFormat provide bytes"
    ):
        ChainFormat(Gzip, Text)
    assert ChainFormat(Gzip, Text, check_consistency=False).input == "bytes"
    with pytest.raises(TypeError, match="not valid"):
        Gzip >> Text


@pytest.mark.parametrize("chain", ["UTF8", "Nop", "Gzip", "Bzip2"])
@settings(max_examples=15)
@given(content=st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_files_of_luigi_are_read_and_ours_by_luigi(
    luigi: Any, tmp_path_factory: pytest.TempPathFactory, chain: str, content: str
) -> None:
    path = tmp_path_factory.mktemp("f") / "a"
    data: Any = content if chain == "UTF8" else content.encode()
    ours = LocalTarget(path, format={"UTF8": UTF8, "Nop": Nop, "Gzip": Gzip, "Bzip2": Bzip2}[chain])
    theirs = luigi.LocalTarget(path, format=getattr(luigi.format, chain))
    for writer, reader in ((ours, theirs), (theirs, ours)):
        with writer.open("w") as file:
            file.write(data)
        with reader.open("r") as file:
            assert file.read() == (content.replace("\r\n", "\n").replace("\r", "\n") if chain == "UTF8" else data)
