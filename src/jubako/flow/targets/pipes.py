"""Files whose content goes through a program on its way: `sort < file`, `lzop > file`. For formats of a pipeline's own.

    class LzopFormat(Format):
        def pipe_reader(self, input_pipe): return InputPipeProcessWrapper(["lzop", "-d"], input_pipe)
        def pipe_writer(self, output_pipe): return OutputPipeProcessWrapper(["lzop"], output_pipe)

A writer publishes only when its program has ended well: with an error, or left by an exception, it discards.
Names and behaviour are those of `luigi.format`.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, Self

__all__ = ["FileWrapper", "InputPipeProcessWrapper", "OutputPipeProcessWrapper"]

# A reader that needs no more closes the pipe; what the program then dies of is no error.
_ENDED_WELL: Final = (0, -signal.SIGPIPE, 128 + signal.SIGPIPE)


class FileWrapper:
    """A file object to which attributes can be added."""

    def __init__(self, file_object: Any) -> None:
        self._subpipe = file_object

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subpipe, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: Any) -> Any:
        return self._subpipe.__exit__(*args)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._subpipe)


class InputPipeProcessWrapper(io.RawIOBase):
    """What `command` makes of the content of `input_pipe`. `command` may also be a process with a pipe for stdout."""

    def __init__(self, command: Sequence[str] | subprocess.Popen[bytes], input_pipe: Any = None) -> None:
        self._input = input_pipe
        if isinstance(command, subprocess.Popen):
            self._process = command
        else:
            with _with_descriptor(input_pipe) as source:
                self._process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE)
        assert self._process.stdout is not None  # made with a pipe
        self._stdout: IO[bytes] = self._process.stdout

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stdout.fileno()

    def readinto(self, buffer: Any) -> int:
        data = self._stdout.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Ends the program; RuntimeError if it ended badly by itself."""
        if self.closed:
            return
        super().close()
        self._stdout.close()
        if self._input is not None:
            self._input.close()
        status = self._process.wait()
        if status not in _ENDED_WELL:
            raise RuntimeError(f"Error reading from pipe. Subcommand exited with non-zero exit status {status}.")

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self.close()
        except RuntimeError:
            if kind is None:  # else what is under way already says more
                raise


class OutputPipeProcessWrapper(io.BufferedIOBase):
    """What is written goes to `command`, and what that makes of it to `output_pipe`, which has a descriptor."""

    def __init__(self, command: Sequence[str], output_pipe: Any = None) -> None:
        self._command = command
        self._output = output_pipe
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output_pipe)
        assert self._process.stdin is not None  # made with a pipe
        self._stdin: IO[bytes] = self._process.stdin

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stdin.write(data)
        return memoryview(data).nbytes

    def writeLine(self, line: str) -> None:
        """Writes a text and a line feed."""
        self.write(f"{line}\n".encode())

    def close(self) -> None:
        """Lets the program end, then publishes; RuntimeError if it ended badly."""
        if self.closed:
            return
        super().close()
        try:
            self._stdin.close()
            if self._process.wait() != 0:
                raise RuntimeError(f"Error when executing command {self._command}")
        except BaseException:
            self._discard()
            raise
        if self._output is not None:
            self._output.close()

    def abort(self) -> None:
        """Kills the program and publishes nothing."""
        if not self.closed:
            super().close()
            self._discard()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if hasattr(self, "_stdin"):  # there was such a program
            self.abort()

    def _discard(self) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):  # what the program did not take is not wanted any more
            self._stdin.close()
        self._process.wait()
        if self._output is not None:
            self._output.abort()


@contextmanager
def _with_descriptor(pipe: Any) -> Iterator[Any]:
    """`pipe`, or what is in it as a temporary file: a program can only read from something with a descriptor."""
    try:
        if pipe is not None:
            pipe.fileno()
    except (AttributeError, io.UnsupportedOperation):
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(pipe, copy)
            copy.seek(0)
            yield copy
    else:
        yield pipe
