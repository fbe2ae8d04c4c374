"""Tasks that run one program: its arguments and environment are methods, its output is logged when it has ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final, Literal, Self

from jubako.flow.parameters import BoolParameter, ChoiceParameter, OptionalParameter, ParameterVisibility
from jubako.flow.tasks.task import Task
from jubako.luigi.log import logger

__all__ = [
    "ExternalProgramRunContext",
    "ExternalProgramRunError",
    "ExternalProgramTask",
    "ExternalPythonProgramTask",
]

_LAST_LINES_S: Final = 1.0  # how long lines are still read when the program has ended but something holds its pipe


class ExternalProgramTask(Task):
    """A task whose `run()` runs `program_args()`; a status other than 0 is a failure.

    With `stream_for_searching_tracking_url` the first group of `tracking_url_pattern` that a line of that stream has
    becomes the task's tracking URL while it runs.
    """

    capture_output = BoolParameter(default=True, significant=False, positional=False)
    stream_for_searching_tracking_url = ChoiceParameter(
        default="none",
        choices=["none", "stdout", "stderr"],
        significant=False,
        positional=False,
        visibility=ParameterVisibility.HIDDEN,
        description="where a URL to follow the program is looked for",
    )
    tracking_url_pattern = OptionalParameter(
        default=None,
        significant=False,
        positional=False,
        visibility=ParameterVisibility.HIDDEN,
        description="regular expression whose first group is that URL",
    )

    def program_args(self) -> Sequence[Any]:
        """The program and its arguments; to be overridden."""
        raise NotImplementedError

    def program_environment(self) -> dict[str, str]:
        """The program's whole environment."""
        return dict(os.environ)

    @property
    def always_log_stderr(self) -> bool:
        """Whether stderr is logged although the program has succeeded."""
        return True

    def build_tracking_url(self, logs_output: str) -> str:
        """The URL, from what the pattern has found."""
        return logs_output

    def run(self) -> None:
        arguments = [str(word) for word in self.program_args()]
        logger.info("Running command: %s", " ".join(arguments))
        environment = self.program_environment()
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            kept: dict[str, Any] = {"stdout": stdout, "stderr": stderr} if self.capture_output else {}
            status = self._run_program(arguments, environment, kept)
            out, err = (_read(stdout), _read(stderr)) if self.capture_output else (None, None)
        if out:
            logger.info("Program stdout:\n%s", out)
        if err and (self.always_log_stderr or status != 0):
            logger.info("Program stderr:\n%s", err)
        if status != 0:
            raise ExternalProgramRunError(
                f"Program failed with return code={status}:", arguments, env=environment, stdout=out, stderr=err
            )

    def _run_program(self, arguments: Sequence[str], environment: Mapping[str, str], streams: dict[str, Any]) -> int:
        watched = self.stream_for_searching_tracking_url
        if watched == "none" or self.tracking_url_pattern is None:
            process = subprocess.Popen(arguments, env=environment, **streams)
            with ExternalProgramRunContext(process):
                return process.wait()
        process = subprocess.Popen(arguments, env=environment, **{**streams, watched: subprocess.PIPE})
        pipe = process.stdout if watched == "stdout" else process.stderr
        assert pipe is not None  # asked for just now
        pattern = re.compile(self.tracking_url_pattern)
        reader = threading.Thread(target=self._watch, args=(pipe, streams.get(watched), pattern), daemon=True)
        reader.start()
        with ExternalProgramRunContext(process):
            status = process.wait()
        reader.join(_LAST_LINES_S)
        return status

    def _watch(self, pipe: IO[bytes], copy: IO[bytes] | None, pattern: re.Pattern[str]) -> None:
        """Passes lines on until there are no more, and looks for the URL in each."""
        with pipe:
            for line in pipe:
                if copy is not None:
                    copy.write(line)
                match = pattern.search(line.decode(errors="replace"))
                if match is not None and self.set_tracking_url is not None:
                    self.set_tracking_url(self.build_tracking_url(match[1]))


class ExternalPythonProgramTask(ExternalProgramTask):
    """A Python program, in a virtual environment and with more to import where these are given."""

    virtualenv = OptionalParameter(default=None, positional=False, description="folder of the virtual environment")
    extra_pythonpath = OptionalParameter(default=None, positional=False, description="put in front of PYTHONPATH")

    def program_environment(self) -> dict[str, str]:
        environment = super().program_environment()
        if self.extra_pythonpath:
            environment["PYTHONPATH"] = f"{self.extra_pythonpath}:{environment.get('PYTHONPATH', '')}"
        if self.virtualenv:
            environment["PATH"] = f"{self.virtualenv}/bin:{environment.get('PATH', '')}"
            environment["VIRTUAL_ENV"] = self.virtualenv
            environment.pop("PYTHONHOME", None)
        return environment


class ExternalProgramRunContext:
    """While the block runs, SIGTERM and Ctrl-C end the process too."""

    def __init__(self, proc: subprocess.Popen[Any]) -> None:
        self.proc = proc

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self.kill_job)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> Literal[False]:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill_job()
        signal.signal(signal.SIGTERM, self._before)
        return False

    def kill_job(self, captured_signal: int | None = None, stack_frame: object = None) -> None:
        """Kills the process; after a signal, ends this one as the signal would."""
        self.proc.kill()
        if captured_signal is not None:
            sys.exit(128 + captured_signal)


class ExternalProgramRunError(RuntimeError):
    """The program's status was not 0. The text has what it printed, but no environment: there are secrets in such."""

    def __init__(
        self,
        message: str,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdout: str | None = None,
        stderr: str | None = None,
    ) -> None:
        super().__init__(message, args, env, stdout, stderr)
        self.message = message
        self.args = tuple(args)
        self.env = env
        self.out = stdout
        self.err = stderr

    def __str__(self) -> str:
        return (
            f"{self.message}\nCOMMAND: {' '.join(self.args)}"
            f"\nSTDOUT: {self.out or '[empty]'}\nSTDERR: {self.err or '[empty]'}"
        )


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
