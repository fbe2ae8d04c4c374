"""Living boxes for tests: made by a user at a desk, and all removed afterwards, whatever became of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from jubako.boxes.living.living_box import LivingBox, create_box, living_boxes
from jubako.boxes.living.program import PIPE

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk

Result = TypeVar("Result")


@dataclass(frozen=True)
class Nursery:
    """`do` calls a function as the user, at home; there `create` makes boxes, and `read` runs a script in one."""

    desk: Desk

    def do(self, function: Callable[[], Result]) -> Result:
        return self.desk.do(function)

    def create(self, argv: Sequence[str] = (), **options: Any) -> LivingBox:
        return create_box(argv, **{"state": self.desk.state} | options)

    def read(self, box: LivingBox, script: str, **options: Any) -> str:
        """What a shell script prints in the box, its status after it if that isn't 0."""
        with box.start_program(["/bin/sh", "-c", script], stdio=(PIPE, PIPE, PIPE), **options) as program:
            out, err = program.communicate()
            return os.fsdecode(out + err) + (f"status {program.exit_status}\n" if program.exit_status else "")


@pytest.fixture
def nursery(desk: Desk) -> Iterator[Nursery]:
    try:
        yield Nursery(desk)
    finally:
        desk.do(lambda: [box.remove(force=True) for box in living_boxes(desk.state)])
