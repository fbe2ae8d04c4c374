"""How a run is to be done: everything wrong is said at once."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.options import RunOptions


def test_defaults_are_valid() -> None:
    assert (RunOptions().workers, RunOptions().box, RunOptions().durability) == (1, None, "full")


def test_everything_wrong_is_said_at_once() -> None:
    wrong: dict[str, Any] = {
        "workers": 0, "attempts": 0, "retry_delay_s": -1.0, "box": "docker", "durability": "eventual",
        "retry_backoff": 0.5, "retry_delay_max_s": -1.0,
        "disable_after": -1, "disable_window_s": -1.0, "disable_for_s": -1.0,
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        RunOptions(**wrong)
    with pytest.raises(InputError, match="resource 'gpu' of -1 is less than 0; resource 'db' of -2 is less than 0"):
        RunOptions(resources={"gpu": -1}, shared_resources={"db": -2})
    for name in wrong:
        assert f"{name}=" in caught.value.message
