"""What all tests share: children to try things in, what was there when the session started, and no skips in CI.

`in_child` runs a function in a forked child, because what it tries (a namespace, a dropped right, a filter) cannot be
taken back. `in_namespace` does the same inside a mount namespace of its own with an empty tmpfs as the working
directory; when the session belongs to root every test that asks for it runs twice, the second time as an ordinary user.

`bucket` is an empty bucket on a real S3 server, which is started when the first test asks for one.

`before` and `look_around` serve `tests/system/test_leaks.py`, which runs last and compares the two.

With JUBAKO_MUST_WORK=1 a skip is a failure: there the machine is known to have everything.

Thousands of interpreters are started, and this process is forked as often. So all of jubako is compiled first, and the
tests as they are collected, whatever PYTHONDONTWRITEBYTECODE says; and what is there before the first test is nothing
for a collector to look at, which in each child that collects would copy all of it.

Properties are tried with the same examples each time, so a change can't fail by what chance picks for it. `make soak`
lets chance pick, and many more.
"""

from __future__ import annotations

import compileall
import gc
import os
import pickle
import re
import signal
import sys
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import settings

import jubako
from jubako.boxes.commands.user_namespaces import find_identity_namespace
from jubako.flow.stores.store_connection import close_connections
from jubako.kernel import idmap, mounts, namespaces, process
from jubako.kernel.filesystems import SOURCE, tmpfs
from jubako.kernel.mount_table import Mount, read_mount_table
from s3_server import Bucket, S3Server

ORDINARY_UID = 54321  # needs no entry in /etc/passwd
USERS = ("root", "rootless") if os.geteuid() == 0 else ("rootless",)
PLAYGROUND = "/mnt"  # covered in the child's own mount namespace only
IMPORT = re.compile(r"^ *(?:from|import) ([\w.]+)(?: import .*|,.*| as .*| *#.*)?$", re.M)  # parsing takes 1.3 s more
MARK = "JUBAKO_TEST_SESSION"  # in the environment of every program the tests start
# What no child needs that has become an ordinary user, and what would make every fork slower: NumPy, torch.
LEFT_OUT = (
    *("jubako.__main__", "jubako.attention.", "jubako.cli.live"),
    *("jubako.verify.arrays", "jubako.verify.images", "jubako.verify.parquet", "jubako.verify.weight"),
)
DONT_WRITE_BYTECODE = sys.dont_write_bytecode

Result = TypeVar("Result")


settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("repeatable")

# A job that a shell starts in the background ignores Ctrl-C, and so would every program that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


sys.dont_write_bytecode = False  # until all tests are collected
compileall.compile_dir(jubako.__path__[0], quiet=1)  # pytest's way of compiling what it imports is its own


def _import_late_modules() -> None:
    """Imports now whatever jubako imports late: a child that has become an ordinary user may not read this Python."""
    for module in walk_packages(jubako.__path__, "jubako."):
        if not module.name.startswith(LEFT_OUT):
            import_module(module.name)
    for file in Path(jubako.__path__[0]).rglob("*.py"):
        for name in IMPORT.findall(file.read_text()):
            if name.partition(".")[0] in sys.stdlib_module_names:
                import_module(name)


_import_late_modules()


# --- no skips where all must work ------------------------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    report = (yield).get_result()
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report)


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, None]:
    _refuse_skip((yield).get_result())


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome == "skipped" and os.environ.get("JUBAKO_MUST_WORK") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped, and JUBAKO_MUST_WORK=1 forbids it: {reason}"


# --- children to try things in ---------------------------------------------------------------------------------------


class Runner(Protocol):
    """Runs a function in a child; gives back what it returned, or fails the test with the child's traceback."""

    def __call__(self, function: Callable[[], Result], /) -> Result: ...


@pytest.fixture
def in_child() -> Runner:
    return _run_in_child


@pytest.fixture(params=USERS)
def in_user_child(request: pytest.FixtureRequest) -> Runner:
    """As `in_child`, once as root (where the session is root's) and once as an ordinary user without any right."""
    user: str = request.param
    return lambda function: _run_in_child(lambda: _as_user(user, function))


@pytest.fixture(params=USERS)
def in_namespace(request: pytest.FixtureRequest) -> Runner:
    """As `in_user_child`, with all capabilities in a mount namespace of its own, at an empty tmpfs."""
    user: str = request.param
    return lambda function: _run_in_child(lambda: _as_user(user, lambda: _in_playground(user, function)))


