"""Two tasks with faults, to see what happens: one fails half-way, one writes what it did not declare.

    jubako run examples/faulty HalfWay --keep
    jubako run examples/faulty Untidy

Neither leaves anything that was not asked for.
"""

from __future__ import annotations

from pathlib import Path

from jubako import LocalTarget, Task

OUT = Path(__file__).resolve().parent / "out"


class HalfWay(Task):
    """Writes the first of its two outputs, then finds that it cannot make the second."""

    def output(self) -> dict[str, LocalTarget]:
        return {"rows": LocalTarget(str(OUT / "rows.csv")), "mean": LocalTarget(str(OUT / "mean.txt"))}

    def run(self) -> None:
        amounts: list[float] = []
        with self.output()["rows"].open("w") as file:
            file.write("customer,amount\n")
        with self.output()["mean"].open("w") as file:
            file.write(f"{sum(amounts) / len(amounts)}\n")


class Untidy(Task):
    """Writes its output, and a log beside it that nobody declared."""

    def output(self) -> LocalTarget:
        return LocalTarget(str(OUT / "report.txt"))

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("all is well\n")
        (OUT / "debug.log").write_text("left by accident\n")
