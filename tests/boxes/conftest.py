"""A desk for tests that start real boxes: a user (root, and an ordinary one) with a home directory and a state root."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from jubako.boxes.commands.launch import WHOLE_HOST, run_in_box
from jubako.boxes.commands.result import BoxResult
from jubako.boxes.spec import Box
from jubako.boxes.state import StateRoot, open_state_root
from jubako.layers.remove import remove_tree

Result = TypeVar("Result")


class Runner(Protocol):
    def __call__(self, function: Callable[[], Result], /) -> Result: ...


@dataclass(frozen=True)
class Seen:
    """A box that has ended, as values: what it printed, and its changes relative to the home directory."""

    status: int
    output: str
    changes: dict[str, str]
    notes: tuple[str, ...]
    error: str


@dataclass(frozen=True)
class Desk:
    """`do` calls a function as the user, at home; what it starts with `run` or `seen` is a box."""

    home: Path
    state_path: Path
    in_child: Runner

    def do(self, function: Callable[[], Result]) -> Result:
        def at_home() -> Result:
            os.environ["HOME"] = str(self.home)
            os.chdir(self.home)
            return function()

        return self.in_child(at_home)

    @property
    def state(self) -> StateRoot:
        return open_state_root(str(self.state_path))

    def run(self, script: str | Sequence[str], box: Box = WHOLE_HOST, **options: Any) -> BoxResult:
        """The result of a shell script, or of a program with arguments, run in a box; what it prints is dropped."""
        argv = ["/bin/sh", "-c", script] if isinstance(script, str) else script
        null = os.open(os.devnull, os.O_RDWR)
        try:
            return run_in_box(argv, box, state=self.state, **{"stdio": (null, null, null)} | options)
        finally:
            os.close(null)

    def see(self, script: str | Sequence[str], box: Box = WHOLE_HOST, **options: Any) -> Seen:
        """As `run`, as this user at home, with all the box said and did; the box itself is dropped."""

        def there() -> Seen:
            with tempfile.TemporaryFile() as output, open(os.devnull) as null:
                stdio = (null.fileno(), output.fileno(), output.fileno())
                with self.run(script, box, stdio=stdio, **options) as result:
                    output.seek(0)
                    text = os.fsdecode(output.read())
                    return Seen(result.exit_status, text, self.relative(result), result.notes, result.error)

        return self.do(there)

    def relative(self, result: BoxResult) -> dict[str, str]:
        """The kinds of the changes below the home directory, by path from there."""
        prefix = f"{os.path.realpath(self.home)}/"
        return {c.path.removeprefix(prefix): c.kind for c in result.changes if c.path.startswith(prefix)}

    def boxes(self) -> list[str]:
        """What is left in the state root's folder of boxes."""
        return self.do(lambda: os.listdir(self.state.boxes_path))


@pytest.fixture
def desk(in_user_child: Runner) -> Iterator[Desk]:
    top = Path(tempfile.mkdtemp(prefix="jubako-desk-", dir="/var/tmp"))
    top.chmod(0o777)
    try:
        in_user_child(lambda: [(top / name).mkdir() for name in ("home", "state")])
        yield Desk(top / "home", top / "state", in_user_child)
    finally:
        remove_tree(str(top))
