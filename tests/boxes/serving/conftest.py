"""The compiled first process of boxes, made once for all tests of servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.serving.compiled import find_compiled_first
from jubako.boxes.state import open_state_root

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk

__all__ = ["has_program", "place_program"]


@pytest.fixture(scope="session")
def compiled_first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = find_compiled_first(open_state_root(str(tmp_path_factory.mktemp("state"))))
    assert program, "there is no C compiler"
    return Path(program)


def place_program(desk: Desk, program: Path) -> Path:
    """Puts the program where a server of the desk's user looks for it; where that is."""
    data = program.read_bytes()

    def place() -> str:
        folder = Path(desk.state.path, "compiled")
        folder.mkdir(exist_ok=True)
        Path(folder, program.name).write_bytes(data)
        Path(folder, program.name).chmod(0o755)
        return str(folder / program.name)

    return Path(desk.do(place))


def has_program(desk: Desk) -> bool:
    return Path(desk.state_path, "compiled").exists()
