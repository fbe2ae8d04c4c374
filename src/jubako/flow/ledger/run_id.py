"""What runs are called: the second they began in, in UTC, and six random hexadecimal digits.

The name of a folder in logs/ says by its form whether a run can have made it.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

__all__ = ["is_run_id", "make_run_id"]

_FORM: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{6}")


def make_run_id(now_s: float) -> str:
    """The id of a run that begins at `now_s`, in seconds since 1970."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now_s))}-{secrets.token_hex(3)}"


def is_run_id(name: str) -> bool:
    """True if `name` has the form of what `make_run_id` answers."""
    return _FORM.fullmatch(name) is not None
