"""Keeps values of hidden and private parameters out of what is sent.

They are in no name of a task; but an exception may well quote one. So the values of all tasks that a run meets are
remembered, and taken out of every text. A short one only goes where it stands for itself: the value "a" is not taken
out of "abandoned".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jubako.flow.parameters import ParameterVisibility
from jubako.flow.parameters.parameter import CONCEALED
from jubako.flow.tasks.register import find_signature

__all__ = ["Concealed"]

_SHORT: Final = 6
_LONGEST: Final = 300  # characters of one text that is sent


class Concealed:
    """What may not be sent."""

    def __init__(self) -> None:
        self._names: dict[type, tuple[tuple[str, Any], ...]] = {}  # by class, its parameters that are not public
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, task: Any) -> None:
        """Remembers what `task` conceals."""
        cls = type(task)
        names = self._names.get(cls)
        if names is None:
            found = find_signature(cls).parameters
            names = tuple(each for each in found if each[1].visibility is not ParameterVisibility.PUBLIC)
            self._names[cls] = names
        for name, parameter in names:
            value = getattr(task, name)
            if value is None or isinstance(value, bool):
                continue
            for text in {parameter.serialize(value), *_leaves(value)} - self._values:
                if text:
                    self._values.add(text)
                    self._pattern = None

    def clean(self, text: str, *, longest: int = _LONGEST) -> str:
        """`text` without what is concealed, in one line, with nothing in it that a terminal or a mail could obey."""
        if self._values:
            text = self._compile().sub(CONCEALED, text)
        if not text.isprintable():
            text = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
        return text if len(text) <= longest else f"{text[: longest - 1]}…"

    def _compile(self) -> re.Pattern[str]:
        if self._pattern is None:
            longest_first = sorted(self._values, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(_pattern_of, longest_first)))
        return self._pattern


def _leaves(value: Any) -> Iterator[str]:
    """The single values in a list or a mapping, as text."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _pattern_of(value: str) -> str:
    escaped = re.escape(value)
    return escaped if len(value) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"
