"""One pipeline in every way of running it: in this process, forked, in boxes. The bytes are the same."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.observer import RunStarted
from jubako.kernel.processors import count_processors

PIPELINE = """
FIRST = datetime.date(2024, 1, 31)

def read(target):
    with target.open() as file:
        return file.read()

class Raw(ExternalTask):
    def output(self):
        return LocalTarget("raw.txt")

class Day(Task):
    date = DateParameter()

    def requires(self):
        return Raw()

    def output(self):
        return LocalTarget(f"days/{self.date:%Y/%m}/{self.date}.txt")

    def run(self):
        with self.input().open() as raw, self.output().open("w") as file:
            file.write(f"{self.date} {raw.read()}" * 3)

    def check(self):
        assert read(self.output()).count(str(self.date)) == 3

class Tree(Task):
    date = DateParameter()

    def requires(self):
        return [Day(self.date), Day(self.date + datetime.timedelta(days=1))]

    def output(self):
        return [DirectoryTarget(f"trees/{self.date}"), LocalTarget(f"marks/{self.date}")]

    def run(self):
        with self.output()[0].temporary_path() as folder:
            os.makedirs(f"{folder}/below")
            for target in self.input():
                with open(f"{folder}/below/{os.path.basename(target.path)}", "w") as file:
                    file.write(read(target).upper())
        os.makedirs("marks", exist_ok=True)
        with open(self.output()[1].path, "w") as file:  # by name, not through the target
            file.write("done")

class All(WrapperTask):
    def requires(self):
        return [Tree(FIRST + datetime.timedelta(days=n)) for n in range(29)]
"""

MODES = [
    pytest.param({"box": "none"}, id="in-process"),
    pytest.param({"box": "none", "workers": 2}, id="forked"),
    pytest.param({"box": "host", "workers": 2}, id="boxed", marks=pytest.mark.box),
]


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, bytes]]:
    """What the first mode made, for the others to compare with."""
    return {}


@pytest.mark.parametrize("options", MODES)
def test_sixty_tasks_make_the_same_bytes_in_every_mode(
    world: Any, options: dict[str, Any], reference: dict[str, dict[str, bytes]]
) -> None:
    world.write(PIPELINE)
    (world.folder / "raw.txt").write_text("raw\n")
    result = world.run(world.All(), **options)
    assert result.errors == ()
    assert result.everything_there
    assert result.mode == options["box"]
    assert result.counts == {
        "complete": 1, "done": 60, "failed": 0, "unscheduled": 0, "missing": 0, "pending": 0,
    }  # fmt: skip
    assert world.files() == reference.setdefault("files", world.files())
    assert sum(content != b"(directory)" for content in world.files().values()) == 1 + 30 + 29 * 3


@pytest.mark.parametrize("options", MODES)
def test_second_run_does_nothing_and_says_so(world: Any, options: dict[str, Any]) -> None:
    world.write(PIPELINE)
    (world.folder / "raw.txt").write_text("raw\n")
    date = world.pipeline.tasks["Day"].get_params()[0][1].parse("2024-02-01")
    world.run(world.Tree(date), **options)
    before = world.files()
    again = world.run(world.Tree(date), **options)
    assert again.everything_there
    assert again.counts["done"] == 0
    assert "Did not run any tasks" in again.format_summary()
    assert again.format_report()[-1].startswith("nothing was run")
    assert world.files() == before


def test_workers_auto_are_as_many_as_there_are_processors(world: Any) -> None:
    world.write(
        """
        class Nothing(Task):
            def complete(self):
                return True
        """
    )
    world.run(world.Nothing(), box="none", workers="auto")
    (started,) = world.seen.of(RunStarted)
    assert started.workers == count_processors()
