"""When things happened: for people in their own time zone, for programs as ISO 8601 in UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["format_moment", "iso_moment"]


def format_moment(seconds: float) -> str:
    """`seconds` since 1970 as "2010-03-14 05:06:07", local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def iso_moment(seconds: float | None) -> str | None:
    """`seconds` since 1970 as "2010-03-14T05:06:07.000+00:00"; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
