"""What users do wrong and what machines refuse, through the real command, as root and as an ordinary user: one clear
sentence, the right exit code, no traceback; nothing lost, and nothing left. What needs no box is in
`tests/cli/test_bad_input.py`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from jubako.kernel.mount_table import read_mount_table

pytestmark = pytest.mark.box

SOURCE = Path(__file__).parents[2] / "src"
LESSER_KERNEL = Path(__file__).parents[1] / "lesser_kernel.py"
SYSTEM_PYTHON = "/usr/bin/python3"
USERS = (0, 1000) if os.geteuid() == 0 else (os.geteuid(),)
IS_ROOT = os.geteuid() == 0
SECOND_GROUP = 54323 if IS_ROOT else os.getegid()  # which the ordinary user is in as well

PIPELINE = """
import ctypes, multiprocessing, os, signal, sqlite3, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from jubako import Box, ExternalTask, LocalTarget, Parameter, Task, WrapperTask

print("importing")


class Writes(Task):
    def output(self):
        return LocalTarget(f"out/{self.get_task_family()}")

    def run(self):
        with self.output().open("w") as file:
            file.write(str(self.work()))

    def work(self):
        return "done"


class ExitsAtOnce(Writes):
    def run(self):
        super().run()
        os._exit(3)


class Exits(Writes):
    def work(self):
        sys.exit(4)


