"""What can be wrong with what is asked for, through the real command: one clear sentence with names, a hint where there
is something to try, an exit code of its own kind, no traceback, and nothing lost or left over. What machines refuse is
in `tests/system/test_bad_input.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[2] / "src")

PIPELINE = """
import datetime, os
from jubako import Box, DateParameter, ExternalTask, Host, LocalTarget, RangeDaily, Task, WrapperTask


class Writes(Task):
    path = ""

    def output(self):
        return LocalTarget(self.path)

    def run(self):
        with self.output().open("w") as file:
            file.write("new" * 1_000_000)


class Day(Writes):
    date = DateParameter()

    def output(self):
        return LocalTarget(f"days/{self.date}")


class Silent(Task):
    date = DateParameter()


class OwnAnswer(Silent):
    def complete(self):
        return False


class SilentDays(WrapperTask):
    def requires(self):
        return RangeDaily(of=Silent, start=datetime.date(2010, 1, 1), days_back=99999)


class CycleA(Writes):
    path = "a"

    def requires(self):
        return CycleB()


class CycleB(Writes):
    path = "b"

    def requires(self):
        return CycleA()


class Input(ExternalTask):
    def output(self):
        return LocalTarget("input.csv")


class NeedsInput(Writes):
    path = "needs"

    def requires(self):
        return Input()


class Forgets(Writes):
    path = "forgotten"

    def run(self):
        pass


class InProc(Writes):
    path = "/proc/nowhere/x"


class Twin(Writes):
    path = "twin"


class OtherTwin(Writes):
    path = "twin"


class Twins(WrapperTask):
    def requires(self):
        return [Twin(), OtherTwin()]


class Overtaken(Writes):
    '''Through a hard link, it changes on the host what it is about to replace: as another program would.'''

    path = "overtaken"
    box = Box(Host(), binds=["shared"])

    def complete(self):
        return False

    def run(self):
        super().run()
        with open("shared/same-file", "a") as file:
            file.write("somebody else's")
"""


ENDLESS = """
import sys, time
from jubako import DateParameter, LocalTarget, Task


class Day(Task):
    date = DateParameter()

    def output(self):
        if self.date.toordinal() == 1000:
            print("asked", file=sys.stderr, flush=True)
        if self.date.toordinal() > 1000:
            time.sleep(0.01)
        return LocalTarget(f"days/{self.date}")

    def run(self):
        pass
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "wrong.py").write_text(PIPELINE)
    return tmp_path


def jubako(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jubako", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": SOURCE, "JUBAKO_STATE": str(place / "state")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def left_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} - {"wrong.py", "state", "__pycache__"}


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        ("run wrong.py Day --date 2010-02-30", "Day: --date '2010-02-30' can't be read", ""),
        ("run wrong.py Day", "Day needs --date YYYY-MM-DD", "--help"),
        (
            "run wrong.py Day --dat 2010-01-01",
            "no such option --dat; did you mean --date?",
            "Day takes --date YYYY-MM-DD",
        ),
        ("run wrong.py Dya --date 2010-01-01", "there is no task 'Dya'", "did you mean Day"),
        ("run wrnog.py Day", "there is no pipeline wrnog.py", "did you mean wrong.py"),
        ("run  Day --date 2010-01-01", "the pipeline is given as an empty text", "shell variable"),
        ("run wrong.py CycleA", "CycleA() -> CycleB() -> CycleA()", "nothing was run"),
        ("run wrong.py Twins", "Twin() and OtherTwin() both make", "outputs of its own"),
        ("run wrong.py Day --date 2010-01-01 --workers 0", "'0' is not a whole number of 1 or more", "--help"),
        ("run wrong.py Day --date 2010-01-01 --workers x", "'x' is not a whole number of 1 or more", "--help"),
        ("run wrong.py Day --date 2010-01-01T05", "can't be read: its form is not YYYY-MM-DD", ""),
        ("backfill wrong.py Day --from 2010-02-01 --to 2010-01-01", "--to 2010-01-01 is before", "other way round"),
        ("backfill wrong.py Day --from 2010-01-01 --to 2010-01-01", "there is nothing", "--inclusive"),
        ("backfill wrong.py Day --from 2010-01-01", "'--to'", "--help"),
        ("backfill wrong.py Twin --from 2010-01-01 --to 2010-02-01", "Twin has no parameter for a date", "DateP"),
        (
            "backfill wrong.py Silent --from 2010-01-01 --to 2010-02-01",
            "Silent has neither outputs nor a comp",
            "alone",
        ),
        (
            "run wrong.py SilentDays --box none",
            "Silent has neither outputs nor a complete() of its own",
            "one task alone",
        ),
        (
            "run wrong.py RangeDaily --of Silent --start 2010-01-01 --days-back 99999 --box none",
            "Silent has neither outputs nor a complete() of its own: nobody can tell what of it is done",
            "give it an output()",
        ),
        (
            "run wrong.py RangeDaily --of OwnAnswer --start 2010-01-01 --days-back 99999 --box none",
            "RangeDaily looks for outputs, and OwnAnswer has none: its complete() would not be asked",
            "jubako backfill",
        ),
    ],
)
def test_wrong_request_is_refused_before_anything_runs(place: Path, words: str, sentence: str, hint: str) -> None:
    result = jubako(place, *words.split(" "))
    assert result.returncode == 2, result.stdout + result.stderr
    error, *more = result.stderr.splitlines()
    assert error.startswith("Error: ")
    assert sentence in error
    assert any(line.startswith("hint: ") and hint in line for line in more) or not hint
    assert result.stdout == ""
    assert left_in(place) == set()


