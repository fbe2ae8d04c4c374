"""What is called when: Luigi's order without a box; in a box SUCCESS and FAILURE wait for publishing and discarding."""

from __future__ import annotations

import sys
from typing import Any

import pytest

PIPELINE = """
SEEN = []

class Told(Task):
    fails = IntParameter(default=0)

    def output(self):
        return LocalTarget(f"told-{self.fails}.txt")

    def run(self):
        SEEN.append("run")
        with self.output().open("w"):
            pass
        self.trigger_event(Event.PROGRESS, self, "half")
        if self.fails:
            raise OSError(28, "No space left on device")

    def on_success(self):
        SEEN.append(("on_success", self.output().exists()))

    def on_failure(self, exception):
        SEEN.append(("on_failure", type(exception).__name__, self.output().exists()))

for name in ("START", "PROGRESS", "SUCCESS", "FAILURE", "PROCESSING_TIME"):
    Told.event_handler(getattr(Event, name))(lambda *arguments, name=name: SEEN.append(name))
"""


def seen_by(world: Any) -> list[Any]:
    seen: list[Any] = sys.modules[world.pipeline.source.module].SEEN
    return seen


def test_unboxed_success_is_told_in_luigis_order(world: Any) -> None:
    world.write(PIPELINE)
    world.run(world.Told(), box="none")
    assert seen_by(world) == ["START", "run", "PROGRESS", "PROCESSING_TIME", ("on_success", True), "SUCCESS"]


def test_unboxed_failure_is_told_in_luigis_order(world: Any) -> None:
    world.write(PIPELINE)
    world.run(world.Told(1), box="none")
    assert seen_by(world) == ["START", "run", "PROGRESS", "FAILURE", ("on_failure", "OSError", True)]


@pytest.mark.box
def test_boxed_success_is_told_after_publishing(world: Any) -> None:
    world.write(PIPELINE)
    world.run(world.Told())
    assert seen_by(world) == ["PROCESSING_TIME", ("on_success", True), "SUCCESS"]


@pytest.mark.box
def test_boxed_failure_is_told_after_discarding_with_the_exception_itself(world: Any) -> None:
    world.write(PIPELINE)
    world.run(world.Told(1))
    assert seen_by(world) == ["FAILURE", ("on_failure", "OSError", False)]


@pytest.mark.box
def test_on_success_that_raises_is_said_and_takes_nothing_back(world: Any) -> None:
    world.write(
        """
        class Proud(Task):
            def output(self):
                return LocalTarget("proud.txt")

            def run(self):
                with self.output().open("w"):
                    pass

            def on_success(self):
                raise RuntimeError("too proud")
        """
    )
    result = world.run(world.Proud())
    assert not result
    assert result.counts["done"] == 1
    assert [error.sentence for error in result.errors] == [
        "it is published, but on_success() raised RuntimeError: too proud"
    ]
    assert world.files() == {"proud.txt": b""}


AFTER = """
class Tells(Task):
    n = IntParameter()
    box = Box(binds=[SHARED])

    def output(self):
        return LocalTarget(f"tells-{self.n}.txt")

    def run(self):
        with self.output().open("w"):
            pass

    def after_publish(self):
        if os.path.exists(f"{SHARED}/down"):
            raise ConnectionError("no route to host")
        with open(f"{SHARED}/calls", "a") as file:
            file.write(f"{self.n} {os.path.exists(self.output().path)}\\n")
"""

MODES = [
    pytest.param({"box": "none"}, id="in-process"),
    pytest.param({"box": "none", "workers": 2}, id="forked"),
    pytest.param({"workers": 2}, id="boxed", marks=pytest.mark.box),
]


@pytest.mark.parametrize("options", MODES)
def test_after_publish_is_called_once_everything_is_in_place(world: Any, options: dict[str, Any]) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{AFTER}")
    assert world.run(world.Tells(1), world.Tells(2), **options)
    assert sorted((world.shared / "calls").read_text().splitlines()) == ["1 True", "2 True"]
    assert world.run(world.Tells(1), **options)
    assert len((world.shared / "calls").read_text().splitlines()) == 2


@pytest.mark.parametrize("options", MODES)
def test_after_publish_that_fails_is_owed_and_called_by_the_next_run(world: Any, options: dict[str, Any]) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{AFTER}")
    (world.shared / "down").touch()
    result = world.run(world.Tells(1), **options)
    assert not result
    assert result.counts["done"] == 1
    (error,) = result.errors
    assert "ConnectionError: no route to host" in error.sentence
    assert not world.run(world.Tells(1), **options)
    (world.shared / "down").unlink()
    assert world.run(world.Tells(1), **options)
    assert (world.shared / "calls").read_text() == "1 True\n"
