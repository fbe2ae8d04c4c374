"""What can go wrong, one task each."""

from __future__ import annotations

import luigi


class Fine(luigi.Task):
    n = luigi.IntParameter(default=0)

    def output(self):
        return luigi.LocalTarget(f"fine-{self.n}")

    def run(self):
        with self.output().open("w") as file:
            file.write("fine")


class Raises(Fine):
    def run(self):
        raise ValueError("raised")


class HalfDone(luigi.Task):
    def output(self):
        return [luigi.LocalTarget("first-half"), luigi.LocalTarget("second-half")]

    def run(self):
        with self.output()[0].open("w") as file:
            file.write("half")
        with self.output()[1].open("w") as file:
            file.write("ha")
            raise ValueError("torn")


class MakesNothing(Fine):
    def run(self):
        pass


class Missing(luigi.ExternalTask):
    def output(self):
        return luigi.LocalTarget("not-there")


class BadComplete(Fine):
    def complete(self):
        raise ValueError("complete")


class BadRequires(Fine):
    def requires(self):
        raise ValueError("requires")


class Disabled(Fine):
    disabled = True


class BadSuccess(Fine):
    def on_success(self):
        raise ValueError("on_success")


class NeedsOf(luigi.Task):
    what = luigi.Parameter()

    def requires(self):
        return [globals()[name](n=9) if name != "Missing" else Missing() for name in self.what.split(",")]

    def output(self):
        return luigi.LocalTarget(f"needs-{self.what}")

    def run(self):
        with self.output().open("w") as file:
            file.write("needs")


class Chain(luigi.Task):
    what = luigi.Parameter()

    def requires(self):
        return NeedsOf(what=self.what)

    def output(self):
        return luigi.LocalTarget("chain")


class Hidden(luigi.Task):
    name = luigi.Parameter()
    empty = luigi.Parameter(default="full")
    flag = luigi.BoolParameter()
    explicit = luigi.BoolParameter(parsing=luigi.BoolParameter.EXPLICIT_PARSING)
    numbers = luigi.ListParameter(default=[1, 2])
    other = luigi.TaskParameter(default=Fine)
    maybe = luigi.OptionalIntParameter(default=None)

    def output(self):
        return luigi.LocalTarget("values")

    def run(self):
        with self.output().open("w") as file:
            for name, _ in self.get_params():
                file.write(f"{name}={getattr(self, name)!r}\n".replace("trouble.", ""))
            file.write(f"{self.task_id}\n")


class Clash(luigi.Task):
    workers = luigi.IntParameter(default=1)


class Boxes(luigi.Task):
    """Has a parameter that jubako has a flag for."""

    box = luigi.Parameter()

    def run(self):
        print(self.box)
