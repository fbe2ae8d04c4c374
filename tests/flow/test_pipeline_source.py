"""Where tasks belong, when nobody says it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.errors import InputError
from jubako.flow.loader import load_pipeline
from jubako.flow.pipeline_source import find_belonging
from jubako.flow.tasks.task import Task


class Here(Task):
    pass


def test_tasks_belong_to_the_file_of_the_first(tmp_path: Path) -> None:
    belonging = find_belonging([Here()], None)
    assert belonging.name == os.path.realpath(__file__)
    assert belonging.get_source().module.endswith("test_pipeline_source")
    assert not belonging.is_main


def test_pipeline_that_was_said_counts(tmp_path: Path) -> None:
    (tmp_path / "said_pipeline.py").write_text("from jubako import Task\nclass T(Task):\n    pass\n")
    pipeline = load_pipeline(str(tmp_path / "said_pipeline.py"))
    belonging = find_belonging([Here()], pipeline)
    assert (belonging.name, belonging.get_source()) == (pipeline.file, pipeline.source)


def test_tasks_of_no_file_have_a_name_and_no_source() -> None:
    class Nowhere(Task):
        pass

    Nowhere.__module__ = "not.a.module"
    belonging = find_belonging([Nowhere()], None)
    assert belonging.name == "not.a.module"
    with pytest.raises(InputError, match=r"not\.a\.module cannot run in boxes"):
        belonging.get_source()


def test_no_tasks_belong_nowhere() -> None:
    assert find_belonging([], None).name == ""
