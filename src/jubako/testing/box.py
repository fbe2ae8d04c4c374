"""What the pytest fixture `box` is: one box for a test, with what its commands printed and what was changed at hand."""

from __future__ import annotations

import os
import tempfile
import warnings

from jubako.boxes.commands.session import BoxSession
from jubako.boxes.nesting import refuse_nesting
from jubako.errors import HostError
from jubako.kernel.probe import probe_can_box
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO, ParamSpec, Self, TypeVar

    from jubako.boxes.spec import Box
    from jubako.layers.change import Change

    Arguments = ParamSpec("Arguments")
    Result = TypeVar("Result")

__all__ = ["FixtureBox", "FixtureRun", "HostError", "open_fixture_box"]


@record
class FixtureRun:
    """A command that has ended: its status as a shell shows it, and what it printed."""

    exit_status: int
    output: str
    errors: str
    notes: tuple[str, ...] = ()  # what this machine did not allow, in words


class FixtureBox:
    """A box for one test. Commands and functions see what those before them did; the machine sees nothing of it."""

    def __init__(self, session: BoxSession) -> None:
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._session.close()

    @property
    def id(self) -> str:
        """What JUBAKO_BOX says inside."""
        return self._session.id

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that was changed so far, sorted by path."""
        return self._session.changes

    @property
    def changed(self) -> dict[str, str]:
        """The same by absolute path: "added", "modified", "metadata", "replaced" or "deleted"."""
        return {change.path: change.kind for change in self.changes}

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        input: str = "",
    ) -> FixtureRun:
        """Runs `argv` in the box, with `input` on its stdin. A command that fails is no error: look at `exit_status`.

        126 and 127 are those of a shell, for what cannot be executed or found; `errors` says so.
        """
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(input.encode())
            given.seek(0)
            with _forks_allowed():
                ended = self._session.run(
                    argv,
                    cwd=None if cwd is None else os.fspath(cwd),
                    environment=environment,
                    stdio=(given.fileno(), out.fileno(), err.fileno()),
                )
            return FixtureRun(ended.exit_status, _read(out), _read(err) + ended.error, ended.notes)

    def call(self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Calls `function` in the box; what it returned, or raises what it raised.

        It runs in a fork of this process, and its result is pickled: what it changes in memory is lost.
        """
        with _forks_allowed():
            return self._session.call(function, *args, **kwargs)


def open_fixture_box(box: Box | None = None) -> FixtureBox:
    """A box at the current working directory. HostError, with the cure, where boxes cannot be made."""
    refuse_nesting()
    with _forks_allowed():
        ability = probe_can_box()
    if not ability.works:
        raise HostError(ability.reason, hint=ability.cure)
    return FixtureBox(BoxSession() if box is None else BoxSession(box))


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _forks_allowed(warnings.catch_warnings):
    """Python warns of forks in a process with threads, as pytest-xdist's workers are: what is forked here either
    executes something, or is the test's own function."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
