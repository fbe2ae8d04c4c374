"""Tasks that go wrong, in every mode: what is said, what is left (nothing), what else still runs."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.keeping.kept import list_boxes
from jubako.boxes.transactions.database import open_database
from jubako.errors import InputError
from jubako.flow.ledger.ledger import Ledger
from jubako.flow.observer import TaskFailed, TaskGivenUp, TaskPrinted, TaskProgressed, UndeclaredWrites
from jubako.flow.summary import RunStatus
from jubako.testing import FakeClock
from jubako.testing.ledger import begin_fake_run

UNBOXED = [pytest.param({"box": "none"}, id="in-process"), pytest.param({"box": "none", "workers": 2}, id="forked")]
BOXED = [pytest.param({"workers": 1}, id="boxed", marks=pytest.mark.box)]
MODES = UNBOXED + BOXED

HALF_WAY = """
class Half(Task):
    def output(self):
        return [LocalTarget("one.txt"), LocalTarget("two.txt")]

    def run(self):
        with self.output()[0].open("w") as file:
            file.write("one")
        with open("stray.txt", "w") as file:
            file.write("stray")
        raise ValueError("half-way")

class After(Task):
    def requires(self):
        return Half()

    def output(self):
        return LocalTarget("after.txt")

    def run(self):
        raise AssertionError("never")

class Other(Task):
    def output(self):
        return LocalTarget("other.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write("other")
"""


@pytest.mark.parametrize("options", MODES)
def test_failure_stops_what_depends_on_it_and_nothing_else(world: Any, options: dict[str, Any]) -> None:
    world.write(HALF_WAY)
    result = world.run(world.After(), world.Other(), **options)
    assert not result
    assert result.status is RunStatus.FAILED
    assert result.counts["done"] == result.counts["failed"] == result.counts["pending"] == 1
    (error,) = result.errors
    assert (error.label, error.sentence) == ("Half()", "ValueError: half-way")
    assert 'raise ValueError("half-way")' in error.traceback
    assert world.read("other.txt") == "other"
    (given_up,) = world.seen.of(TaskGivenUp)
    assert (str(given_up.task), str(given_up.because)) == ("After()", "Half()")
    assert "1 had failed dependencies" in result.format_summary()


@pytest.mark.box
def test_boxed_task_that_fails_half_way_leaves_nothing(world: Any) -> None:
    world.write(HALF_WAY)
    result = world.run(world.Half())
    assert not result
    assert world.files() == {}
    assert [change.path for change in result.undeclared["Half()"]] == [str(world.folder / "stray.txt")]


@pytest.mark.parametrize("options", MODES)
def test_output_that_was_not_made_is_named(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Lazy(Task):
            def output(self):
                return [LocalTarget("made.txt"), LocalTarget("not-made.txt")]

            def run(self):
                with self.output()[0].open("w"):
                    pass
        """
    )
    result = world.run(world.Lazy(), **options)
    (error,) = result.errors
    assert error.sentence.startswith("run() ended and did not make ")
    assert error.sentence.endswith("not-made.txt")


@pytest.mark.parametrize("options", MODES)
def test_task_without_outputs_succeeds_when_run_returns(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Nothing(Task):
            def run(self):
                print("did it")
        """
    )
    assert world.run(world.Nothing(), **options)
    assert world.run(world.Nothing(), **options).counts["done"] == 1


@pytest.mark.parametrize("options", MODES)
def test_missing_external_input_is_said_and_not_run(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Outside(ExternalTask):
            def output(self):
                return LocalTarget("outside.txt")

        class Needs(Task):
            def requires(self):
                return Outside()

            def output(self):
                return LocalTarget("needs.txt")

            def run(self):
                raise AssertionError("never")
        """
    )
    result = world.run(world.Needs(), **options)
    assert (result.status, bool(result)) == (RunStatus.MISSING_EXT, False)
    assert result.counts["missing"] == 1
    assert "missing external dependencies" in result.format_summary()


def test_task_whose_scheduling_fails_keeps_its_traceback(world: Any) -> None:
    world.write(
        """
        class Broken(Task):
            def requires(self):
                return 1 / 0

        class Below(WrapperTask):
            def requires(self):
                return [Broken()]
        """
    )
    result = world.run(world.Below(), box="none")
    assert result.status is RunStatus.SCHEDULING_FAILED
    (error,) = result.errors
    assert (error.label, error.sentence) == ("Broken()", "requires() raised ZeroDivisionError: division by zero")
    assert "return 1 / 0" in error.traceback


