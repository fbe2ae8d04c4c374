"""What a box used, as lines for people."""

from __future__ import annotations

from jubako.boxes.limits import format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.boxes.resources.usage import Usage

__all__ = ["describe_usage"]


def describe_usage(usage: Usage) -> Iterator[str]:
    """A line for each thing that was measured."""
    yield f"time       {usage.wall_s:.2f} s"
    yield f"processors {usage.user_s + usage.system_s:.2f} s ({usage.user_s:.2f} user, {usage.system_s:.2f} system)"
    if usage.peak_memory_bytes is not None:
        whose = "all together" if usage.memory_of == "box" else "the largest process"
        yield f"memory     {format_bytes(usage.peak_memory_bytes)} at most, {whose}"
    yield f"disk       {format_bytes(usage.written_bytes)} written"
    if usage.most_processes is not None:
        yield f"processes  {usage.most_processes} at most"
