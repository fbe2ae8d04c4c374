"""What tasks that track changes are made of: noted in a run before each is run, compared where --stale asks.

Taking it needs modules that only such tasks need; `Changes` imports them when it meets the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from jubako.flow.attempts import Attempt
from jubako.flow.fingerprints.fingerprint_book import FingerprintBook, Made

if TYPE_CHECKING:
    from jubako.flow.fingerprints.content_digest import ContentDigests
    from jubako.flow.fingerprints.fingerprint import Cause, Fingerprint

__all__ = ["Changes", "Known", "describe_trouble"]


class Known(Protocol):
    """Where it is looked up what was recorded: the ledger of a run, or history."""

    def read(self, task_ids: Sequence[str]) -> Mapping[str, Made]: ...
    def find_digest(self, path: str) -> tuple[str, str] | None: ...


class Changes:
    """What tasks are made of now.

    `stale` are tasks that run because of what has changed since they were made. `unchanged` are inputs of tasks that
    run only if one of these has changed by then: path -> digest, by task.
    """

    def __init__(
        self, open_book: Callable[[], FingerprintBook], note: Callable[[str], None], wall_s: Callable[[], float]
    ):
        self.unchanged: dict[Any, Mapping[str, str | None]] = {}
        self.stale: set[Any] = set()
        self._open_book = open_book
        self._note = note
        self._wall_s = wall_s
        self._book: FingerprintBook | None = None
        self._digests: ContentDigests | None = None

    def note(self, attempt: Attempt) -> None:
        """Notes what the task, and those it stands for, are made of, where they want that."""
        for task in attempt.tasks if attempt.is_batch else (attempt.task,):
            if task.tracks_changes and (now := self.try_take(task)) is not None:
                attempt.made_of[task.task_id] = now.dump()

    def take(self, task: Any) -> Fingerprint:
        """What `task` would be made of now. What its own code raises, and OSError for inputs, is passed on."""
        from jubako.flow.fingerprints.fingerprint import take_fingerprint  # with ast and more: 10 ms

        return take_fingerprint(task, self._get_digests().take)

    def try_take(self, task: Any) -> Fingerprint | None:
        """As `take`; None, and a note says why, where it cannot be told."""
        try:
            return self.take(task)
        except Exception as error:  # noqa: BLE001  (input() and settings are the task's own code)
            self._note(f"what {task} is made of cannot be told: {describe_trouble(error)}")
            return None

    def find_causes(self, task: Any) -> Sequence[Cause] | None:
        """What has changed since `task` was made; None if that is not known."""
        from jubako.flow.fingerprints.fingerprint import Fingerprint, find_causes  # as in `take`

        made = self.get_book().read([task.task_id]).get(task.task_id)
        before = None if made is None else Fingerprint.load(made.made_of)
        now = None if before is None else self.try_take(task)
        return None if before is None or now is None else find_causes(before, now)

    def is_unchanged(self, task: Any) -> bool:
        """True for a task that was to run only if its inputs turn out to have changed, and they have not."""
        before = self.unchanged.get(task) if self.unchanged else None
        now = None if before is None else self.try_take(task)
        return now is not None and now.inputs == before

    def is_made_anew(self, task: Any) -> bool:
        """True for a stale task that is not stale any more: another run has made it meanwhile."""
        return task in self.stale and self.find_causes(task) == []

    def get_book(self) -> FingerprintBook:
        """Where fingerprints are recorded."""
        if self._book is None:
            self._book = self._open_book()
        return self._book

    def flush(self) -> None:
        """Remembers the digests that were taken."""
        if self._digests is not None and self._digests.new:
            self.get_book().write_digests(self._digests.new)
            self._digests.new = {}

    def _get_digests(self) -> ContentDigests:
        if self._digests is None:
            from jubako.flow.fingerprints.content_digest import ContentDigests  # hashlib: 2 ms

            self._digests = ContentDigests(self.get_book().find_digest, self._wall_s)
        return self._digests


def describe_trouble(error: Exception) -> str:
    """Why it cannot be told what a task is made of."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