def test_cycle_is_refused_before_anything_runs(world: Any) -> None:
    world.write(
        """
        class Ring(Task):
            n = IntParameter()

            def requires(self):
                return Ring((self.n + 1) % 3)

            def output(self):
                return LocalTarget(f"{self.n}.txt")
        """
    )
    with pytest.raises(InputError, match=r"Ring\(n=0\) -> Ring\(n=1\) -> Ring\(n=2\) -> Ring\(n=0\)"):
        world.run(world.Ring(0), box="none")


@pytest.mark.parametrize("options", MODES[1:])
def test_time_limit_ends_the_task_and_what_it_started(world: Any, options: dict[str, Any]) -> None:
    mark = f"600.{os.getpid()}"  # other sessions of these tests sleep too
    world.write(
        """
        class Slow(Task):
            worker_timeout = 0.3

            def run(self):
                child = subprocess.Popen(["sleep", "MARK"], start_new_session=True)
                print(child.pid, flush=True)
                child.wait()

        TIMEOUTS = []

        @Slow.event_handler(Event.TIMEOUT)
        def on_timeout(task, text):
            TIMEOUTS.append((str(task), text))
        """.replace("MARK", mark)
    )
    result = world.run(world.Slow(), **options)
    (error,) = result.errors
    assert "0.3 s" in error.sentence
    printed = b"".join(event.data for event in world.seen.of(TaskPrinted))
    assert printed.split()[0].isdigit()
    assert f"sleep\x00{mark}" not in [_command(pid) for pid in os.listdir("/proc") if pid.isdigit()]
    module = __import__(world.pipeline.source.module)
    assert [label for label, _ in module.TIMEOUTS] == ["Slow()"]


def test_time_limit_of_a_single_worker_without_box_is_kept_too(world: Any) -> None:
    world.write(
        """
        class Slow(Task):
            def run(self):
                time.sleep(600)
        """
    )
    result = world.run(world.Slow(), box="none", timeout_s=0.2)
    assert "0.2 s" in result.errors[0].sentence


@pytest.mark.parametrize("options", MODES[1:])
def test_task_that_is_killed_fails_with_the_signal(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Dies(Task):
            def run(self):
                os.kill(os.getpid(), 9)
        """
    )
    result = world.run(world.Dies(), **options)
    assert "SIGKILL" in result.errors[0].sentence or "signal 9" in result.errors[0].sentence


@pytest.mark.parametrize("options", MODES)
def test_retries_are_counted_and_success_in_the_end_is_success(world: Any, options: dict[str, Any]) -> None:
    tries = world.shared / "tries"
    world.write(
        f"""
        class Stubborn(Task):
            retry_count = 3
            box = Box(binds=[{str(world.shared)!r}])

            def output(self):
                return LocalTarget("stubborn.txt")

            def run(self):
                with open({str(tries)!r}, "a") as file:
                    file.write("x")
                if os.path.getsize({str(tries)!r}) < 3:
                    raise RuntimeError("not yet")
                with self.output().open("w"):
                    pass
        """
    )
    result = world.run(world.Stubborn(), **options)
    assert (result.status, bool(result)) == (RunStatus.SUCCESS_WITH_RETRY, True)
    assert [event.again for event in world.seen.of(TaskFailed)] == [True, True]
    assert result.errors == ()
    assert tries.read_text() == "xxx"


@pytest.mark.parametrize("options", MODES[1:])
def test_what_a_task_prints_is_shown_and_kept_in_its_log(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Talks(Task):
            def run(self):
                print("to stdout")
                os.write(2, b"to stderr, \\xff\\n")
                subprocess.run(["echo", "from a program"], check=True)
                raise RuntimeError("enough")

        class Silent(Task):
            def run(self):
                pass
        """
    )
    result = world.run(world.Talks(), world.Silent(), **options)
    (error,) = result.errors
    text = Path(error.log_path).read_bytes()
    assert text.splitlines() == [b"to stdout", b"to stderr, \xff", b"from a program"]
    assert b"".join(event.data for event in world.seen.of(TaskPrinted)) == text
    assert sorted(os.listdir(world.state / "logs" / result.run_id)) == [os.path.basename(error.log_path), "tasks"]


