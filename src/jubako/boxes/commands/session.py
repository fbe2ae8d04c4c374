"""One box for several commands and functions, one after another: each finds what those before it did.

    with BoxSession() as box:
        box.run(["make", "install"])
        assert box.call(os.path.exists, "/usr/local/bin/x")
        print(box.changes)

Between them nothing of the box runs or is mounted; what they wrote is in its directory, and becomes the top of the
next one's view again. At the end all of it is dropped.

A function is called in a fork of this process, so it may be any, and sees this process's memory as it is; what it
returns or raises comes back pickled. What it changes in memory is lost, and open files do not come along.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import time

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.launch import run_in, take_secrets
from jubako.boxes.commands.make import make_new_box, read_box_facts
from jubako.boxes.commands.relay import RELAYED
from jubako.boxes.commands.shortage import explained
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.nesting import MARK, refuse_nesting
from jubako.boxes.profiles import get_profile
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import default_state_root
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.errors import InputError, WorkError
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import ParamSpec, Self, TypeVar

    from jubako.boxes.commands.supervise import Ended
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot
    from jubako.layers.change import Change

    Arguments = ParamSpec("Arguments")
    Result = TypeVar("Result")

__all__ = ["BoxSession"]


class BoxSession:
    """A box on this whole machine. Not for two threads at once. `cwd` and `environment` are what is copy-on-write for
    an ordinary user, and where commands start; both are this process's by default.

    Raises HostError where boxes cannot be made, at the latest when the first command is run.
    """

    def __init__(
        self,
        box: Box = WHOLE_HOST,
        *,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        state: StateRoot | None = None,
    ) -> None:
        refuse_nesting()
        if box.network == "private":
            raise InputError(
                "a box for several commands cannot have a private network", hint="network='none', perhaps?"
            )
        if get_profile(box.profile).is_first or get_profile(box.profile).is_sealed:
            raise InputError(f"a box for several commands cannot be of profile {box.profile!r}")
        root = default_state_root() if state is None else state
        self._cwd = os.getcwd() if cwd is None else os.path.abspath(cwd)
        program = Program([""], self._cwd, dict(os.environ if environment is None else environment))
        box, program = take_secrets(box, program)
        self._environment = dict(program.environment)
        self._started_ns = time.time_ns()
        with explained("no box can be made"):
            self._new = make_new_box(box, root, read_box_facts(root, self._environment, self._cwd))
        self._copies = dict(self._new.copies)
        self._is_fresh = True
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def id(self) -> str:
        """What JUBAKO_BOX says inside."""
        return self._new.id

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that was changed in the box so far, against this machine as it is now."""
        self._require_open()
        with explained("what was changed in the box cannot be read"):
            drop_untouched_files(self._copies)
            self._copies.clear()  # made anew for the next command
            return read_box_changes(self._new.directory, self._new.describe(["session"], self._cwd, self._started_ns))

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
    ) -> Ended:
        """Runs `argv` in the box and waits for it; what it left running is killed."""
        if isinstance(argv, str) or not argv or not argv[0]:
            raise InputError(f"argv={argv!r} is no list of words", hint="For a shell's line: ['sh', '-c', LINE].")
        whole = self._environment if environment is None else dict(environment)
        if any("\0" in word for word in (*argv, *whole, *whole.values())):
            raise InputError("the command or its environment holds a null byte")
        return self._run(Program([*argv], self._where(cwd), whole | {MARK: self.id}, stdio))

    def call(self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Calls `function` in the box, in a fork of this process; what it returned, or raises what it raised.

        WorkError if its process ended before it returned, or what it returned or raised cannot be pickled.
        """
        handlers = {number: signal.getsignal(number) for number in RELAYED}
        answer = os.memfd_create("jubako-answer")  # not a pipe: nobody reads before the end

        def answer_in_box() -> int:
            for number, handler in handlers.items():
                if handler is not None:  # not Python's
                    signal.signal(number, handler)
            return _answer(answer, self.id, lambda: function(*args, **kwargs))

        try:
            program = Program(
                [_name_of(function)],
                self._where(None),
                {},
                function=answer_in_box,
                kept=(answer,),
            )
            ended = self._run(program)
            os.lseek(answer, 0, os.SEEK_SET)
            with os.fdopen(answer, "rb", closefd=False) as file:
                raw = file.read()
        finally:
            os.close(answer)
        if not raw:
            raise WorkError(
                f"{_name_of(function)} ended its process, with status {ended.exit_status}, before it returned"
            )
        worked, value, traceback_text = pickle.loads(raw)
        if worked:
            result: Result = value
            return result
        if isinstance(value, BaseException):
            value.add_note(f"In box {self.id}:\n{traceback_text}")
            raise value
        raise WorkError(f"{_name_of(function)}: {value}\n{traceback_text}".rstrip())

    def close(self) -> None:
        """Drops the box and all that is in it. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._new.drop()

    def _run(self, program: Program) -> Ended:
        self._require_open()
        with explained("the box cannot be started"):
            if not self._is_fresh:
                self._copies |= self._new.view.prepare_again(self._new.plan)
            self._is_fresh = False
            return run_in(self._new, program)

    def _where(self, cwd: str | None) -> str:
        return self._cwd if cwd is None else os.path.abspath(cwd)

    def _require_open(self) -> None:
        if not self._is_open:
            raise InputError(f"box {self.id} is closed: what was in it is gone")


def _answer(fd: int, box_id: str, call: Callable[[], object]) -> int:
    """In the box: writes to `fd` what `call` returned or raised, pickled."""
    # What stood for the descriptors may have held others, which are closed now (pytest captures output so).
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", "replace"))
    os.environ[MARK] = box_id
    try:
        value = call()
    except BaseException as error:  # noqa: BLE001  the fork boundary
        answer = _pickle_error(error)
    else:
        answer = _pickle_value(value)
    while answer:
        answer = answer[os.write(fd, answer) :]
    return 0


def _pickle_value(value: object) -> bytes:
    try:
        return pickle.dumps((True, value, ""))
    except Exception as error:  # noqa: BLE001  a user's class may raise anything there
        return pickle.dumps((False, f"what it returned cannot be pickled: {error}", ""))


def _pickle_error(error: BaseException) -> bytes:
    import traceback  # 3 ms to import, for what went wrong alone

    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        raw = pickle.dumps((False, error, text))
        pickle.loads(raw)  # many an exception can be pickled and not made again
    except Exception:  # noqa: BLE001  as above
        return pickle.dumps((False, f"{type(error).__qualname__}, which cannot be pickled", text))
    return raw


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", function))
