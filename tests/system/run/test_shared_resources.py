"""Runs of different pipelines that share a resource: never more of it is in use than there is, and all ends well."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

PIPELINE = """
class Use(Task):
    n = IntParameter()
    resources = {"gpu": 1}
    box = Box(binds=[SHARED])

    def output(self):
        return LocalTarget(f"{NAME}-{self.n}.txt")

    def run(self):
        os.mkdir(f"{SHARED}/in-use")  # raises if somebody else has it
        time.sleep(0.01)
        os.rmdir(f"{SHARED}/in-use")
        with self.output().open("w") as file:
            file.write("done")

class All(WrapperTask):
    def requires(self):
        return [Use(n) for n in range(4)]
"""

SCRIPT = """
import sys
from jubako.flow.loader import load_pipeline
from jubako.flow.run.runner import run
pipeline = load_pipeline(sys.argv[1])
result = run([pipeline.tasks["All"]()], pipeline=pipeline, state=sys.argv[2], box=sys.argv[3], durability="relaxed",
             workers=2, shared_resources={"gpu": 1})
print("\\n".join(result.format_report()))
sys.exit(0 if result else 1)
"""


@pytest.mark.parametrize(
    "box", [pytest.param("none", id="forked"), pytest.param("host", id="boxed", marks=pytest.mark.box)]
)
def test_runs_of_two_pipelines_take_turns(world: Any, box: str) -> None:
    runs = []
    for name in ("first", "second"):
        pipeline = world.write(f"SHARED, NAME = {str(world.shared)!r}, {name!r}\n{PIPELINE}")
        arguments = [str(pipeline.source.file), str(world.state), box]
        runs.append(
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, *arguments],
                cwd=world.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for process in runs:
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed
    assert len(world.files()) == 8


def test_task_that_needs_more_than_all_runs_have_is_never_run(world: Any) -> None:
    world.write(f"SHARED, NAME = {str(world.shared)!r}, 'only'\n{PIPELINE}")
    world.Use.resources = {"gpu": 2}
    result = world.run(world.Use(1), box="none", resources={"gpu": 9}, shared_resources={"gpu": 1})
    assert not result
    assert world.files() == {}
