"""Values of a model's config.json by name, each of its kind and within its range; else a sentence that names it."""

from __future__ import annotations

from jubako.errors import InputError
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Reader"]


@record
class Reader:
    """A table of values. What it lacks has the value in `defaults`, or is None, as is what is null."""

    path: str
    table: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """Whatever is there under this name."""
        return self.table[name] if name in self.table else self.defaults.get(name)

    def whole(self, name: str, most: int) -> int | None:
        """A whole number from 1 to `most`."""
        value = self.value(name)
        if value is None:
            return None
        if type(value) is not int or not 1 <= value <= most:
            raise self._refuse(name, f"a whole number from 1 to {most}")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        """A number within a range."""
        value = self.value(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not least <= value <= most:
            raise self._refuse(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value = self.value(name)
        if value is not None and type(value) is not bool:
            raise self._refuse(name, "true or false")
        return value

    def text(self, name: str) -> str:
        """A text; "" where there is none."""
        value = self.value(name)
        if value is not None and not isinstance(value, str):
            raise self._refuse(name, "a text")
        return value or ""

    def list(self, name: str) -> list[Any] | None:
        """A list of anything."""
        value = self.value(name)
        if value is not None and not isinstance(value, list):
            raise self._refuse(name, "a list")
        return value

    def inner(self, name: str) -> Reader | None:
        """A table within this one."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._refuse(name, "a table")
        return Reader(self.path, value)

    def _refuse(self, name: str, wanted: str) -> InputError:
        return InputError(f"{self.path}: {name} is {str(self.value(name))[:40]}, and must be {wanted}")
