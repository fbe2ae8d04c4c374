"""Where a box has its version of what this machine calls by a path: an upper, or what a failed task had staged."""

from __future__ import annotations

import os

from jubako.boxes.views.facts import is_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.boxes.keeping.kept_record import BoxRecord, RecordedOutput

__all__ = ["BoxFiles"]


class BoxFiles:
    """The files of the box whose `record` is this, in `directory`."""

    def __init__(self, directory: str, record: BoxRecord) -> None:
        self.record = record
        self._directory = directory
        self._outputs = [(output.path, os.path.join(directory, output.staged)) for output in record.outputs]
        layers = sorted(record.layers, key=lambda layer: -len(layer.target))
        self._layers = [(layer.target.rstrip("/"), os.path.join(directory, layer.upper)) for layer in layers]

    def find(self, path: str) -> str:
        """Where the box has its version of `path`. Raises FileNotFoundError if it has none."""
        return self.look(path)[0]

    def look(self, path: str) -> tuple[str, os.stat_result]:
        """As `find`, and the state of that version."""
        for place in self._places(path):
            try:
                return place, os.lstat(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
        raise FileNotFoundError(path)

    def find_folder(self, folder: str) -> str | None:
        """Where the box has most of its versions of what is in `folder`; None if they are in no single place."""
        if not self.is_in_upper(folder):
            return None
        return next((place for place in self._places(folder) if os.path.isdir(place)), None)

    def is_in_upper(self, path: str) -> bool:
        """True if `path`, or something below it, has nothing to do with what a failed task had staged."""
        return not any(is_below(path, output) or is_below(output, path) for output, _ in self._outputs)

    def staged_below(self, path: str) -> Iterator[tuple[RecordedOutput, str]]:
        """The outputs that a failed task had staged below `path`, each with where it is."""
        for output, (_, staged) in zip(self.record.outputs, self._outputs, strict=True):
            if output.path != path and is_below(output.path, path) and os.path.lexists(staged):
                yield output, staged

    def _places(self, path: str) -> Iterator[str]:
        for output, staged in self._outputs:
            if is_below(path, output) and os.path.lexists(staged):
                yield staged + path[len(output) :]
        for target, upper in self._layers:
            if path.startswith(f"{target}/") or path == (target or "/"):
                yield (upper + path[len(target) :]).rstrip("/")
