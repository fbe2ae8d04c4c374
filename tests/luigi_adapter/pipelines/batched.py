"""Parts that run as one, of which it makes only its own output, and something that is no parameter to Luigi."""

from __future__ import annotations

import luigi


class Part(luigi.Task):
    number = luigi.IntParameter(batch_method=max)
    lines: int = 3

    def output(self):
        return luigi.LocalTarget(f"parts/{self.number}.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write("line\n" * self.lines)


class Parts(luigi.WrapperTask):
    def requires(self):
        return [Part(number) for number in range(4)]


class Few(Parts):
    def requires(self):
        return [Few.Pair(number) for number in range(3)]

    class Pair(Part):
        max_batch_size = 2
