"""A Python file whose module is checked: what it does when it is loaded cannot end the check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jubako.attention import CheckOptions
from jubako.attention.observing.subject import check_subject
from jubako.errors import InputError


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys\nsys.exit()\n", "does not load: SystemExit"),
        ("import sys\n\ndef layer():\n    sys.exit(0)\n", r"layer\(\) raises SystemExit: 0"),
    ],
)
def test_file_that_leaves_the_process_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "leaving.py"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        check_subject(str(path), "layer", "", CheckOptions())


def test_module_without_parameters_is_given_inputs_of_the_type_of_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "buffers.py"
    path.write_text(
        """
import torch

layer = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True, dtype=torch.float64)
for module, name in ((layer, "in_proj_weight"), (layer.out_proj, "weight")):
    weight = getattr(module, name).detach()
    delattr(module, name)
    module.register_buffer(name, weight)
"""
    )
    np.save(tmp_path / "x.npy", np.ones((1, 3, 8), np.float32))
    report = check_subject(str(path), "layer", str(tmp_path / "x.npy"), CheckOptions())
    assert report, report.describe()
    assert report.layers[0].facts["dtype"] == "float64"
