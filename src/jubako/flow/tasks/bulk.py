"""Asking one task class for many parameters at once which of its tasks are done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["BulkCompleteNotImplementedError", "MixinNaiveBulkComplete", "answers_in_bulk"]


class BulkCompleteNotImplementedError(NotImplementedError):
    """A task class can't say for many parameters at once which are done."""


class MixinNaiveBulkComplete:
    """Gives a task class a `bulk_complete` that asks one task after another, for those that are cheap to ask."""

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[Any]) -> list[Any]:
        """Those of `parameter_tuples` (each a sequence of arguments, a dict of them, or one) whose tasks are done."""
        return [given for given in parameter_tuples if _make(cls, given).complete()]


def answers_in_bulk(cls: type, one: str, many: str) -> bool:
    """True if the method `many` of `cls` answers for many what `one` does for one: it has it, and no class that derives
    from the one it is in has a `one` of its own."""
    for each in cls.__mro__:
        if many in vars(each):
            return True
        if one in vars(each):
            return False
    return False


def _make(cls: Any, given: Any) -> Any:
    """The task of `cls`, which may also be a class with some arguments given already (`functools.partial`)."""
    if isinstance(given, (list, tuple)):
        return cls(*given)
    return cls(**given) if isinstance(given, dict) else cls(given)
