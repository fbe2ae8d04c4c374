"""What the jobs of these tests do. Runs in a worker, in a box; the payload says with what."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jubako.boxes import inside
from jubako.errors import WorkError

state: dict[str, Any] = {"loaded with": b"", "count": 0}


def load(argument: bytes) -> None:
    state["loaded with"] = argument


def load_with_thread(argument: bytes) -> None:
    load(argument)
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def load_with_open_file(argument: bytes) -> None:
    load(argument)
    globals()["log"] = open("import.log", "w")  # noqa: SIM115


def load_with_odd_streams(argument: bytes) -> None:
    """A stream with nothing but what `print` needs, and one that fails."""

    class Odd:
        def write(self, text: str) -> int:
            raise OSError("no room")

        def flush(self) -> None:
            raise OSError("no room")

    load(argument)
    sys.stdout = Odd()  # type: ignore[assignment]


def load_with_hook_after_fork(argument: bytes) -> None:
    """As libraries do that report what a process did when it ends."""
    load(argument)
    os.register_at_fork(after_in_child=lambda: atexit.register(report_at_exit))


def report_at_exit() -> None:
    Path("jubako-report").write_text(f"{state['count']}\n")  # in the working directory


def load_badly(argument: bytes) -> None:
    raise ValueError("a typo in the pipeline")


def nothing(payload: bytes) -> None:
    pass


def return_number(payload: bytes) -> int:
    return 10**12


def say_loaded(payload: bytes) -> bytes:
    return state["loaded with"]


def count(payload: bytes) -> bytes:
    state["count"] += 1
    return str(state["count"]).encode()


def shell(payload: bytes) -> bytes:
    """What a shell script prints; it need not succeed."""
    return subprocess.run(
        ["/bin/sh", "-c", payload], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    ).stdout


def python(payload: bytes) -> bytes:
    """Runs Python text; what it leaves in `answer`."""
    names: dict[str, Any] = {"inside": inside, "os": os, "Path": Path}
    exec(payload, names)
    return str(names.get("answer", "")).encode()


def write(payload: bytes) -> None:
    """Writes files by their names: a JSON object of path and text."""
    for path, text in json.loads(payload).items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_text(text)


def write_staged(payload: bytes) -> None:
    """The same through staged paths."""
    for path, text in json.loads(payload).items():
        staged = inside.staged_path(path)
        assert staged is not None
        Path(staged).write_text(text)
        inside.expose(path)


def write_and_fail(payload: bytes) -> None:
    write(payload)
    raise WorkError("half-way", hint="look at it")


def accept(payload: bytes) -> bool:
    return True


def reject(payload: bytes) -> bool:
    return False


def check_frozen(payload: bytes) -> None:
    """Fails if the outputs do not read as written, or anything of the result can still be changed."""
    for path, text in json.loads(payload).items():
        assert Path(path).read_text() == text, path
        for name in (path, path + ".new"):
            with contextlib.suppress(OSError):
                Path(name).write_text("changed")
                raise AssertionError(f"{name} can still be written")
    Path(os.environ["TMPDIR"], "scratch").write_text("a check may compute")


def check_memory(payload: bytes) -> None:
    assert state["count"] == 0, "the check shares memory with the call"


def check_files_are_fifty(payload: bytes) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (50, 50)


def say_and_wait(payload: bytes) -> None:
    inside.send(b"here")
    signal.pause()


def ignore_terminate(payload: bytes) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say_and_wait(payload)


def sleep(payload: bytes) -> None:
    time.sleep(60)


def leave_daemon(payload: bytes) -> None:
    """Leaves a process in a session of its own that holds the output open and goes on writing."""
    path = payload.decode()
    with open(path, "a") as output:
        output.write("done\n")
        output.flush()
        ready_read, ready_write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.write(ready_write, b".")
                while True:
                    output.write("later\n")
                    output.flush()
            os._exit(0)
        os.read(ready_read, 1)


def leave_zombies(payload: bytes) -> None:
    """Leaves orphans that have ended, and one that has not."""
    for _ in range(5):
        if os.fork() == 0:
            os._exit(0)
    if os.fork() == 0:
        signal.pause()
    for _ in range(5):
        if os.fork() == 0:
            os._exit(0)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


def fork_bomb(payload: bytes) -> None:
    """Forks until it may no more, and ends first."""
    import resource

    resource.setrlimit(resource.RLIMIT_NPROC, (200, 200))
    for _ in range(100):
        try:
            if os.fork() == 0:
                signal.pause()
        except OSError:
            break


def flood(payload: bytes) -> None:
    os.write(1, b"x" * int(payload))


def close_everything(payload: bytes) -> None:
    os.closerange(0, 1000)


def list_processes(payload: bytes) -> bytes:
    """How many processes there are to be seen."""
    return str(len([name for name in os.listdir("/proc") if name.isdecimal()])).encode()


def write_nonsense(payload: bytes) -> None:
    """Writes to every descriptor it finds, the line to the foreman among them."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.write(int(name), payload * 20)
    os._exit(0)


def leave_at_once(payload: bytes) -> None:
    os._exit(int(payload))


def kill_itself(payload: bytes) -> None:
    os.kill(os.getpid(), int(payload))


def leave_politely(payload: bytes) -> None:
    sys.exit(json.loads(payload))


def kill_all_others(payload: bytes) -> bytes:
    """Tries to end what it may not: pid 1, its parent, everything."""
    for pid in (1, os.getppid()):
        os.kill(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGINT)
    return b"still here"


def try_calls(payload: bytes) -> bytes:
    """What the kernel answers to what a task has no business doing: name and error number."""
    libc = ctypes.CDLL(None, use_errno=True)
    tries = {
        "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "umount": lambda: libc.umount2(b"/run/jubako", 2),
        "unshare user": lambda: libc.unshare(0x10000000),
        "unshare mount": lambda: libc.unshare(0x00020000),
        "setns": lambda: libc.setns(os.open("/proc/self/ns/mnt", os.O_RDONLY), 0),
        "ptrace": lambda: libc.ptrace(16, 1, None, None),
        "chroot": lambda: libc.chroot(b"/tmp"),
    }
    answers = {}
    for name, attempt in tries.items():
        ctypes.set_errno(0)
        answers[name] = 0 if attempt() == 0 else ctypes.get_errno()
    return json.dumps(answers).encode()


def connect(payload: bytes) -> bytes:
    """How connecting to a Unix socket ends."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(payload.decode())
        except OSError as error:
            return type(error).__name__.encode()
    return b"connected"


def connect_to_port(payload: bytes) -> bytes:
    """How connecting to a port on loopback ends, and whether loopback works at all."""
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
    try:
        socket.create_connection(("127.0.0.1", int(payload))).close()
    except OSError as error:
        return type(error).__name__.encode()
    return b"connected"


def leave_database_open(payload: bytes) -> None:
    import sqlite3

    connection = sqlite3.connect(payload.decode())
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table t (x)")
    connection.execute("insert into t values (1)")
    connection.commit()
    globals()["kept"] = connection


def use_threads(payload: bytes) -> None:
    """Ends while a thread of its own still writes."""

    def finish() -> None:
        time.sleep(0.05)
        Path(payload.decode()).write_text("by a thread")

    threading.Thread(target=finish).start()


def send_many(payload: bytes) -> None:
    for number in range(int(payload)):
        inside.send(str(number).encode())
