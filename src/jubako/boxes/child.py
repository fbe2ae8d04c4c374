"""The life of a forked child: from the fork in the zygote to `os._exit`. It runs one function of the pipeline.

It starts in the job's mount namespace with the zygote's memory, descriptors and capabilities, and gives up the last two
before any code of the pipeline runs. Nothing here uses ctypes but giving up capabilities: every page a child touches
for the first time is copied, which is most of what a fork costs.

It answers in frames (`inside.write_frame`) on one pipe: messages while it runs, then one report or one failure.
A failure is JSON and not a pickle: the zygote, which has capabilities, must not load what a task has made.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from jubako.boxes import inside
from jubako.boxes.explain import explain_failure
from jubako.kernel.capabilities import capability_number, drop_capabilities
from jubako.kernel.namespaces import CLONE_NEWNET, unshare
from jubako.kernel.seccomp import default_filter, install_filter

__all__ = ["FAILURE", "REJECTED", "REPORT", "Call", "load_function", "run_child"]

REPORT = b"R"  # the bytes the function returned
FAILURE = b"F"  # JSON: {"error": sentence, "traceback": text}
REJECTED = b"N"  # a check returned something false

_STATUS_OF_FAILURE = 1
_TEXT_LIMIT = 1 << 20
_MAX_FD = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Call:
    """What a child is to do, and the descriptors it does it with."""

    function: str  # "module:function"
    payload: bytes
    cwd: str
    staged: Mapping[str, str]  # declared path: staged path, as the child names them
    writable: tuple[str, ...]  # directories it may write below, for error texts
    null_fd: int
    output_fd: int  # becomes stdout and stderr
    frames_fd: int
    kept_fds: tuple[int, ...] = ()  # what importing the pipeline opened, sorted
    umask: int = 0o022
    environment: Mapping[str, str] | None = None  # None: the zygote's
    capabilities: tuple[str, ...] = ()
    network: bool = True
    preload: str = ""  # called first, in a worker that does not import the pipeline itself
    preload_argument: bytes = b""
    is_check: bool = False


def run_child(call: Call) -> NoReturn:
    """Runs `call` in this freshly forked process and exits."""
    status = _STATUS_OF_FAILURE
    try:
        try:
            _settle(call)
            _run(call)
            status = 0
        except SystemExit as error:
            status = _status_of(error)
            _flush()
            if status == 0:
                inside.write_frame(call.frames_fd, REPORT, b"")
            else:
                inside.write_frame(call.frames_fd, FAILURE, _describe(error, call))
        except BaseException as error:  # noqa: BLE001  the fork boundary: nothing may unwind into the zygote's frames
            inside.write_frame(call.frames_fd, FAILURE, _describe(error, call))
            _flush()
    finally:
        os._exit(status)


def load_function(name: str) -> Any:
    """The function that "module:function" names; ImportError or AttributeError if there is none."""
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _settle(call: Call) -> None:
    """Makes this process a task's own: session, descriptors, environment, rights, working directory."""
    os.setsid()
    os.dup2(call.null_fd, 0)
    os.dup2(call.output_fd, 1)
    os.dup2(call.output_fd, 2)
    _close_others(call)
    os.umask(call.umask)
    if call.environment is not None:
        os.environ.clear()
        os.environ.update(call.environment)
    if not call.network:
        # Imported here: fcntl and socket would be in every zygote, and this is asked for by few.
        from jubako.boxes.loopback import bring_loopback_up

        unshare(CLONE_NEWNET)
        bring_loopback_up()
    # The zygote has emptied the bounding set and set no_new_privs; its filter refuses new user namespaces, and what
    # needs a capability the kernel refuses. A box that keeps some gets the whole deny list on top.
    drop_capabilities([capability_number(name) for name in call.capabilities], bounding=False)
    if call.capabilities:
        install_filter(default_filter())
    os.chdir(call.cwd)
    _reseed()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python sets it; the zygote must be deaf to it
    atexit._clear()  # what importing the pipeline registered is the zygote's
    inside.activate(call.staged, call.frames_fd)


def _run(call: Call) -> None:
    if call.preload:
        load_function(call.preload)(call.preload_argument)
    result = load_function(call.function)(call.payload)
    _finish()
    if call.is_check:
        accepted = result is None or isinstance(result, bytes) or bool(result)
        inside.write_frame(call.frames_fd, REPORT if accepted else REJECTED, b"")
    else:
        inside.write_frame(call.frames_fd, REPORT, bytes(result or b""))


def _finish() -> None:
    """What the end of an interpreter would do for the pipeline: wait for its threads, run its handlers, flush."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    _flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _close_others(call: Call) -> None:
    """Closes all descriptors but the standard three, the frames', and what importing the pipeline had opened."""
    low = 3
    for fd in sorted({call.frames_fd, *call.kept_fds}):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _MAX_FD)


def _reseed() -> None:
    """Gives this child random numbers of its own. `random` does so itself after a fork; numpy's old interface not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _describe(error: BaseException, call: Call) -> bytes:
    text = "".join(traceback.format_exception(type(error), error, _without_own_frames(error.__traceback__)))
    return json.dumps(
        {"error": explain_failure(error, call.writable)[:_TEXT_LIMIT], "traceback": text[-_TEXT_LIMIT:]}
    ).encode()


def _without_own_frames(found: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not this module's, or all of it if there is none."""
    inner = found
    while inner is not None and inner.tb_frame.f_code.co_filename == __file__:
        inner = inner.tb_next
    return inner or found


def _status_of(error: SystemExit) -> int:
    """The exit status that the interpreter would end with: a number, 0 for nothing, 1 for a text."""
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1
