"""The names of the layer: documented, told on its page, and loaded when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jubako.attention

PAGE = Path(__file__).parents[3] / "docs/attention-layer.md"
NAMES = (
    *("AttentionInputError", "Attended", "MultiheadAttention", "Replacement", "SizeError", "Want"),
    *("from_torch", "replace_in", "use_kernel"),
)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_importable_and_documented(name: str) -> None:
    assert name in jubako.attention.__all__
    assert name in dir(jubako.attention)
    assert getattr(jubako.attention, name).__doc__
    assert f"`{name}" in PAGE.read_text()


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, jubako.attention, jubako.attention.layer; print(*sorted({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