class KillsItself(Writes):
    def work(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Crashes(Writes):
    def work(self):
        ctypes.string_at(0)


class ClosesDescriptors(Writes):
    def work(self):
        os.closerange(0, 1024)


class WritesElsewhere(Writes):
    def work(self):
        Path("/usr/nobody-declared-this").touch()


class LeavesDaemons(Writes):
    def work(self):
        subprocess.Popen(["sleep", "4242"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(4242)
            os._exit(0)
        os.wait()


class Computes(Writes):
    def work(self):
        with ThreadPoolExecutor(4) as threads, multiprocessing.get_context("fork").Pool(2) as pool:
            squares = sum(threads.map(abs, range(10))) + sum(pool.map(abs, range(10)))
        with tempfile.NamedTemporaryFile("w") as file, sqlite3.connect(":memory:") as database:
            file.write("gone afterwards")
            return squares + database.execute("select 1").fetchone()[0]


class All(WrapperTask):
    def requires(self):
        return [ExitsAtOnce(), Exits(), KillsItself(), Crashes(), ClosesDescriptors(), WritesElsewhere(),
                LeavesDaemons(), Computes()]


class Named(Writes):
    name = Parameter()

    def output(self):
        return LocalTarget(f"out/{self.name}")


class Waits(Writes):
    def work(self):
        print("waiting", flush=True)
        while not os.path.exists("go on"):
            time.sleep(0.01)


class After(Writes):
    def requires(self):
        return [Named("first"), Waits()]


class Big(Writes):
    def work(self):
        return "x" * 3_000_000


class BigByName(Writes):
    def run(self):
        Path(self.output().path).write_text("x" * 3_000_000)


class FillsScratch(Writes):
    box = Box(scratch_size_bytes=1 << 20)

    def work(self):
        Path("filler").write_text("x" * 3_000_000)


class Rates(ExternalTask):
    def output(self):
        return LocalTarget("rates.csv")


class NeedsRates(Writes):
    def requires(self):
        return Rates()


class Copies(NeedsRates):
    box = Box(binds=[os.path.abspath("shared")])

    def work(self):
        text = Path("rates.csv").read_text()
        print("has read", text, flush=True)
        open("shared/changed").close()  # a named pipe: until somebody opens its other end
        return text
"""


@dataclass
class Place:
    """A folder of a user's with the pipeline in it."""

    user_id: int
    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        import click

        python_path = os.pathsep.join([str(SOURCE), str(Path(click.__file__).parents[1])])
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": python_path,
            "JUBAKO_STATE": str(self.folder / "state"),
            "JUBAKO_TEST_SESSION": os.environ["JUBAKO_TEST_SESSION"],
        }

    @property
    def python(self) -> str:
        return sys.executable if self.user_id == os.geteuid() else SYSTEM_PYTHON

    def command(self, *words: str, before: str = "", after: str = "") -> list[str]:
        """The command as this user; `before` runs as root in a mount namespace of its own, `after` as the user."""
        command = [
            self.python,
            "-P",
            "-m",
            "jubako",
            *words,
        ]  # -P: as the installed command, not the working directory first
        if after:
            command = ["sh", "-ec", after, "sh", *command]
        if self.user_id != os.geteuid():
            ids = [f"--reuid={self.user_id}", f"--regid={self.user_id}", f"--groups={SECOND_GROUP}"]
            command = ["setpriv", *ids, *command]
        if before:
            rights = [] if IS_ROOT else ["--map-root-user"]
            command = ["unshare", "--mount", *rights, "sh", "-ec", f'{before}; exec "$@"', "sh", *command]
        return command

    def start(self, *words: str, before: str = "", after: str = "", **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words, before=before, after=after),
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
        )

    def run(
        self, *words: str, before: str = "", after: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """The command, ended. It never shows a traceback, and leaves nothing."""
        process = self.start(*words, before=before, after=after, **environment)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in out + err
        self.assert_nothing_left()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def made(self) -> list[str]:
        """The names of what was published."""
        out = self.folder / "out"
        return sorted(path.name for path in out.iterdir()) if out.exists() else []

    def assert_nothing_left(self) -> None:
        stage = self.folder / "state" / "stage"
        assert not stage.exists() or list(stage.iterdir()) == []
        assert not list(self.folder.rglob(".jubako*"))
        assert not [mount for mount in read_mount_table() if mount.mount_point.startswith(f"{self.folder}/")]


@pytest.fixture(params=USERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="jubako-bad-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "wrong.py").write_text(PIPELINE)
    if IS_ROOT:
        os.chown(folder, request.param, request.param)
    try:
        yield Place(request.param, folder)
    finally:
        shutil.rmtree(folder)


def test_tasks_that_misbehave_fail_alone_and_leave_nothing(place: Place) -> None:
    result = place.run("run", "wrong.py", "All", "--workers", "2")
    assert result.returncode == 1
    for sentence in (
        "ExitsAtOnce(): ended with exit status 3 before it returned",
        "Exits(): exited with 4",
        "KillsItself(): was killed by SIGKILL",
        "Crashes(): was killed by SIGSEGV",
        "ClosesDescriptors(): ended with exit status",
        "WritesElsewhere(): OSError: [Errno 30] Read-only file system: '/usr/nobody-declared-this'",
    ):
        assert sentence in result.stdout
    assert place.made() == ["Computes", "LeavesDaemons"]
    assert (place.folder / "out/Computes").read_text() == "91"
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _is_readable(path)]
    assert not [command for command in commands if command == b"sleep\x004242\x00"]


def _is_readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def test_missing_input_is_named_with_its_path(place: Place) -> None:
    result = place.run("run", "wrong.py", "NeedsRates")
    assert result.returncode == 1
    assert f"Rates(): {place.folder}/rates.csv is not there, and no task makes it" in result.stdout.splitlines()
    assert "hint: put what is missing in place" in result.stderr


def test_pipeline_inside_a_box_says_where_it_is_and_what_it_advises_works(place: Place) -> None:
    def run_in_box(text: str) -> subprocess.CompletedProcess[str]:
        return place.run("box", "run", "--", "sh", "-c", text)

    jubako, task = f"{place.python} -P -m jubako", "wrong.py Named --name inside"
    refused = run_in_box(f"{jubako} run {task}")
    assert refused.returncode == 3
    error, hint = refused.stderr.splitlines()[1:3]  # the first line is what importing it prints
    assert re.fullmatch("Error: this is box [0-9a-f]{8}, and tasks cannot run in boxes inside a box", error)
    assert hint.startswith("hint: --box none")
    assert "seccomp" not in refused.stderr

    hidden = run_in_box(f"{jubako} run {task} --box none")
    assert hidden.returncode == 3
    assert f"the state root {place.folder}/state is not to be seen in it" in hidden.stderr
    assert "hint: set JUBAKO_STATE to a folder in the box" in hidden.stderr

    done = run_in_box(f"JUBAKO_STATE=$PWD/jubako-state {jubako} run {task} --box none && cat out/inside")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "done")
    assert place.made() == []


def test_doctor_inside_a_box_sends_outside(place: Place) -> None:
    result = place.run("box", "run", "--", place.python, "-P", "-m", "jubako", "doctor")
    assert result.returncode == 3
    assert result.stdout.startswith("no       boxes")
    assert "boxes do not nest" in result.stdout


def edit(path: Path, text: str) -> None:
    path.write_text(text)


def put_another_in_its_place(path: Path, text: str) -> None:
    path.with_name("new").write_text(text)
    path.with_name("new").rename(path)


def run_while_input_changes(
    place: Place, change: Callable[[Path, str], None], first: str, *others: str | None
) -> subprocess.CompletedProcess[str]:
    """Runs Copies, once for each of `others`, which takes the place of the version before when that has been read."""
    rates = place.folder / "rates.csv"
    rates.write_text(first)
    (place.folder / "shared").mkdir()
    os.mkfifo(place.folder / "shared" / "changed")
    (place.folder / "shared" / "changed").chmod(0o666)
    with place.start("run", "wrong.py", "Copies") as process:
        assert process.stderr is not None
        told = ""
        for text, next_text in pairwise((first, *others)):
            while not (line := process.stderr.readline()).endswith(f"has read {text}\n"):
                told += line
                if not line:
                    pytest.fail(f"it ended: {told}{process.communicate()[0]}")
            if next_text is not None:
                change(rates, next_text)
            (place.folder / "shared" / "changed").write_text("")
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in told + out + err
    place.assert_nothing_left()
    return subprocess.CompletedProcess(process.args, process.returncode, out, told + err)


@pytest.mark.parametrize("change", [edit, put_another_in_its_place])
def test_input_changed_while_its_task_runs_gives_one_more_try(
    place: Place, change: Callable[[Path, str], None]
) -> None:
    result = run_while_input_changes(place, change, "one", "two", None)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (place.folder / "out" / "Copies").read_text() == "two"
    assert f"retry   Copies(): {place.folder}/rates.csv, an input of it, was changed" in result.stdout


def test_input_changed_at_every_try_is_a_conflict_and_nothing_is_published(place: Place) -> None:
    (place.folder / "out").mkdir(mode=0o777)
    (place.folder / "out").chmod(0o777)
    (place.folder / "out" / "Other").write_text("kept")
    result = run_while_input_changes(place, put_another_in_its_place, "one", "three", "three more")
    assert result.returncode == 4, result.stdout + result.stderr
    sentence = f"{place.folder}/rates.csv, an input of it, was changed by another program while Copies() was running"
    assert f"Copies(): {sentence}: it was a file of 5 bytes, modified " in result.stdout
    assert "and now it is another file of 10 bytes, modified " in result.stdout
    assert place.made() == ["Other"]


@pytest.mark.parametrize("task", ["Big", "BigByName"])
def test_full_disk_of_an_output_is_named_and_publishes_nothing(place: Place, task: str) -> None:
    (place.folder / "out").mkdir()
    result = place.run("run", "wrong.py", task, before="mount -t tmpfs -o size=1m,mode=1777 none out")
    assert result.returncode in (1, 3)
    assert f"{task}(): " in result.stdout
    assert "No space left on device" in result.stdout
    assert re.search(
        rf"no room for {place.folder}/out/{task}|'{place.folder}/out/{task}': the disk that holds this output is full",
        result.stdout,
    )


def test_full_scratch_is_named(place: Place) -> None:
    result = place.run("run", "wrong.py", "FillsScratch")
    assert result.returncode == 1
    assert "No space left on device: the box's scratch is full, where all goes that is written below" in result.stdout
    assert str(place.folder) in result.stdout.partition("written below")[2]
    assert place.made() == []


def test_full_disk_of_the_state_is_named_and_publishes_nothing(place: Place) -> None:
    (place.folder / "small").mkdir()
    mount = "mount -t tmpfs -o size=64k,mode=1777 none small"
    result = place.run("run", "wrong.py", "Big", before=mount, JUBAKO_STATE=str(place.folder / "small/state"))
    assert result.returncode == 3
    assert f"{place.folder}/small/state" in result.stderr
    assert place.made() == []


def test_folder_that_cannot_be_written_is_named(place: Place) -> None:
    (place.folder / "out").mkdir()
    result = place.run("run", "wrong.py", "Big", before="mount -t tmpfs -o ro none out")
    assert result.returncode == 3
    assert f"the output {place.folder}/out/Big cannot be written: {place.folder}/out is on a read-only" in result.stdout
    assert "--keep" not in result.stderr


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("relative", "JUBAKO_STATE='relative' is not an absolute path"),
        ("/proc/here", "the state root /proc/here cannot be made"),
        ("{folder}/wrong.py", "the state root {folder}/wrong.py cannot be made"),
        ("{folder}/damaged", "{folder}/damaged/ledger.sqlite is damaged"),
    ],
)
def test_state_that_cannot_be_used_is_named_and_kept(place: Place, state: str, sentence: str) -> None:
    damaged = place.folder / "damaged"
    damaged.mkdir(mode=0o700)
    (damaged / "ledger.sqlite").write_text("this is no database")
    if IS_ROOT:
        for path in (damaged, damaged / "ledger.sqlite"):
            os.chown(path, place.user_id, place.user_id)
    result = place.run("run", "wrong.py", "Computes", JUBAKO_STATE=state.format(folder=place.folder))
    assert result.returncode in (2, 3)
    assert result.stderr.splitlines()[1].startswith(f"Error: {sentence.format(folder=place.folder)}"), result.stderr
    assert result.stderr.splitlines()[2].startswith("hint: ")
    assert (damaged / "ledger.sqlite").read_text() == "this is no database"
    assert place.made() == []


