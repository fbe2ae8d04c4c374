"""Asking once: what `functools.cache` does for a function without arguments, without its 3 ms of import."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["once"]


def once(function: Callable[[], T]) -> Callable[[], T]:
    """A function that remembers the first thing `function` returns; what that raises is not remembered."""
    answers: list[T] = []

    def answer() -> T:
        if not answers:
            answers.append(function())
        return answers[0]

    answer.__doc__ = function.__doc__
    return answer
