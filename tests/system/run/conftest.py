"""Real pipelines in files of their own, really run: what the tests of whole runs share."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from jubako.flow.loader import Pipeline, load_pipeline
from jubako.flow.observer import Observer, RunEvent
from jubako.flow.result import RunResult
from jubako.flow.run.runner import run
from jubako.flow.tasks.register import Register
from jubako.testing import RecordingObserver

_serial = itertools.count()

HEAD = """
import datetime, os, subprocess, sys, time
from jubako import Box, DateParameter, DirectoryTarget, ExternalTask, LocalTarget, Parameter, Task, WrapperTask
from jubako.flow.tasks.event import Event
from jubako.flow.parameters import IntParameter, ListParameter
"""


class World:
    """A folder with a pipeline in it, a state root, and what the last run said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.state = folder / "state"
        self.shared = folder / "shared"  # for boxes that bind it
        self.folder.mkdir()
        self.shared.mkdir()
        self.seen = RecordingObserver()
        self.pipeline: Pipeline

    def write(self, text: str) -> Pipeline:
        """Makes `text` (after the usual imports) the pipeline."""
        file = self.folder / f"pipeline_{os.getpid()}_{next(_serial)}.py"
        file.write_text(HEAD + dedent(text))
        self.pipeline = load_pipeline(str(file))
        return self.pipeline

    def __getattr__(self, name: str) -> Any:
        """A task class of the pipeline."""
        try:
            return self.pipeline.tasks[name]
        except KeyError:
            raise AttributeError(name) from None

    def run(self, *tasks: Any, also: Observer | None = None, **options: Any) -> RunResult:
        """Runs `tasks` of the pipeline; `also` is a second observer."""
        self.seen = RecordingObserver()
        self.also = also
        options = {"durability": "relaxed", "state": str(self.state), "pipeline": self.pipeline, **options}
        return run(list(tasks), observer=self, **options)

    def see(self, event: RunEvent) -> None:
        self.seen.see(event)
        if self.also is not None:
            self.also.see(event)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def files(self) -> dict[str, bytes]:
        """Everything in the folder but the pipeline, by path."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b"(directory)"
            for path in sorted(self.folder.rglob("*"))
            if not path.name.startswith("pipeline_") and "__pycache__" not in path.parts
        }

    def left_in_state(self) -> list[str]:
        """What a run that is over has left beside the ledger, logs and kept boxes."""
        return [str(path.relative_to(self.state)) for path in (self.state / "stage").rglob("*")]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    classes, modules, path = list(Register._reg), set(sys.modules), list(sys.path)
    world = World(tmp_path)
    monkeypatch.chdir(world.folder)
    yield world
    assert world.left_in_state() == []
    Register._reg[:] = classes
    Register.clear_instance_cache()
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("pipeline_"):
            del sys.modules[name]
