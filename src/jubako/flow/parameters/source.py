"""Where parameters that a constructor was not given take their values from, before their defaults.

A source answers with text for (family, name): flags of a command line, settings of a file. Sources are asked in the
order they were given; the first text found is parsed and wins. None are set by default. The runner and the command line
set them, around everything that builds tasks:

    with values_from({("DailySummary", "city"): "Oslo"}):
        DailySummary(date=...)          # city is "Oslo"
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["ValueSource", "find_value", "values_from"]


class ValueSource(Protocol):
    """Anything that answers for (task family or section, parameter name); a dict does."""

    def get(self, key: tuple[str, str], /) -> str | None:
        """The value, as text that a user would type; None if there is none."""


_sources: tuple[ValueSource, ...] = ()


@contextmanager
def values_from(*sources: ValueSource) -> Iterator[None]:
    """Within the block, `sources` are asked before those already set. One thread at a time: they are process-wide."""
    global _sources  # noqa: PLW0603  (constructors have no other way to know them)
    outer = _sources
    _sources = sources + outer
    try:
        yield
    finally:
        _sources = outer


def find_value(family: str, name: str) -> str | None:
    """The first text any source has for parameter `name` of `family`. An empty text is one; None is none."""
    for source in _sources:
        text = source.get((family, name))
        if text is not None:
            return text
    return None
