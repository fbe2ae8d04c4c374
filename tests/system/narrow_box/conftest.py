"""A bench to run jobs in real boxes on: as root and as an ordinary user, each with one worker a module of tests shares.

The worker belongs to a process of that user, forked once for them; `Bench.run` asks it to run a job and gives back
what came of it. That the same worker takes the next test's job after a hostile one is part of what is tested.
"""

from __future__ import annotations

import itertools
import os
import pickle
import select
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from interpreter import find_interpreter
from jubako.boxes.job import Finished, Job, Message, Printed
from jubako.boxes.spec import Box, OutputKind, StagedOutput
from jubako.boxes.workers.worker import Worker, WorkerState
from jubako.layers.remove import remove_tree

ORDINARY_UID = 54322  # needs no entry in /etc/passwd
USERS = ("root", "rootless") if os.geteuid() == 0 else ("rootless",)
HERE = Path(__file__).parent
SOURCE = HERE.parents[2] / "src"
DEADLINE_S = 60


@dataclass(frozen=True)
class Ran:
    """One job, from outside: how it ended, what it printed and said, and where its files are."""

    finished: Finished
    printed: str
    messages: tuple[bytes, ...]
    staged: Mapping[str, Path]  # by declared path

    @property
    def outcome(self) -> str:
        return self.finished.outcome

    @property
    def report(self) -> str:
        return self.finished.report.decode()

    @property
    def undeclared(self) -> list[str]:
        return [change.path for change in self.finished.undeclared]


@dataclass
class Bench:
    """One user's place: `work` is fresh in every test, the worker is not."""

    user: str
    top: Path
    code: Path  # where its Python finds jubako
    uid: int
    _requests: Any
    _answers: Any
    _serial: Iterator[int] = field(default_factory=itertools.count)
    work: Path = Path("/")

    @property
    def home(self) -> Path:
        return self.top / "home"

    @property
    def state(self) -> Path:
        return self.top / "state"

    def fresh(self) -> None:
        self.work = self.home / f"work-{next(self._serial)}"
        self.make_folder(self.work)

    def make_folder(self, path: Path, mode: int = 0o755) -> None:
        path.mkdir(parents=True)
        path.chmod(mode)
        os.chown(path, self.uid, self.uid)

    def make_file(self, path: Path, text: str = "") -> None:
        path.write_text(text)
        os.chown(path, self.uid, self.uid)

    def run(
        self,
        call: str,
        payload: str | bytes = b"",
        outputs: Sequence[Path | tuple[Path, OutputKind]] = (),
        box: Box | None = None,
        check: str = "",
        **options: Any,
    ) -> Ran:
        """Runs `functions.call` in a box, in the fresh working directory."""
        number = next(self._serial)
        stage = self.state / "stage" / "RUN" / f"job-{number}"
        self.make_folder(stage)
        staged = []
        for index, output in enumerate(outputs):
            path, kind = output if isinstance(output, tuple) else (output, "file")
            staged.append(StagedOutput(str(path), kind, str(stage / str(index))))
        job = Job(
            id=f"job-{number}",
            label=f"Test({number})",
            call=f"functions:{call}",
            payload=payload.encode() if isinstance(payload, str) else payload,
            outputs=tuple(staged),
            check=f"functions:{check}" if check else "",
            box=box or Box(),
            **{"cwd": str(self.work)} | options,
        )
        finished, printed, messages = self.ask("run", job)
        return Ran(
            finished=finished,
            printed=printed.decode(errors="replace"),
            messages=tuple(messages),
            staged={one.path: Path(one.staged) for one in finished.staged},
        )

    def ask(self, what: str, argument: Any = None) -> Any:
        """What the user's process answers; its errors are the test's."""
        pickle.dump((what, argument), self._requests)
        self._requests.flush()
        if not select.select([self._answers], [], [], DEADLINE_S)[0]:
            pytest.fail(f"no answer to {what!r} in {DEADLINE_S} s")
        worked, answer = pickle.load(self._answers)
        if not worked:
            raise answer
        return answer


