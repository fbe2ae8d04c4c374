"""Requirements found while running: an index says which pages there are, and a page which pictures are in it."""

from __future__ import annotations

import luigi


class Picture(luigi.Task):
    name = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(f"pictures/{self.name}")

    def run(self):
        if self.name == "torn":
            raise ValueError("torn")
        with self.output().open("w") as file:
            file.write(self.name.upper())


class Index(luigi.Task):
    pages = luigi.ListParameter(default=["a", "bb", "ccc"])

    def output(self):
        return luigi.LocalTarget("index.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write("\n".join(self.pages))


class Page(luigi.Task):
    name = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(f"pages/{self.name}")

    def run(self):
        pictures = yield [Picture(name=letter) for letter in dict.fromkeys(self.name)]
        cover = yield Picture(name="torn" if self.name == "torn" else "cover")
        with self.output().open("w") as file:
            for target in [*pictures, cover]:
                with target.open() as source:
                    file.write(source.read())


class Book(luigi.Task):
    pages = luigi.ListParameter(default=["a", "bb", "ccc"])

    def requires(self):
        return self.clone(Index)

    def output(self):
        return luigi.LocalTarget("book.txt")

    def run(self):
        with self.input().open() as file:
            names = file.read().split()
        wanted = luigi.DynamicRequirements(
            [Page(name=name) for name in names], lambda complete: all(complete(Page(name=name)) for name in names)
        )
        pages = yield wanted
        with self.output().open("w") as file:
            for page in pages:
                with page.open() as source:
                    file.write(source.read() + "\n")