def test_host_without_user_namespaces_is_named_with_the_cure(place: Place) -> None:
    switched_off = (
        "exec unshare --user --map-root-user sh -ec 'echo 0 >/proc/sys/user/max_user_namespaces; "
        'exec setpriv --bounding-set=-all --inh-caps=-all "$@"\' sh "$@"'
    )
    result = place.run("run", "wrong.py", "Computes", "--box", "host", after=switched_off)
    assert result.returncode == 3
    assert "Error: this host cannot make boxes: user namespaces are switched off" in result.stderr
    assert "hint: as root: sysctl -w user.max_user_namespaces=" in result.stderr
    assert place.made() == []
    doctor = place.run("doctor", after=switched_off)
    assert doctor.returncode == 3
    assert "tasks cannot run in boxes: user namespaces are switched off (user.max_user_namespaces=0)" in doctor.stdout
    unboxed = place.run("run", "wrong.py", "Computes", "--box", "none", after=switched_off)
    assert (unboxed.returncode, place.made()) == (0, ["Computes"])
    assert "not boxed" in unboxed.stdout


def test_host_without_overlay_is_named_with_the_cure(place: Place) -> None:
    lesser = f'exec "$1" -P {LESSER_KERNEL} overlay "$@"'
    reason = "this kernel has no overlay file system"
    result = place.run("run", "wrong.py", "Computes", after=lesser)
    assert result.returncode == 3
    assert f"Error: this host cannot make boxes: {reason}" in result.stderr.splitlines()
    assert "hint: load it with 'modprobe overlay', as root; --box none" in result.stderr
    assert place.made() == []
    doctor = place.run("doctor", after=lesser)
    assert doctor.returncode == 3
    assert re.search(rf"^no +boxes +tasks cannot run in boxes: {reason}$", doctor.stdout, re.MULTILINE)
    assert "cure: load it with 'modprobe overlay', as root" in doctor.stdout
    unboxed = place.run("run", "wrong.py", "Computes", "--box", "none", after=lesser)
    assert (unboxed.returncode, place.made()) == (0, ["Computes"])


