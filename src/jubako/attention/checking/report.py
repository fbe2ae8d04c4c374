"""What checking comes to: the layers, and how to say it as text, as data or as JUnit XML."""

from __future__ import annotations

from jubako.attention.checking.data import layer_facts, layer_rows
from jubako.attention.checking.junit import format_junit
from jubako.attention.checking.sentences import failures_of
from jubako.attention.checking.text import format_layers, format_summary
from jubako.errors import WorkError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.attention.checking.verdicts import LayerReport

__all__ = ["Report"]


@record
class Report:
    """What checking came to. True if all layers agree, and there is at least one."""

    subject: str
    layers: Sequence[LayerReport]
    notes: Sequence[str] = ()  # what the whole of it does and does not say
    tolerance: str = ""  # what was said in place of the bounds
    unchecked: Sequence[str] = ()  # what was met and not checked, and why; it says nothing for or against the rest

    def __bool__(self) -> bool:
        return bool(self.layers) and all(self.layers)

    def require(self) -> None:
        """WorkError that names each layer that is wrong, and where it departs first; for a task's `check()`."""
        if not self:
            wrong = [f"{layer.name}: {'; '.join(failures_of(layer))}" for layer in self.layers if not layer]
            raise WorkError("; ".join(wrong) or f"no attention was checked in {self.subject}")

    def describe(self) -> str:
        """The whole report as text."""
        parts = [f"note: {note}" for note in self.notes]
        if self.tolerance:
            parts.append(f"note: the bounds were replaced by a tolerance: {self.tolerance}")
        parts += [f"not checked: {sentence}" for sentence in dict.fromkeys(self.unchecked)]
        parts += [format_layers(self.layers)] if self.layers else []
        return "\n".join([*parts, format_summary(self.layers, len(self.unchecked))])

    def to_rows(self) -> list[dict[str, object]]:
        """A row for each step of each run of each layer; the columns are those of `data.COLUMNS`."""
        return [row for layer in self.layers for row in layer_rows(layer)]

    def to_json(self) -> dict[str, object]:
        """What is said of the whole, and of each layer. The steps are in `to_rows()`."""
        return {
            "subject": self.subject,
            "agrees": bool(self),
            "notes": list(self.notes),
            "tolerance": self.tolerance or None,
            "unchecked": list(self.unchecked),
            "layers": [layer_facts(layer) for layer in self.layers],
        }

    def to_junit(self) -> str:
        """The whole report as JUnit XML."""
        return format_junit(self.layers, self.unchecked)
