"""Files that go through a program: read, written, published only when the program has ended well."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.targets.format import Format, Text
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.pipes import FileWrapper, InputPipeProcessWrapper, OutputPipeProcessWrapper


class Rot13(Format):
    def pipe_reader(self, input_pipe: Any) -> Any:
        return InputPipeProcessWrapper(["tr", "a-zA-Z", "n-za-mN-ZA-M"], input_pipe)

    def pipe_writer(self, output_pipe: Any) -> Any:
        return OutputPipeProcessWrapper(["tr", "a-zA-Z", "n-za-mN-ZA-M"], output_pipe)


class Failing(Rot13):
    def pipe_writer(self, output_pipe: Any) -> Any:
        return OutputPipeProcessWrapper(["sh", "-c", "cat; exit 3"], output_pipe)


def test_target_is_written_and_read_through_programs(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "x", format=Text >> Rot13())
    with target.open("w") as file:
        file.write("Hello\nthere\n")
    assert (tmp_path / "x").read_text() == "Uryyb\ngurer\n"
    with target.open() as file:
        assert list(file) == ["Hello\n", "there\n"]


def test_program_that_fails_publishes_nothing(tmp_path: Path) -> None:
    file = LocalTarget(tmp_path / "x", format=Failing()).open("w")
    file.write(b"half")
    with pytest.raises(RuntimeError, match="Error when executing command"):
        file.close()
    assert list(tmp_path.iterdir()) == []


def test_exception_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), LocalTarget(tmp_path / "x", format=Rot13()).open("w") as file:
        file.writeLine("half")  # type: ignore[attr-defined]
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []


def test_writer_that_is_dropped_publishes_nothing(tmp_path: Path) -> None:
    file = LocalTarget(tmp_path / "x", format=Rot13()).open("w")
    file.write(b"half")
    del file
    assert list(tmp_path.iterdir()) == []


def test_reader_takes_what_has_no_descriptor() -> None:
    with InputPipeProcessWrapper(["sort"], io.BytesIO(b"b\na\n")) as file:
        assert file.read() == b"a\nb\n"


def test_reader_may_stop_early() -> None:
    with InputPipeProcessWrapper(["yes"]) as file:
        assert file.readline() == b"y\n"


def test_reader_of_a_program_that_fails_says_so() -> None:
    with (
        pytest.raises(RuntimeError, match="Subcommand exited with non-zero exit status 4"),
        InputPipeProcessWrapper(["sh", "-c", "echo x; exit 4"]) as file,
    ):
        assert file.read() == b"x\n"


def test_wrapper_passes_on_and_takes_attributes() -> None:
    wrapper = FileWrapper(io.StringIO("a\nb\n"))
    wrapper.extra = 1
    with wrapper as file:
        assert list(file) == ["a\n", "b\n"]
    assert wrapper.closed
