"""The ways into a run from Python: a script of one's own, a module, a thread; with and without saying the pipeline."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import enum, sys
from jubako import LocalTarget, Task, run
from jubako.flow.parameters import EnumParameter, IntParameter

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Paint(Task):
    colour = EnumParameter(enum=Colour)
    coats = IntParameter(default=2)

    def output(self):
        return LocalTarget(f"{self.colour.name}-{self.coats}.txt")

    def run(self):
        if self.coats > 1:
            yield Paint(self.colour, self.coats - 1)
        with self.output().open("w") as file:
            file.write(f"{self.colour} {__name__}")

if __name__ == "__main__":
    result = run([Paint(Colour.RED)], state=sys.argv[1], box=sys.argv[2], durability="relaxed")
    print("\\n".join(result.format_report()))
    sys.exit(0 if result else 1)
"""

BOXES = ["none", pytest.param("host", marks=pytest.mark.box)]


def execute(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("box", BOXES)
def test_script_runs_its_own_tasks(tmp_path: Path, box: str) -> None:
    (tmp_path / "paint.py").write_text(SCRIPT)
    done = execute(tmp_path, "paint.py", str(tmp_path / "state"), box)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "RED-2.txt").read_text().startswith("Colour.RED ")
    assert (tmp_path / "RED-1.txt").exists()


@pytest.mark.parametrize("box", BOXES)
def test_module_run_with_python_m_runs_its_own_tasks(tmp_path: Path, box: str) -> None:
    (tmp_path / "house").mkdir()
    (tmp_path / "house/__init__.py").touch()
    (tmp_path / "house/paint.py").write_text(SCRIPT)
    done = execute(tmp_path, "-m", "house.paint", str(tmp_path / "state"), box)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "RED-2.txt").exists()


@pytest.mark.parametrize("box", BOXES)
def test_tasks_of_an_imported_module_need_no_pipeline(tmp_path: Path, box: str) -> None:
    (tmp_path / "paint.py").write_text(SCRIPT)
    (tmp_path / "start.py").write_text(
        "import sys\nfrom jubako import run\nfrom paint import Colour, Paint\n"
        "sys.exit(0 if run([Paint(Colour.BLUE, 1)], state=sys.argv[1], box=sys.argv[2]) else 1)\n"
    )
    done = execute(tmp_path, "start.py", str(tmp_path / "state"), box)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "BLUE-1.txt").read_text() == "Colour.BLUE paint"


@pytest.mark.box
def test_tasks_typed_at_a_prompt_are_refused_in_boxes(tmp_path: Path) -> None:
    code = (
        "from jubako import Task, run\nclass T(Task):\n    def run(self): pass\n"
        f"run([T()], state={str(tmp_path / 'state')!r})\n"
    )
    done = execute(tmp_path, "-c", code)
    assert "__main__ cannot run in boxes" in done.stderr


ONE = """
class One(Task):
    def output(self):
        return LocalTarget("one.txt")

    def run(self):
        with self.output().open("w"):
            pass
"""


def test_run_in_another_thread_works(world: Any) -> None:
    world.write(ONE)
    results = []
    thread = threading.Thread(target=lambda: results.append(world.run(world.One(), box="none")))
    thread.start()
    thread.join()
    assert [bool(result) for result in results] == [True]


def test_run_of_nothing_is_there_already(world: Any) -> None:
    world.write(ONE)
    result = world.run(box="none")
    assert result
    assert "Did not schedule any tasks" in result.format_summary()


def test_run_leaves_signal_handlers_as_they_were(world: Any) -> None:
    import signal

    world.write(ONE)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    world.run(world.One(), box="none")
    assert [signal.getsignal(number) for number in numbers] == before


def test_json_of_a_result_can_be_written(world: Any) -> None:
    import json

    world.write(ONE)
    document = json.loads(json.dumps(world.run(world.One(), box="none").to_json()))
    assert document["counts"]["done"] == 1
    assert (document["mode"], document["everything_there"], document["version"]) == ("none", True, 1)