@pytest.mark.parametrize("options", MODES[1:])
def test_log_keeps_the_beginning_and_the_end_within_its_limit(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Floods(Task):
            def run(self):
                for _ in range(100):
                    print("x" * 99)
                raise RuntimeError("enough")
        """
    )
    result = world.run(world.Floods(), log_limit_bytes=1000, **options)
    text = Path(result.errors[0].log_path).read_bytes()
    line = b"x" * 99 + b"\n"
    assert (
        text
        == line * 5
        + b"\n[jubako: 9000 bytes are left out here; of what a task prints 1000 bytes are kept]\n"
        + line * 5
    )
    assert sum(len(event.data) for event in world.seen.of(TaskPrinted)) == 10_000


def test_log_of_a_call_after_publishing_keeps_to_its_limit_too(world: Any) -> None:
    world.write(
        """
        class Floods(Task):
            def output(self):
                return LocalTarget("floods")

            def run(self):
                with self.output().open("w"):
                    pass

            def after_publish(self):
                for _ in range(11):
                    print("x" * 99)
        """
    )
    result = world.run(world.Floods(), log_limit_bytes=1000, box="none", workers=2)
    text = (world.state / "logs" / result.run_id / "after-1.log").read_bytes()
    assert b"[jubako: 100 bytes are left out here; of what a task prints 1000 bytes are kept]" in text


def test_old_runs_go_with_their_logs_when_a_run_begins(world: Any) -> None:
    world.write(
        """
        class Talks(Task):
            def run(self):
                print("hello")
        """
    )
    clock = FakeClock(wall_s=1e9)
    options = {"box": "none", "workers": 2, "clock": clock}
    first = world.run(world.Talks(), **options)
    clock.advance(80 * 86_400)
    second = world.run(world.Talks(), **options)
    clock.advance(20 * 86_400)
    third = world.run(world.Talks(), **options)
    assert first.run_id < second.run_id < third.run_id
    assert sorted(os.listdir(world.state / "logs")) == [second.run_id, third.run_id]


@pytest.mark.parametrize("options", MODES)
def test_progress_is_passed_on(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        class Says(Task):
            def run(self):
                self.set_status_message("half")
                self.set_progress_percentage(50)
                self.set_tracking_url("http://x")
        """
    )
    assert world.run(world.Says(), **options)
    seen = [(event.message, event.percentage, event.tracking_url) for event in world.seen.of(TaskProgressed)]
    assert seen == [("half", None, None), (None, 50, None), (None, None, "http://x")]


@pytest.mark.box
def test_check_that_refuses_publishes_nothing(world: Any) -> None:
    world.write(
        """
        class Checked(Task):
            how = Parameter()

            def output(self):
                return LocalTarget(f"{self.how}.txt")

            def run(self):
                with self.output().open("w") as file:
                    file.write("wrong")

            def check(self):
                with self.output().open() as file:
                    content = file.read()
                if self.how == "raises":
                    raise ValueError(f"{content} is not right")
                return content == "right"
        """
    )
    result = world.run(world.Checked("raises"), world.Checked("returns"))
    assert [error.sentence.startswith("check() refused it: ") for error in result.errors] == [True, True]
    assert "wrong is not right" in result.errors[0].sentence
    assert world.files() == {}


STRAY = """
class Stray(Task):
    def output(self):
        return LocalTarget("declared.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write("declared")
        os.makedirs("new/folder")
        with open("new/folder/stray.txt", "w") as file:
            file.write("stray")
        os.remove("old.txt")
"""


@pytest.mark.box
@pytest.mark.parametrize("undeclared", ["warn", "fail", "publish"])
def test_undeclared_writes_are_dropped_refused_or_published(world: Any, undeclared: str) -> None:
    world.write(STRAY)
    (world.folder / "old.txt").write_text("old")
    result = world.run(world.Stray(), undeclared=undeclared)
    files = {name for name, content in world.files().items() if content != b"(directory)"}
    if undeclared == "fail":
        assert not result
        assert "stray.txt" in result.errors[0].sentence
        assert files == {"old.txt"}
        return
    assert result
    (seen,) = world.seen.of(UndeclaredWrites)
    assert seen.published == (undeclared == "publish")
    written = {os.path.relpath(change.path, world.folder) for change in seen.changes}
    assert written == {"new", "new/folder", "new/folder/stray.txt", "old.txt"}
    if undeclared == "warn":
        assert files == {"old.txt", "declared.txt"}
        assert "undeclared" in "\n".join(result.format_report())
    else:
        assert files == {"new/folder/stray.txt", "declared.txt"}
        assert "published" in "\n".join(result.format_report())


