"""Luigi's words for where a task stands."""

from __future__ import annotations

from typing import Final

__all__ = ["BATCH_RUNNING", "DISABLED", "DONE", "FAILED", "PENDING", "RUNNING", "SUSPENDED", "UNKNOWN"]

PENDING: Final = "PENDING"
FAILED: Final = "FAILED"
DONE: Final = "DONE"
RUNNING: Final = "RUNNING"
BATCH_RUNNING: Final = "BATCH_RUNNING"
SUSPENDED: Final = "SUSPENDED"  # only ever read from old states
UNKNOWN: Final = "UNKNOWN"
DISABLED: Final = "DISABLED"