def _run_in_child(function: Callable[[], Result]) -> Result:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        answer: tuple[bool, object]
        try:
            answer = (True, function())
        except BaseException:  # noqa: BLE001  the fork boundary; pytest's own outcomes are BaseExceptions
            answer = (False, traceback.format_exc())
        with os.fdopen(write_end, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not raw:
        pytest.fail(f"the child ended without an answer, status {os.waitstatus_to_exitcode(status)}")
    worked, value = pickle.loads(raw)
    if not worked:
        pytest.fail(f"in the child:\n{value}", pytrace=False)
    return value  # type: ignore[no-any-return]


def _as_user(user: str, function: Callable[[], Result]) -> Result:
    if user == "rootless" and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
        os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
        process.set_dumpable(dumpable=True)  # giving up root made /proc/self root's
    return function()


def _in_playground(user: str, function: Callable[[], Result]) -> Result:
    if user == "root":
        namespaces.unshare(namespaces.CLONE_NEWNS)
    else:
        idmap.enter_user_namespace(namespaces.CLONE_NEWNS)
    mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.attach(tmpfs(size_bytes=64 << 20), PLAYGROUND)
    os.chdir(PLAYGROUND)
    return function()


# --- a store ---------------------------------------------------------------------------------------------------------


_s3_server: S3Server | None = None


@pytest.fixture(scope="session")
def started_s3_server(tmp_path_factory: pytest.TempPathFactory) -> S3Server:
    global _s3_server  # noqa: PLW0603  started once, when it is first needed
    _s3_server = S3Server(tmp_path_factory.mktemp("s3") / "requests.log")
    return _s3_server


@pytest.fixture
def s3_server(started_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Generator[S3Server]:
    """The session's S3 server, which this test and its programs are told of by their environment."""
    for name, value in started_s3_server.environment.items():
        monkeypatch.setenv(name, value)
    yield started_s3_server
    close_connections()


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    return Bucket(s3_server)


@pytest.fixture(scope="module")
def bucket_of_module(started_s3_server: S3Server) -> Bucket:
    """A bucket for all tests of a module. They tell their programs where the server is themselves."""
    return Bucket(started_s3_server)


def pytest_sessionfinish() -> None:
    _stop_s3_server()


def _stop_s3_server() -> None:
    global _s3_server  # noqa: PLW0603  as above
    if _s3_server is not None:
        _s3_server.close()
        _s3_server = None


# --- what was there before -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a test could leave behind."""

    mounts: dict[int, Mount]
    processes: dict[tuple[int, int], str]  # pid and start time: what runs there
    descriptors: dict[int, str]
    cgroups: frozenset[Path]


_before: Surroundings | None = None


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    global _before  # noqa: PLW0603  set once, before any test
    os.environ[MARK] = str(os.getpid())
    if os.geteuid() == 0:
        find_identity_namespace()  # which a process keeps from its first box on
    _before = _look_around()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name == "test_leaks.py")


def pytest_collection_finish() -> None:
    sys.dont_write_bytecode = DONT_WRITE_BYTECODE
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def before() -> Surroundings:
    assert _before is not None
    _stop_s3_server()  # what is compared with this is looked at when no test needs it any more
    return _before


@pytest.fixture
def look_around() -> Callable[[], Surroundings]:
    return _look_around


def _look_around() -> Surroundings:
    gc.collect()  # a descriptor in a dead cycle is not a leak
    groups = Path("/sys/fs/cgroup")
    return Surroundings(
        mounts={mount.id: mount for mount in read_mount_table() if mount.fstype == "overlay" or mount.source == SOURCE},
        processes=dict(_own_processes()),
        descriptors=dict(_own_descriptors()),
        cgroups=frozenset(path for path in groups.glob("**/*jubako*") if path.is_dir()),
    )


def _own_descriptors() -> Generator[tuple[int, str], None, None]:
    for name in os.listdir("/proc/self/fd"):
        if int(name) <= 2:  # pytest's, changing as it captures
            continue
        try:
            yield int(name), os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor that listed them
            continue


def _own_processes() -> Generator[tuple[tuple[int, int], str], None, None]:
    """The processes this session started: its descendants, programs that carry its mark, and its orphaned forks."""
    us = os.getpid()
    our_command = Path("/proc/self/cmdline").read_bytes()
    mark = f"{MARK}={us}".encode()
    parents: dict[int, int] = {}
    commands: dict[tuple[int, int], bytes] = {}
    marked: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            after_name = (entry / "stat").read_text(errors="replace").rpartition(") ")[2].split()
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            environment = b""
        pid = int(entry.name)
        parents[pid] = int(after_name[1])
        commands[pid, int(after_name[19])] = command
        if mark in environment.split(b"\0") or (command == our_command and parents[pid] == 1):
            marked.add(pid)
    for (pid, started), command in commands.items():
        ancestor = parents[pid]
        while ancestor not in (0, us):
            ancestor = parents.get(ancestor, 0)
        if pid != us and (ancestor == us or pid in marked):
            yield (pid, started), command.replace(b"\0", b" ").decode(errors="replace") or "a zombie"
