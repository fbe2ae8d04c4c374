"""The life of a forked child: from the fork in the zygote to `os._exit`. It runs one function of the pipeline.

Forked ahead, it waits for its command: a packet with three descriptors, the mount namespace of its view, a line to the
foreman, and a pipe for what it prints. It enters the view while that is still being made, and says so where the foreman
wants to know. What it is to do comes down the line when the view is ready; then it gives up the zygote's capabilities,
before any code of the pipeline runs.

It answers in frames (`inside.write_frame`) on the line: messages while it runs, then one report or one failure. A
failure is JSON and not a pickle: the foreman, which has capabilities, must not load what a task has made.

Every page a child is the first to write is copied, and every page of a library it is the first to use is looked up,
which together are most of what a fork costs. So there is little code here, and what can be is done before the wait: a
rehearsal, which takes the pages that obeying will take (a fifth of the time of a small job, off the way of who waits).
"""

from __future__ import annotations

import _thread
import atexit
import importlib
import json
import marshal
import os
import select
import socket
import struct
import sys
import threading
import traceback

from jubako.boxes import inside
from jubako.boxes.workers.explain import explain_failure
from jubako.kernel.capabilities import capability_number, drop_all_capabilities, drop_capabilities
from jubako.kernel.landlock import scope_abstract_sockets
from jubako.kernel.namespaces import CLONE_NEWNET, CLONE_NEWNS, setns, unshare
from jubako.kernel.process import set_process_name
from jubako.kernel.seccomp import default_filter, install_filter
from jubako.records import as_dict, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, Final, NoReturn

__all__ = [
    "AWAITED",
    "COMMAND_BYTES",
    "FAILURE",
    "REJECTED",
    "REPORT",
    "UNAWAITED",
    "Call",
    "Nursery",
    "format_call",
    "load_function",
    "run_child",
]

REPORT: Final = b"R"  # the bytes the function returned
FAILURE: Final = b"F"  # JSON: {"error": sentence, "traceback": text}
REJECTED: Final = b"N"  # a check returned something false

# The command's one byte: whether the foreman waits for the child to say, by a byte on the line, that it is there.
AWAITED: Final = b"?"
UNAWAITED: Final = b"."

_STATUS_OF_FAILURE = 1
_TEXT_LIMIT = 1 << 20
_LEFT_OVER_BYTES = 64 << 10
_MAX_FD = 0x7FFFFFFF
_LENGTH = struct.Struct("<Q")
_DESCRIPTORS = struct.Struct("3i")
COMMAND_BYTES = socket.CMSG_SPACE(_DESCRIPTORS.size)  # of ancillary data
_READ_BYTES = 1 << 13  # a bigger buffer would be mapped anew and unmapped again


@record
class Nursery:
    """What every child of one zygote starts with."""

    commands: socket.socket
    taken_fd: int  # written to when the command is about to be taken
    null_fd: int
    kept_fds: tuple[int, ...]  # what importing the pipeline opened, sorted
    preload: str = ""  # called first, in a worker that does not import the pipeline itself
    preload_argument: bytes = b""


@record
class Call:
    """What a child is to do. Plain values, so that it can be marshalled; `_obey` names them in the same order."""

    function: str  # "module:function"
    payload: bytes
    cwd: str
    staged: dict[str, str]  # declared path: staged path, as the child names them
    directories: frozenset[str]  # those of the declared paths that show their staging directory already
    writable: tuple[str, ...]  # directories it may write below, for error texts
    umask: int
    environment: dict[str, str] | None = None  # None: the zygote's
    capabilities: tuple[str, ...] = ()
    network: bool = True
    abstract_sockets: bool = False
    is_check: bool = False


def format_call(call: Call) -> bytes:
    """`call` as it goes down the line: a length, and what `marshal` makes of it (two runs of one interpreter)."""
    data = marshal.dumps(tuple(as_dict(call).values()))
    return _LENGTH.pack(len(data)) + data


def run_child(nursery: Nursery) -> NoReturn:
    """Waits for a command in this freshly forked process, obeys it and exits."""
    status = _STATUS_OF_FAILURE
    try:
        os.setsid()
        set_process_name("jubako-task")  # also copies, before the wait, the pages that a system call by name takes
        _rehearse(nursery)
        # Said before it is done: whoever is killed in between has the command, and a child that has said nothing has
        # not. The zygote does away with a command whose child could not take it any more.
        select.select([nursery.commands], [], [])
        os.write(nursery.taken_fd, b".")
        command, ancillary, _, _ = nursery.commands.recvmsg(1, COMMAND_BYTES)
        if ancillary:
            namespace_fd, line_fd, output_fd = _DESCRIPTORS.unpack(ancillary[0][2])
            _move_in(nursery, namespace_fd, line_fd, output_fd)
            if command == AWAITED:
                os.write(line_fd, b".")
            data = os.read(line_fd, _READ_BYTES)
            if data:
                status = _obey(line_fd, nursery, *marshal.loads(_read_rest(line_fd, data)))
    finally:
        os._exit(status)


def nothing(payload: bytes) -> bytes:
    """What the rehearsal calls: a look for an output, and a file written, as most tasks do."""
    inside.staged_path("/")
    with open("/dev/null", "wb") as file:
        file.write(payload)
    return payload


