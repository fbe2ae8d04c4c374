"""Corners of Luigi that pipelines lean on without knowing: processes, bulk completeness, namespaces, shared files."""

from __future__ import annotations

import os
import time

import luigi


class Written(luigi.Task):
    """Writes one file of its own; the base of most others here."""

    n = luigi.IntParameter(default=0)

    def output(self):
        return luigi.LocalTarget(f"{type(self).__name__}/{self.n}")

    def run(self):
        with self.output().open("w") as file:
            file.write(str(self))


class Sleeps(Written):
    worker_timeout = 1

    def run(self):
        time.sleep(30)


class Dies(Written):
    def run(self):
        os._exit(3)


class Exits(Written):
    def run(self):
        raise SystemExit(3)


class Beside(luigi.WrapperTask):
    """One that ends badly beside one that doesn't."""

    of = luigi.TaskParameter()

    def requires(self):
        return self.of(), Written(n=5)


class Bulk(luigi.Task):
    day = luigi.DateParameter()
    k = luigi.IntParameter(default=1)

    @classmethod
    def bulk_complete(cls, parameters):
        return [day for day in parameters if day.day % 2]

    def output(self):
        return luigi.LocalTarget(f"bulk/{self.day}-{self.k}")

    def run(self):
        with self.output().open("w") as file:
            file.write("x")


class Part(luigi.Task):
    day = luigi.DateParameter()
    k = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(f"parts/{self.k}/{self.day}")

    def run(self):
        with self.output().open("w") as file:
            file.write("x")


class Day(luigi.WrapperTask):
    day = luigi.DateParameter()

    def requires(self):
        return [Part(self.day, k) for k in (1, 2)]


class Quiet(luigi.Task):
    """Has no output and is never complete."""

    day = luigi.DateParameter()


class Minute(luigi.Task):
    minute = luigi.DateMinuteParameter()

    def output(self):
        return luigi.LocalTarget(f"minutes/{self.minute:%Y-%m-%dT%H%M}")

    def run(self):
        with self.output().open("w") as file:
            file.write("x")


class Link(Written):
    def requires(self):
        return [Link(n=self.n - 1)] if self.n else []


class Greedy(Written):
    resources = {"gold": 2}  # noqa: RUF012


class Greed(luigi.WrapperTask):
    def requires(self):
        return [Greedy(n=n) for n in range(3)]


class SharedOne(Written):
    def output(self):
        return luigi.LocalTarget("shared")

    def run(self):
        with self.output().open("w") as file:
            file.write("by either")


class SharedTwo(SharedOne):
    pass


class Shared(luigi.WrapperTask):
    def requires(self):
        return [SharedOne(), SharedTwo()]


class BadExternal(luigi.ExternalTask):
    def complete(self):
        return self.undefined


class Folder(luigi.Task):
    def output(self):
        return luigi.LocalTarget("folder/")

    def run(self):
        with self.output().temporary_path() as path:
            os.makedirs(path)
            with open(os.path.join(path, "a"), "w") as file:
                file.write("a")


class Yields(Written):
    def requires(self):
        yield Written(n=7)
        yield Written(n=8)

    def run(self):
        with self.output().open("w") as file:
            file.write(str([target.path for target in self.input()]))


class Ring(Written):
    def requires(self):
        return Ring(n=1 - self.n)


class NeedsText(Written):
    def requires(self):
        return [Written(), "text"]


luigi.namespace("deep.er")


class Spaced(luigi.Task):
    x = luigi.Parameter(default="a")

    def output(self):
        return luigi.LocalTarget(f"spaced-{self.x}")

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self} {self.task_id}")


luigi.namespace()
