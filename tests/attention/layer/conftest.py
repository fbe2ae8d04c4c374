"""One thread for torch, so that results are the same each time and tests beside this one have a processor too.

Tests that ask for `kernel` run twice, the second time with the compiled one, which goes into a folder of the session.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from jubako.attention import use_kernel

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def compiled_kernel(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The kernel, compiled and loaded once."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    try:
        use_kernel(use_kernel("compiled"))
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(params=["torch", "compiled"])
def kernel(request: pytest.FixtureRequest, compiled_kernel: None) -> Iterator[str]:
    before = use_kernel(request.param)
    yield request.param
    use_kernel(before)
