"""External programs: text sorted by sort, counted by a Python program, one that fails, and one that is followed."""

from __future__ import annotations

import sys

import luigi
from luigi.contrib.external_program import (
    ExternalProgramRunError,
    ExternalProgramTask,
    ExternalPythonProgramTask,
)
from luigi.contrib.simulate import RunAnywayTarget

COUNT = """
import os, sys
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as target:
    target.write(f"{len(source.readlines())} lines, {os.environ['PYTHONPATH'].split(':')[0]}")
"""


class Text(luigi.ExternalTask):
    def output(self):
        return luigi.LocalTarget("text.txt")


class Sorted(ExternalProgramTask):
    def requires(self):
        return Text()

    def output(self):
        return luigi.LocalTarget("sorted.txt")

    def program_args(self):
        return ["sort", "-o", self.output().path, self.input().path]


class Counted(ExternalPythonProgramTask):
    def requires(self):
        return Sorted()

    def output(self):
        return luigi.LocalTarget("counted.txt")

    def program_args(self):
        return [sys.executable, "-c", COUNT, self.input().path, self.output().path]


class Fails(ExternalProgramTask):
    status = luigi.IntParameter(default=3)

    def output(self):
        return luigi.LocalTarget("never.txt")

    def program_args(self):
        return ["sh", "-c", f"echo said; echo complained >&2; exit {self.status}"]

    def on_failure(self, exception):
        assert isinstance(exception, ExternalProgramRunError)
        with luigi.LocalTarget("failure.txt").open("w") as file:
            file.write(f"{exception.message}|{exception.out}|{exception.err}")
        return super().on_failure(exception)


class Announce(luigi.Task):
    """Runs in every run."""

    def requires(self):
        return Counted()

    def output(self):
        return RunAnywayTarget(self)

    def run(self):
        with open("announced.txt", "a") as file:
            file.write("once more\n")
        self.output().done()