def test_host_that_refuses_user_namespaces_is_named_with_the_cure(place: Place) -> None:
    lesser = f'exec "$1" -P {LESSER_KERNEL} user-namespaces "$@"'
    reason = "a system call filter of the container refuses making a user namespace"
    result = place.run("run", "wrong.py", "Computes", after=lesser)
    doctor = place.run("doctor", after=lesser)
    if place.user_id == 0:  # needs none
        assert (result.returncode, place.made()) == (0, ["Computes"])
        assert doctor.returncode == 0
        found = rf"^limited +user namespaces +ordinary users cannot make boxes: {reason}$"
    else:
        assert (result.returncode, place.made()) == (3, [])
        assert f"Error: this host cannot make boxes: {reason}" in result.stderr.splitlines()
        assert "hint: start the container with --security-opt seccomp=unconfined" in result.stderr
        assert doctor.returncode == 3
        found = rf"^no +boxes +tasks cannot run in boxes: {reason}$"
    assert re.search(found, doctor.stdout, re.MULTILINE), doctor.stdout


def test_run_started_by_a_program_that_ignores_its_children_is_like_any_other(place: Place) -> None:
    result = place.run("run", "wrong.py", "Named", "--name", "a", after='exec env --ignore-signal=CHLD "$@"')
    assert (result.returncode, place.made()) == (0, ["a"]), result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_run_that_is_ended_from_outside_carries_on_the_next_time(place: Place, number: signal.Signals) -> None:
    process = place.start("run", "wrong.py", "After")
    assert process.stderr is not None
    for line in process.stderr:
        if "Waits() | waiting" in line:
            break
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        place.assert_nothing_left()
    assert place.made() == ["first"]
    (place.folder / "go on").touch()
    again = place.run("run", "wrong.py", "After")
    assert again.returncode == 0
    assert "1 complete ones were encountered" in again.stdout
    assert place.made() == ["After", "Waits", "first"]