def test_syntax_error_shows_the_line_and_its_place(place: Path) -> None:
    (place / "broken.py").write_text("x = 1\ndef run(self:\n")
    result = jubako(place, "run", "broken.py", "Day")
    assert result.returncode == 2
    assert f"{place}/broken.py:2: " in result.stderr
    assert "def run(self:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.box
@pytest.mark.parametrize(
    ("task", "code", "sentence"),
    [
        ("NeedsInput", 1, "- 1 Input()"),
        ("Forgets", 1, "Forgets(): run() ended and did not make {place}/forgotten"),
        ("InProc", 3, "InProc(): "),
    ],
)
def test_work_that_cannot_be_done_is_named_and_leaves_nothing(place: Path, task: str, code: int, sentence: str) -> None:
    result = jubako(place, "run", "wrong.py", task)
    assert result.returncode == code, result.stdout + result.stderr
    assert sentence.format(place=place) in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert left_in(place) == set()


@pytest.mark.box
def test_file_that_another_program_changed_meanwhile_is_a_conflict_and_keeps_their_version(place: Path) -> None:
    (place / "overtaken").write_text("old, ")
    (place / "shared").mkdir()
    os.link(place / "overtaken", place / "shared/same-file")
    result = jubako(place, "run", "wrong.py", "Overtaken")
    assert result.returncode == 4, result.stdout + result.stderr
    assert str(place / "overtaken") in result.stdout
    assert (place / "overtaken").read_text() == "old, somebody else's"
    assert "retry" not in result.stdout
    assert left_in(place) == {"overtaken", "shared"}


@pytest.mark.box
def test_two_backfills_of_the_same_days_at_once_make_each_day_once(place: Path) -> None:
    words = ["backfill", "wrong.py", "Day", "--from", "2010-01-01", "--to", "2010-01-13", "--durability", "relaxed"]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "JUBAKO_STATE": str(place / "state")}
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "jubako", *words],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(outputs)
    done = [line.partition("done    ")[2].partition("  ")[0] for output in outputs for line in output.splitlines()]
    done = sorted(filter(None, done))
    assert done == [f"Day(date=2010-01-{day:02})" for day in range(1, 13)]
    assert len(list((place / "days").iterdir())) == 12


@pytest.mark.parametrize("how", [["--dry-run"], ["--box", "none"]], ids=" ".join)
def test_planning_that_is_interrupted_ends_quietly(place: Path, how: list[str]) -> None:
    (place / "endless.py").write_text(ENDLESS)
    process = subprocess.Popen(
        [sys.executable, "-m", "jubako", "backfill", "endless.py", "Day", "--from", "0001-01-01", "--to", "0020-01-01"]
        + how,
        cwd=place,
        env={**os.environ, "PYTHONPATH": SOURCE, "JUBAKO_STATE": str(place / "state")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err) == ("", "Interrupted.\n")
    assert list((place / "state").glob("stage/*")) == []
