"""What a command found, as a value: a few facts about the whole and one list of rows. `formats` shows it.

Columns and facts of one schema keep their names and meaning; a change that breaks readers gets a new number.
"""

from __future__ import annotations

from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, TypeAlias

__all__ = ["FORMATS", "Document", "Format"]

Format: TypeAlias = "Literal['table', 'json', 'csv', 'yaml']"
FORMATS: tuple[Format, ...] = ("table", "json", "csv", "yaml")


@record
class Document:
    """What a command found. `columns` orders the rows' keys; a row may leave a key out (None).

    `facts` are scalars, lists or mappings about the whole; `rows_are` names the list in JSON and YAML.
    """

    schema: str  # "jubako.box.ls/1"
    columns: Sequence[str]
    rows: Sequence[Mapping[str, object]]
    facts: Mapping[str, object] = field(default_factory=dict)
    rows_are: str = "rows"
