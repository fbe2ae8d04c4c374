"""The pipeline in examples/attention as it stands: a real model's attention, derived again before it is published."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from example_runs import copy_examples, jubako
from jubako.attention import Maps

pytestmark = pytest.mark.box

WRONG = """
import pipeline

right = pipeline.load

def load(folder):
    model, tokenizer = right(folder)
    values = model.encoder.layer[3].attention.self.value
    values.register_forward_hook(lambda module, given, output: output * 1.01)
    return model, tokenizer

pipeline.load = load
DayOfAttention = pipeline.DayOfAttention
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return copy_examples(tmp_path)


def test_days_are_published_with_the_maps_of_all_layers(place: Path) -> None:
    ended = jubako(
        *(place, "backfill", "examples/attention", "DayOfAttention", "--from", "2010-07-04", "--to", "2010-07-06")
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 wanted = 2 run" in ended.stdout
    out = place / "examples/attention/out"
    assert sorted(os.listdir(out)) == [f"2010-07-0{day}.{name}" for day in (4, 5) for name in ("html", "npz", "txt")]
    maps = Maps.load(out / "2010-07-04.npz")
    assert maps.weights.shape[:2] == (6, 12)
    assert np.abs(maps.weights.sum(axis=-1) - 1).max() < 1e-6
    assert "july" in maps.keys
    assert "july" in (out / "2010-07-04.html").read_text()


def test_day_whose_attention_is_off_by_a_hundredth_is_not_published(place: Path) -> None:
    (place / "examples/attention/wrong.py").write_text(WRONG)
    ended = jubako(place, "run", "examples/attention/wrong.py", "DayOfAttention", "--date", "2010-07-04")
    assert ended.returncode == 1
    assert "check() refused it" in ended.stdout
    assert "encoder.layer.3.attention: as called, sdpa: value_heads departs at batch 0, head 0, key 0" in ended.stdout
    assert os.listdir(place / "examples/attention/out") == ["2010-07-04.txt"]