@pytest.fixture(scope="session")
def code_for_users() -> Iterator[Path]:
    """A folder of modules for users who may not read this one: jubako with what is compiled, and the functions."""
    folder = Path(tempfile.mkdtemp(prefix="jubako-code-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        for package in (SOURCE / "jubako", Path(click.__file__).parent):
            shutil.copytree(package, folder / package.name)
        shutil.copy(HERE / "functions.py", folder)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=USERS)
def shared_bench(request: pytest.FixtureRequest, code_for_users: Path) -> Iterator[Bench]:
    user: str = request.param
    uid = ORDINARY_UID if user == "rootless" and os.geteuid() == 0 else os.geteuid()
    top = Path(tempfile.mkdtemp(prefix="jubako-bench-", dir="/var/tmp"))
    top.chmod(0o755)
    try:
        bench, pid = _start(user, uid, top, code_for_users)
        try:
            yield bench
        finally:
            bench._requests.close()
            os.waitpid(pid, 0)
            bench._answers.close()
    finally:
        remove_tree(str(top))


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    shared_bench.fresh()
    return shared_bench


def _start(user: str, uid: int, top: Path, code: Path) -> tuple[Bench, int]:
    request_read, request_write = os.pipe()
    answer_read, answer_write = os.pipe()
    bench = Bench(user, top, code, uid, os.fdopen(request_write, "wb"), os.fdopen(answer_read, "rb"))
    for name in ("home", "state/stage/RUN"):
        bench.make_folder(top / name)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(request_write)
            os.close(answer_read)
            with os.fdopen(request_read, "rb") as requests, os.fdopen(answer_write, "wb", buffering=0) as answers:
                _serve(bench, requests, answers)
            status = 0
        finally:
            os._exit(status)
    os.close(request_read)
    os.close(answer_write)
    return bench, pid


def _serve(bench: Bench, requests: Any, answers: Any) -> None:
    """The life of the user's process."""
    if bench.uid != os.geteuid():
        os.setgroups([])
        os.setresgid(bench.uid, bench.uid, bench.uid)
        os.setresuid(bench.uid, bench.uid, bench.uid)
    os.environ["HOME"] = str(bench.home)
    os.environ["SSH_AUTH_SOCK"] = "/run/agent.sock"
    os.umask(0o022)
    os.chdir(bench.home)
    sys.path[:] = [str(bench.code), *find_interpreter()]
    worker: Worker | None = None
    while True:
        try:
            what, argument = pickle.load(requests)
        except EOFError:
            break
        try:
            if worker is None or not worker.is_alive or what == "restart":
                if worker is not None:
                    worker.close()
                options = argument if what == "restart" else {}
                worker = _start_worker(bench, **options)
            answer = (True, _answer(worker, what, argument))
        except Exception as error:  # noqa: BLE001  goes to the test
            answer = (False, error)
        answers.write(pickle.dumps(answer))
    if worker is not None:
        worker.close()


def _start_worker(bench: Bench, preload: str = "functions:load", **options: Any) -> Worker:
    stage = bench.state / "stage" / "RUN"
    return Worker.start(
        preload,
        b"preloaded",
        **{"hidden": [str(bench.state)], "scratch_root": str(stage), "cwd": str(bench.home)} | options,
    )


def _answer(worker: Worker, what: str, argument: Any) -> Any:
    match what:
        case "run":
            worker.submit(argument)
            return _watch(worker)
        case "cancel after it spoke":
            worker.submit(argument)
            return _watch(worker, cancel=True)
        case "kill the worker after it spoke":
            worker.submit(argument)
            return _watch(worker, kill=True)
        case "restart":
            return _await_state(worker)
        case "notes":
            return worker.take_notes()
        case "pid":
            worker.wait_until_ready(DEADLINE_S)
            return worker.pid
        case "descriptors":
            return sorted(os.listdir("/proc/self/fd"))
    raise AssertionError(what)


def _await_state(worker: Worker) -> WorkerState:
    return worker.wait_until_ready(DEADLINE_S)


def _watch(worker: Worker, *, cancel: bool = False, kill: bool = False) -> tuple[Finished, bytes, list[bytes]]:
    printed, messages = b"", []
    while True:
        if not select.select([worker], [], [], DEADLINE_S)[0]:
            raise TimeoutError(f"nothing from the worker in {DEADLINE_S} s")
        for event in worker.receive():
            match event:
                case Printed():
                    printed += event.data
                case Message():
                    messages.append(event.data)
                    if cancel:
                        worker.cancel(event.job_id)
                    if kill:
                        os.kill(worker.pid, 9)
                case Finished():
                    return event, printed, messages
