"""What a run's result says about a failure."""

from __future__ import annotations

import json
import traceback

import pytest

import jubako.flow.result
from jubako.flow.result import TaskError


def traceback_through(*files: str) -> str:
    frames = "".join(f'  File "{file}", line {number}, in run\n    code()\n' for number, file in enumerate(files, 1))
    return f"Traceback (most recent call last):\n{frames}ValueError: no\n"


@pytest.mark.parametrize(
    ("files", "place"),
    [
        (["/data/pipeline.py"], "/data/pipeline.py:1, in run"),
        (["/data/pipeline.py", "/data/parts.py"], "/data/parts.py:2, in run"),
        (["/data/pipeline.py", json.__file__, traceback.__file__], "/data/pipeline.py:1, in run"),
        (["/data/pipeline.py", jubako.flow.result.__file__], "/data/pipeline.py:1, in run"),
        (["/data/pipeline.py", "/venv/lib/python3/site-packages/pandas/io.py"], "/data/pipeline.py:1, in run"),
        ([json.__file__], f"{json.__file__}:1, in run"),
        ([], ""),
    ],
)
def test_place_of_a_failure_is_the_pipelines_own_innermost_line(files: list[str], place: str) -> None:
    assert TaskError("T_1", "T()", "ValueError: no", traceback_through(*files)).place == place
