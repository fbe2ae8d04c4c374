"""Fan out, fan in: a corpus cut into shards, each counted by itself, all counts merged, then ranked."""

from __future__ import annotations

import collections

import luigi
from luigi.format import UTF8, Gzip

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "the", "fox", "runs"]


class Shard(luigi.Task):
    number = luigi.IntParameter()
    shards = luigi.IntParameter(default=4)

    def output(self):
        return luigi.LocalTarget(f"shards/{self.number}-of-{self.shards}.txt.gz", format=UTF8 >> Gzip)

    def run(self):
        with self.output().open("w") as file:
            file.write("\n".join(WORDS[self.number :: self.shards]))


class Count(luigi.Task):
    number = luigi.IntParameter()
    shards = luigi.IntParameter(default=4)
    fails = luigi.BoolParameter(default=False, significant=False)
    resources = {"cpu": 1}  # noqa: RUF012

    def requires(self):
        return self.clone(Shard)

    def output(self):
        return {
            "counts": luigi.LocalTarget(f"counts/{self.number}.txt"),
            "log": luigi.LocalTarget(f"log/{self.number}"),
        }

    def run(self):
        with self.input().open() as source:
            counts = collections.Counter(source.read().split())
        with self.output()["counts"].open("w") as target:
            for word, count in sorted(counts.items()):
                target.write(f"{word} {count}\n")
        if self.fails and self.number == 2:
            raise RuntimeError(f"shard {self.number} is broken")
        with self.output()["log"].open("w") as target:
            target.write("fine\n")


class Merge(luigi.Task):
    shards = luigi.IntParameter(default=4)
    fails = luigi.BoolParameter(default=False)

    def requires(self):
        return {n: Count(number=n, shards=self.shards, fails=self.fails) for n in range(self.shards)}

    def output(self):
        return luigi.LocalTarget("merged.txt")

    def run(self):
        counts = collections.Counter()
        for part in self.input().values():
            with part["counts"].open() as source:
                for line in source:
                    word, count = line.split()
                    counts[word] += int(count)
        with self.output().open("w") as target:
            target.writelines(f"{word} {count}\n" for word, count in sorted(counts.items()))


class Everything(luigi.WrapperTask):
    def requires(self):
        yield Merge()
        yield Count(number=7, shards=9)
