"""What tests of comparators share: two files with given contents, compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.verify import Comparison, Rules, compare

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads, and other tests fork this process

Compare = Callable[..., Comparison]


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    """compared("x.csv", old, new, tolerance=...): what comparing two such files comes to."""

    def run(name: str, published: str | bytes, recomputed: str | bytes, **rules: Any) -> Comparison:
        for side, content in (("published", published), ("recomputed", recomputed)):
            (tmp_path / side).write_bytes(content.encode() if isinstance(content, str) else content)
        return compare(str(tmp_path / "published"), str(tmp_path / "recomputed"), Rules(**rules), name=name)

    return run
