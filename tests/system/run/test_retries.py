"""Tasks that fail and are tried again: how often, and how long after."""

from __future__ import annotations

from typing import Any

import pytest

PIPELINE = """
class Flaky(Task):
    retry_count = 4
    retry_delay_s = 0.01
    retry_backoff = 3
    tries = IntParameter(default=3)

    def output(self):
        return LocalTarget("flaky.txt")

    def run(self):
        with open(SHARED + "/tries", "a+") as file:
            file.write(f"{time.monotonic()} ")
            file.seek(0)
            tries = len(file.read().split())
        if tries < self.tries:
            raise ValueError(f"try {tries}")
        with self.output().open("w") as file:
            file.write(str(tries))
"""


@pytest.fixture(
    params=[
        pytest.param({"box": "none"}, id="in-process"),
        pytest.param({"box": "host", "workers": 2}, id="boxed", marks=pytest.mark.box),
    ]
)
def mode(request: pytest.FixtureRequest, world: Any) -> Any:
    box = f"Flaky.box = Box(binds=[{str(world.shared)!r}])\n"
    world.write(f"SHARED = {str(world.shared)!r}\n{PIPELINE}\n{box}")
    return request.param


def test_task_is_tried_again_after_waits_that_grow(world: Any, mode: Any) -> None:
    result = world.run(world.Flaky(), **mode)
    assert result, result.format_report()
    assert world.read("flaky.txt") == "3"
    first, second, third = map(float, (world.shared / "tries").read_text().split())
    assert second - first >= 0.01
    assert third - second >= 0.03


def test_task_is_tried_no_more_often_than_it_may_be(world: Any, mode: Any) -> None:
    result = world.run(world.Flaky(tries=9), **mode)
    assert not result
    assert len((world.shared / "tries").read_text().split()) == 4
    assert "ValueError: try 4" in "\n".join(result.format_report())


def test_delay_of_a_task_that_cannot_be_is_named(world: Any, mode: Any) -> None:
    world.Flaky.retry_backoff = 0.5
    result = world.run(world.Flaky(), **mode)
    assert "Flaky(tries=3): a back-off factor of 0.5 is less than 1" in "\n".join(result.format_report())
    assert not (world.shared / "tries").exists()
