"""Which outputs are there, asked for many at once: one listing of a directory instead of one question per path.

A year of hourly tasks asks for 8760 files in a handful of directories. Where the answer could differ from asking for
each path (a directory that can't be listed, names that differ only in case being one), each path is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

from jubako.flow.targets.local_target import DirectoryTarget, LocalFileSystem, LocalTarget
from jubako.flow.targets.outputs import find_targets
from jubako.flow.targets.target import FileSystem, Target
from jubako.flow.tasks.bulk import answers_in_bulk
from jubako.flow.tasks.task import Task

__all__ = ["bulk_exists", "find_complete", "find_existing", "targets_exist"]

_FEW: Final = 4  # paths of one directory that are asked for one by one
_LISTABLE_BYTES: Final = 64 * 1024  # size of a directory that is always worth listing
_LISTABLE_BYTES_PER_PATH: Final = (
    128  # listing an entry costs a third of asking for a path; entries take 20 to 40 bytes
)


def bulk_exists(paths: Iterable[str]) -> set[str]:
    """Those of `paths` at which there is something; with a trailing "/", those at which there is a directory.

    Symbolic links are followed. The answer is that of `os.path.exists` for each path.
    """
    by_directory: dict[str, list[str]] = {}
    existing: set[str] = set()
    for path in paths:
        directory, _, name = path.rstrip("/").rpartition("/")
        if not directory or name in ("", ".", ".."):
            existing.update(_ask_each([path]))
        else:
            by_directory.setdefault(directory, []).append(path)
    for directory, members in by_directory.items():
        existing.update(_ask_directory(directory, members))
    return existing


def find_existing(fs: FileSystem, paths: Iterable[str]) -> set[str]:
    """Those of `paths` that are there in the storage `fs`: by `bulk_exists`, as the storage itself says for many, or by
    one `listdir` per directory."""
    if type(fs).exists is LocalFileSystem.exists:
        return bulk_exists(paths)
    if answers_in_bulk(type(fs), "exists", "find_existing"):
        found: set[str] = fs.find_existing(paths)  # type: ignore[attr-defined]  # it has it
        return found
    by_directory: dict[str, list[str]] = {}
    for path in paths:
        by_directory.setdefault(path.rstrip("/").rpartition("/")[0], []).append(path)
    existing: set[str] = set()
    for directory, members in by_directory.items():
        try:
            listing = set(fs.listdir(directory)) if len(members) > _FEW and fs.exists(directory) else None
        except NotImplementedError:
            listing = None
        if listing is None:
            existing.update(path for path in members if fs.exists(path))
        else:
            listing |= {above for path in listing for above in _between(directory, path)}
            existing.update(path for path in members if path.rstrip("/") in listing)
    return existing


def targets_exist(targets: Sequence[Target]) -> list[bool]:
    """For each target if it exists; those whose `exists()` is the usual one of their kind are asked for in bulk."""
    paths = [_existence_path(target) for target in targets]
    existing = bulk_exists(dict.fromkeys(path for path in paths if path is not None))
    answers: list[bool | None] = [None if path is None else path in existing for path in paths]
    by_kind: dict[type, list[int]] = {}
    for place, (target, answer) in enumerate(zip(targets, answers, strict=True)):
        if answer is None:
            by_kind.setdefault(type(target), []).append(place)
    for kind, places in by_kind.items():
        if answers_in_bulk(kind, "exists", "exist_many"):
            those = [targets[place] for place in places]
            for place, answer in zip(places, kind.exist_many(those), strict=True):  # type: ignore[attr-defined]
                answers[place] = answer
    return [target.exists() if answer is None else answer for target, answer in zip(targets, answers, strict=True)]


def find_complete(tasks: Iterable[Task]) -> list[Task]:
    """Those of `tasks` that are done. A `complete()` of a task's own is called; the usual one is answered in bulk."""
    asked = [(task, _deciding_outputs(task)) for task in tasks]
    targets = list(chain.from_iterable(outputs for _, outputs in asked if outputs))
    answers = iter(targets_exist(targets))
    done = []
    for task, outputs in asked:
        found = [next(answers) for _ in outputs]
        if all(found) if outputs else task.complete():
            done.append(task)
    return done


def _deciding_outputs(task: Any) -> list[Any]:
    """The outputs whose existence makes `task` complete; none if only its own `complete()` can tell."""
    is_usual = getattr(task.complete, "__func__", None) is Task.complete
    return find_targets(task) if is_usual else []


def _existence_path(target: Any) -> str | None:
    """The path that exists exactly if the target does; None if only its own `exists()` can tell."""
    exists = getattr(type(target), "exists", None)
    if exists is not LocalTarget.exists and exists is not DirectoryTarget.exists:
        return None
    if type(target.fs).exists is not LocalFileSystem.exists or "exists" in vars(target):
        return None
    target.warn_of_wildcards()
    path: str = target.absolute_path
    return path if exists is LocalTarget.exists else path + "/"


def _ask_directory(directory: str, paths: list[str]) -> Iterable[str]:
    if len(paths) < _FEW:
        return _ask_each(paths)
    try:
        if os.stat(directory).st_size > _LISTABLE_BYTES + _LISTABLE_BYTES_PER_PATH * len(paths):
            return _ask_each(paths)
        return _list_directory(directory, paths)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError):  # may be entered, but not listed; a name with a null character
        return _ask_each(paths)


def _list_directory(directory: str, paths: list[str]) -> Iterable[str]:
    wanted = {path.rstrip("/").rpartition("/")[2] for path in paths}
    files: set[str] = set()
    directories: set[str] = set()
    links: set[str] = set()
    lettered = ""
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if not lettered and name.swapcase() != name:
                lettered = name
            if name in wanted:
                (links if entry.is_symlink() else directories if entry.is_dir() else files).add(name)
    existing, unseen = [], []
    for path in paths:
        name = path.rstrip("/").rpartition("/")[2]
        if name in directories or (name in files and not path.endswith("/")):
            existing.append(path)
        elif name in links or name not in files:
            unseen.append((path, name in links))
    if lettered and any(not is_link for _, is_link in unseen) and os.path.lexists(f"{directory}/{lettered.swapcase()}"):
        return [*existing, *_ask_each(path for path, _ in unseen)]  # names here don't depend on case (vfat, casefold)
    return [*existing, *_ask_each(path for path, is_link in unseen if is_link)]


def _ask_each(paths: Iterable[str]) -> Iterable[str]:
    return [path for path in paths if os.path.exists(path)]


def _between(directory: str, path: str) -> Iterable[str]:
    """The directories below `directory` that `path`, a file anywhere in it, is in."""
    above = path.rpartition("/")[0]
    while len(above) > len(directory) and above.startswith(directory):
        yield above
        above = above.rpartition("/")[0]