@pytest.mark.box
def test_box_of_a_failed_task_is_kept_when_asked_for(world: Any) -> None:
    world.write(HALF_WAY)
    result = world.run(world.Half(), world.Other(), keep_failed=True)
    (box_id,) = result.kept.values()
    (record,) = list_boxes(str(world.state / "boxes")).records
    assert (record.id, record.label, record.error) == (box_id, "Half()", "ValueError: half-way")
    assert f"jubako box enter {box_id}" in "\n".join(result.format_report())
    assert os.listdir(world.state / "boxes") == [box_id]


@pytest.mark.box
def test_output_that_cannot_be_written_fails_with_its_name(world: Any) -> None:
    world.write(
        """
        class Impossible(Task):
            def output(self):
                return LocalTarget("/proc/nowhere/out.txt")

            def run(self):
                raise AssertionError("never")
        """
    )
    result = world.run(world.Impossible())
    assert "/proc" in result.errors[0].sentence


@pytest.mark.box
def test_output_in_a_folder_that_the_box_shares_is_refused(world: Any) -> None:
    world.write(
        f"""
        class Shares(Task):
            box = Box(binds=[{str(world.shared)!r}])

            def output(self):
                return LocalTarget({str(world.shared / "below/out.txt")!r})

            def run(self):
                raise AssertionError("never")
        """
    )
    result = world.run(world.Shares())
    assert "a folder its box shares with the host" in result.errors[0].sentence


MEANWHILE = """
class Raw(ExternalTask):
    def output(self):
        return LocalTarget("raw.txt")

class Copy(Task):
    box = Box(binds=[SHARED])

    def requires(self):
        return Raw()

    def output(self):
        return LocalTarget("copy.txt")

    def complete(self):
        return False

    def run(self):
        with self.input().open() as raw:
            content = raw.read()
        with self.output().open("w") as file:
            file.write(content)
        print("read", flush=True)
        while not os.path.exists(f"{SHARED}/go"):
            time.sleep(0.005)
        os.remove(f"{SHARED}/go")
"""


class Meanwhile:
    """Changes something on the host while the task runs, each time it says that it has read its input."""

    def __init__(self, world: Any, *changes: tuple[str, str]) -> None:
        self._world = world
        self._changes = list(changes)

    def see(self, event: Any) -> None:
        if isinstance(event, TaskPrinted) and event.data.endswith(b"\n"):  # a line may come in two pieces
            if self._changes:
                name, content = self._changes.pop(0)
                (self._world.folder / name).write_text(content)
            (self._world.shared / "go").touch()


@pytest.mark.box
def test_input_that_changes_while_the_task_runs_gives_it_a_second_chance(world: Any) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{MEANWHILE}")
    (world.folder / "raw.txt").write_text("first")
    result = world.run(world.Copy(), also=Meanwhile(world, ("raw.txt", "second, longer")))
    assert result.errors == ()
    assert [event.again for event in world.seen.of(TaskFailed)] == [True]
    assert world.read("copy.txt") == "second, longer"


@pytest.mark.box
def test_output_changed_by_somebody_else_is_a_conflict_and_stays(world: Any) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{MEANWHILE}")
    (world.folder / "raw.txt").write_text("ours")
    result = world.run(world.Copy(), also=Meanwhile(world, ("copy.txt", "theirs")))
    (error,) = result.errors
    assert error.is_conflict
    assert "copy.txt was changed by another program" in error.sentence
    assert [event.again for event in world.seen.of(TaskFailed)] == [False]
    assert world.read("copy.txt") == "theirs"


@pytest.mark.box
def test_input_that_changes_at_every_try_is_a_conflict(world: Any) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{MEANWHILE}")
    (world.folder / "raw.txt").write_text("first")
    changes = [("raw.txt", "second, longer"), ("raw.txt", "third, longer still")]
    result = world.run(world.Copy(), also=Meanwhile(world, *changes))
    assert [event.again for event in world.seen.of(TaskFailed)] == [True, False]
    assert [error.is_conflict for error in result.errors] == [True]
    assert not (world.folder / "copy.txt").exists()


@pytest.mark.parametrize("options", MODES)
def test_tasks_that_live_in_memory_run_in_this_process(world: Any, options: dict[str, Any]) -> None:
    world.write(
        """
        from jubako.flow.targets.mock import MockTarget

        class First(Task):
            def output(self):
                return MockTarget("first")

            def run(self):
                with self.output().open("w") as file:
                    file.write("1")

        class Second(Task):
            def requires(self):
                return First()

            def output(self):
                return MockTarget("second")

            def run(self):
                with self.input().open() as first, self.output().open("w") as file:
                    file.write(first.read() + "2")
        """
    )
    from jubako.flow.targets.mock import MockFileSystem

    MockFileSystem().clear()
    assert world.run(world.Second(), **options)
    assert MockFileSystem().get_data("second") == b"12"
    MockFileSystem().clear()