@pytest.mark.parametrize("format_", ["json", "csv"])
def test_machine_text_is_all_there_is_on_stdout(place: Place, format_: str) -> None:
    result = place.run("run", "wrong.py", "Named", "--name", "a\nb", "--format", format_, LC_ALL="C", COLUMNS="40")
    assert result.returncode == 0
    rows = json.loads(result.stdout)["tasks"] if format_ == "json" else list(csv.DictReader(result.stdout.splitlines()))
    assert [row["status"] for row in rows] == ["done"]
    assert "importing" in result.stderr
    assert place.made() == ["a\nb"]


@pytest.mark.parametrize("name", ["ünïcödé-重箱", "new\nline", "\x1b(0lines", "-", "x" * 200])
def test_hostile_names_are_published_and_shown_safely(place: Place, name: str) -> None:
    result = place.run("run", "wrong.py", "Named", f"--name={name}", LC_ALL="C", NO_COLOR="1", COLUMNS="40")
    assert (result.returncode, place.made()) == (0, [name])
    assert "\x1b" not in result.stdout + result.stderr
    assert result.stdout.splitlines()[0].startswith("[1/1] done    Named(name=")


def test_output_in_a_shared_folder_gets_its_group_however_it_is_written(place: Place) -> None:
    out = place.folder / "out"
    out.mkdir()
    os.chown(out, place.user_id, SECOND_GROUP)
    out.chmod(0o2775)
    for task in ("Big", "BigByName"):
        result = place.run("run", "wrong.py", task)
        assert result.returncode == 0, result.stdout
        assert "undeclared" not in result.stdout
        assert (out / task).stat().st_gid == SECOND_GROUP


@pytest.mark.parametrize("folder", ["", "not/there/yet/"])
def test_name_that_is_too_long_is_refused_before_the_task_runs(place: Place, folder: str) -> None:
    (place.folder / "out").mkdir()
    (place.folder / "out").chmod(0o777)
    result = place.run("run", "wrong.py", "Named", f"--name={folder}{'x' * 300}")
    assert result.returncode in (1, 3)
    assert f"the output {place.folder}/out/{folder}xxx" in result.stdout
    assert "cannot be staged: File name too long" in result.stdout
    assert "in run\n" not in result.stdout
    assert place.made() == []


def test_file_that_is_called_as_a_module_of_python_is_no_obstacle(place: Place) -> None:
    (place.folder / "json.py").write_text("raise ImportError('not the one')")
    result = place.run("run", "wrong.py", "Named", "--name", "a")
    assert (result.returncode, place.made()) == (0, ["a"]), result.stderr