def _rehearse(nursery: Nursery) -> None:
    """Obeys a call that comes to nothing, in the zygote's own view, as far as no code but our own is run by it.

    Rights are not given up yet, so neither exit handlers nor streams of the pipeline's may be touched.
    """
    call = Call(f"{__name__}:nothing", b"", "/", {}, frozenset(), (), 0o777)
    try:
        function, payload, cwd, staged, directories, _, umask, *_ = marshal.loads(_read_rest(-1, format_call(call)))
        os.umask(umask)
        os.chdir(cwd)
        inside.activate(staged, directories, nursery.null_fd)
        inside.write_frame(nursery.null_fd, REPORT, load_function(function)(payload))
    except Exception:  # noqa: BLE001  this only warms up; what is wrong will show when it counts
        return


def _obey(
    line_fd: int,
    nursery: Nursery,
    function: str,
    payload: bytes,
    cwd: str,
    staged: dict[str, str],
    directories: frozenset[str],
    writable: tuple[str, ...],
    umask: int,
    environment: dict[str, str] | None,
    capabilities: tuple[str, ...],
    network: bool,
    abstract_sockets: bool,
    is_check: bool,
) -> int:
    """Does what the call says; the status to exit with. Its parts are arguments: making a record takes more pages."""
    try:
        os.umask(umask)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
        _give_up_rights(capabilities, network, abstract_sockets)
        os.chdir(cwd)
        inside.activate(staged, directories, line_fd)
        # `random` gives itself a new seed after a fork; numpy's old interface does not.
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()
        if nursery.preload:
            load_function(nursery.preload)(nursery.preload_argument)
        result = load_function(function)(payload)
        _finish()
        if is_check:
            accepted = result is None or isinstance(result, bytes) or bool(result)
            inside.write_frame(line_fd, REPORT if accepted else REJECTED, b"")
        elif result is None or isinstance(result, bytes):
            inside.write_frame(line_fd, REPORT, result or b"")
        else:
            raise TypeError(f"{function} returned {type(result).__name__}, not bytes")
    except SystemExit as error:
        _flush()
        status = _status_of(error)
        kind, data = (FAILURE, _describe(error, writable, staged)) if status else (REPORT, b"")
        inside.write_frame(line_fd, kind, data)
        return status
    except BaseException as error:  # noqa: BLE001  the fork boundary: nothing may unwind into the zygote's frames
        inside.write_frame(line_fd, FAILURE, _describe(error, writable, staged))
        _flush()
        return _STATUS_OF_FAILURE
    return 0


def load_function(name: str) -> Any:
    """The function that "module:function" names; ImportError or AttributeError if there is none."""
    module, _, attribute = name.partition(":")
    found: Any = sys.modules.get(module)
    if found is None:
        found = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _move_in(nursery: Nursery, namespace_fd: int, line_fd: int, output_fd: int) -> None:
    """Enters the view, with the descriptors a task has. What is mounted there until the call comes shows up in it."""
    setns(namespace_fd, CLONE_NEWNS)
    os.dup2(nursery.null_fd, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    low = 3
    for fd in sorted((line_fd, *nursery.kept_fds)):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _MAX_FD)


def _give_up_rights(capabilities: tuple[str, ...], network: bool, abstract_sockets: bool) -> None:
    """Drops what the zygote holds but for what the box keeps. Its filter is inherited, its bounding set empty."""
    if not abstract_sockets:
        scope_abstract_sockets()
    if not network:
        # Imported here: fcntl would be in every zygote, and this is asked for by few.
        from jubako.boxes.views.loopback import bring_loopback_up

        unshare(CLONE_NEWNET)
        bring_loopback_up()
    if capabilities:
        drop_capabilities([capability_number(name) for name in capabilities], bounding=False)
        install_filter(default_filter())  # without any, the kernel refuses what the zygote's filter leaves open
    else:
        drop_all_capabilities()


def _finish() -> None:
    """What the end of an interpreter would do: wait for threads, run exit handlers, flush."""
    if _thread._count():
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    atexit._run_exitfuncs()
    _flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not getattr(stream, "closed", False):  # a pipeline may have put anything there
            stream.flush()


def _read_rest(line_fd: int, data: bytes) -> bytes:
    """What the foreman marshalled, of which `data` is the beginning, a length first."""
    size = _LENGTH.size
    while len(data) < size:
        data += os.read(line_fd, size)
    (length,) = _LENGTH.unpack_from(data)
    if len(data) < size + length:
        rest = bytearray(data)
        while len(rest) < size + length:
            rest += os.read(line_fd, _READ_BYTES)
        data = bytes(rest)
    return data[size:]


def _describe(error: BaseException, writable: Sequence[str], staged: Mapping[str, str]) -> bytes:
    text = "".join(traceback.format_exception(type(error), error, _without_own_frames(error.__traceback__)))
    return json.dumps(
        {"error": explain_failure(error, writable, staged, _is_full)[:_TEXT_LIMIT], "traceback": text[-_TEXT_LIMIT:]}
    ).encode()


def _is_full(path: str) -> bool:
    """True if next to nothing can be written at `path` any more; what a write did not fill may be left over."""
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize < _LEFT_OVER_BYTES or bool(space.f_files and not space.f_favail)


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