def test_what_a_task_loses_without_a_box_is_said_once(world: Any) -> None:
    world.write(
        """
        class Checked(Task):
            n = IntParameter()

            def run(self):
                pass

            def check(self):
                raise AssertionError("never")
        """
    )
    result = world.run(*(world.Checked(n) for n in range(3)), box="none")
    assert list(result.notes) == ["check() of Checked is not called: without a box there is nothing to hold back"]


@pytest.mark.box
def test_pipeline_that_no_other_process_can_import_is_refused(world: Any) -> None:
    from jubako import LocalTarget, Task
    from jubako.flow.run.runner import run

    class Local(Task):
        def output(self) -> Any:
            return LocalTarget("x")

        def run(self) -> None:
            raise AssertionError("never")

    Local.__module__ = "nowhere"
    with pytest.raises(InputError, match="nowhere cannot run in boxes"):
        run([Local()], state=str(world.state))


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0")
    except OSError:
        return ""


@pytest.mark.box
@pytest.mark.parametrize("ends", ["pass", "os.kill(os.getpid(), 9)"])
def test_scratch_on_disk_is_gone_when_the_run_returns(world: Any, ends: str) -> None:
    """A worker answers before it has removed a task's scratch; the run waits for that once, at its end."""
    world.write(
        f"""
        import tempfile

        class Scratchy(Task):
            n = IntParameter()
            box = Box(scratch="disk")

            def run(self):
                for number in range(300):
                    open(os.path.join(tempfile.gettempdir(), str(number)), "w").close()
                {ends}
        """
    )
    world.run(*(world.Scratchy(n=n) for n in range(2)), workers=2)
    assert world.left_in_state() == []


@pytest.mark.box
def test_output_where_a_box_has_folders_of_its_own_is_published(world: Any) -> None:
    """/dev/shm is another one in there: what goes through the target arrives all the same, and what is written raw."""
    world.write(
        """
        class Shared(Task):
            folder = Parameter()

            def output(self):
                return [LocalTarget(f"{self.folder}/out/shared.txt"), LocalTarget(f"{self.folder}/raw.txt")]

            def run(self):
                assert os.listdir("/dev/shm") == [os.path.basename(self.folder)]
                assert os.listdir(self.folder) == []
                target, raw = self.output()
                with target.open("w") as file:
                    file.write("shared")
                with open(target.path) as file:
                    assert file.read() == "shared"
                with open(raw.path, "w") as file:
                    file.write("raw")

        class Reader(Task):
            folder = Parameter()

            def requires(self):
                return Shared(self.folder)

            def output(self):
                return LocalTarget("seen.txt")

            def run(self):
                with self.output().open("w") as file:
                    file.write(" ".join(target.path for target in self.input() if target.exists()))
        """
    )
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        result = world.run(world.Shared(folder=folder), durability="full")
        assert result
        (note,) = (note for note in result.notes if "/dev/shm" in note)
        assert "survives kill -9 only: tmpfs is memory" in note
        assert Path(folder, "out", "shared.txt").read_text() == "shared"
        assert Path(folder, "raw.txt").read_text() == "raw"
        assert sorted(os.listdir(folder)) == ["out", "raw.txt"]
        assert world.run(world.Reader(folder=folder))
        assert world.read("seen.txt") == "", "what other tasks publish there is not seen in a box"
        os.remove(f"{folder}/out/shared.txt")
        assert not world.run(world.Shared(folder=folder)).notes


def test_run_goes_on_where_old_history_cannot_be_tidied(world: Any) -> None:
    world.write(HALF_WAY)
    assert world.run(world.Other(), box="none")
    (world.state / "logs" / "killed").touch()  # where its logs would be, and cannot be listed
    with closing(open_database(str(world.state / "ledger.sqlite"), durability="relaxed")) as connection:
        begin_fake_run(Ledger(connection), "killed", clock=FakeClock(wall_s=time.time()))
    os.remove("other.txt")
    result = world.run(world.Other(), box="none")
    assert result
    assert world.read("other.txt") == "other"
    (note,) = result.notes
    assert f"{world.state}/logs/killed" in note
