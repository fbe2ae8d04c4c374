"""Files and folders in a store as targets: StoreTarget("s3://bucket/report/2026-11-01.csv").

What is written goes to a file of this machine, which is sent when it is closed, whole. In a box it stays in the staging
area until the task has ended well and check() has accepted it; then the run sends it (`executors.uploading`). What the
task reads of its own output meanwhile is what is staged.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO, Any, Final

from jubako.boxes import inside
from jubako.boxes.spec import Output
from jubako.errors import InputError
from jubako.flow.stores.store import Store, check_url, find_store, protocol_of
from jubako.flow.stores.store_errors import StoreError
from jubako.flow.stores.store_upload import Upload, begin_upload, commit_all
from jubako.flow.targets.format import Format, get_default_format
from jubako.flow.targets.local_files import atomic_file, discard
from jubako.flow.targets.target import FileSystemTarget, StorageUnreachable, temporary_name
from jubako.flow.tasks.bulk import answers_in_bulk

__all__ = ["StoreFolderTarget", "StoreTarget"]

_COPY_BYTES: Final = 1 << 20
_hidden: set[str] = set()  # addresses at which this process is not to see what is there


class StoreTarget(FileSystemTarget):
    """A file in a store: "s3://bucket/key", or any address that fsspec has a client for.

    `storage_options` are what that client takes (endpoint_url, key, secret ...); they are never printed, nor is an
    address taken that has a password in it. Files of this machine are better off as `LocalTarget`.
    """

    def __init__(
        self, path: str, format: Format | None = None, *, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        check_url(str(path))
        super().__init__(path)
        self.format = get_default_format() if format is None else format
        self._storage_options = storage_options

    @cached_property
    def fs(self) -> Any:  # type: ignore[override]  # subclasses set what is like a Store
        """The store."""
        return find_store(self.path, self._storage_options)

    @property
    def in_memory(self) -> bool:
        """True if only this process has what is there, so that a task that makes it must run in it."""
        return protocol_of(self.path) == "memory"

    def as_output(self) -> Output:
        """What a task that makes this target declares to its box."""
        return Output(self.path, "elsewhere")

    def exists(self) -> bool:
        self.warn_of_wildcards()
        if self._staged_now() is not None:
            return True
        return self.path not in _hidden and bool(self.fs.exists(self._sign()))

    def content_version(self) -> str:
        """A text that changes when what is in the store does: its digest, if the store tells, else size and time."""
        return str(self.fs.describe_version(self._sign()))

    @classmethod
    def exist_many(cls, targets: Sequence[Any]) -> list[bool]:
        """For each of `targets`, whose `exists` is this class's, if it exists; asked for in bulk."""
        by_store: dict[Any, dict[str, None]] = {}
        for target in targets:
            target.warn_of_wildcards()
            by_store.setdefault(target.fs, {})[target._sign()] = None
        found = {}
        for fs, paths in by_store.items():
            try:
                if answers_in_bulk(type(fs), "exists", "find_existing"):
                    found[fs] = fs.find_existing(paths)
                else:  # a client of a pipeline's own
                    found[fs] = {path for path in paths if fs.exists(path)}
            except StorageUnreachable as error:
                error.storage = fs
                raise
        return [target._staged_now() is not None or target._sign() in found[target.fs] for target in targets]

    def open(self, mode: str = "r") -> IO[Any]:
        kind = mode.replace("b", "").replace("t", "")
        if kind == "r":
            staged = self._staged_now()
            if staged is None and self.path in _hidden:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
            return self.format.pipe_reader(self._open_store() if staged is None else open(staged, "rb"))
        if kind != "w":
            raise ValueError(f"mode must be 'r' or 'w' (got: {mode})")
        staged = inside.staged_path(self.path)
        return self.format.pipe_writer(self._make_sent_file() if staged is None else atomic_file(staged))

    @contextmanager
    def temporary_path(self) -> Iterator[str]:
        """A path of this machine to write to; on leaving the block it is sent, after an exception it goes."""
        staged = inside.staged_path(self.path)
        temporary = _temporary_path(self.path) if staged is None else temporary_name(staged)
        try:
            yield temporary
            if staged is None:
                self.send(temporary)
            else:
                os.replace(temporary, staged)
        finally:
            discard(temporary)

    def send(self, local_path: str) -> None:
        """Puts a file of this machine where the target is, whole or not at all."""
        self.begin_upload(local_path).commit()

    def begin_upload(self, local_path: str) -> Upload:
        """Sends what can be sent of a file of this machine without its being seen; its `commit` shows it."""
        if not os.path.isfile(local_path) or os.path.islink(local_path):
            raise StoreError(f"{self.path}: what was written is no file")
        return begin_upload(self._get_store(), local_path, self.path, self._upload_options())

    def fetch(self, local_path: str) -> None:
        """Copies what is in the store to this machine, where nothing may be at `local_path` yet."""
        with self._open_store() as source, open(local_path, "xb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)

    def hide(self) -> None:
        """From now on, in this process, nothing is there but what it writes: for a task that is run again."""
        _hidden.add(self.path)

    def remove(self) -> None:
        """Removes what is there; in a box, what the task has written so far of an output it declares."""
        staged = self._staged_now()
        if staged is not None:
            discard(staged)
        else:
            self.fs.remove(self.path)

    def copy(self, new_path: str, raise_if_exists: bool = False) -> None:
        """Copies the file within the store, at once."""
        self.fs.copy(self.path, new_path, raise_if_exists)

    def move(self, new_path: str, raise_if_exists: bool = False) -> None:
        """Moves the file within the store, at once."""
        self.fs.move(self.path, new_path, raise_if_exists)

    def _get_store(self) -> Store:
        store: Store = self.fs
        return store

    def _upload_options(self) -> Mapping[str, Any]:
        """What the client is to be told of the object."""
        return {}

    def _open_store(self) -> IO[bytes]:
        return self._get_store().open_reader(self.path)

    def _make_sent_file(self) -> atomic_file:
        """A file to write to, which is sent when it is closed."""
        return _SentFile(self)

    def _sign(self) -> str:
        """The address at which there is something exactly if the target exists."""
        return self.path

    def _staged_now(self) -> str | None:
        """Where in this box the task's own output is; None outside, and before it is written."""
        staged = inside.staged_path(self.path)
        return staged if staged is not None and os.path.lexists(staged) else None


class StoreFolderTarget(StoreTarget):
    """A folder in a store that is there when the file `flag` is in it. Written as a whole:

        with target.temporary_path() as folder: ...     files written there are sent, the flag last

    Before the first file of a new version is shown, the flag of the old one goes; files that the new one does not have
    go too. Who writes into the folder by other means ends with `mark()`.
    """

    def __init__(self, path: str, *, flag: str = "_SUCCESS", storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(path, storage_options=storage_options)
        if not flag or "/" in flag:
            raise InputError(f"flag={flag!r} is no name of a file in {path}")
        self.flag = flag

    def open(self, mode: str = "r") -> IO[Any]:
        raise IsADirectoryError(f"{self.path} is a folder; open what file(name) gives")

    def file(self, name: str, format: Format | None = None) -> StoreTarget:
        """A file in the folder."""
        return StoreTarget(f"{self.path.rstrip('/')}/{name}", format, storage_options=self._storage_options)

    def fetch(self, local_path: str) -> None:
        """Copies the files of the folder, without the flag, to a folder of this machine, which is made."""
        os.mkdir(local_path)
        for path in self.listdir():
            name = path[len(self.path.rstrip("/")) + 1 :]
            if os.path.normpath(name) != name or name.startswith(("/", "..")):  # a store takes any text for a name
                raise StoreError(f"{path}: {name!r} cannot be the name of a file below a folder of this machine")
            os.makedirs(os.path.dirname(os.path.join(local_path, name)), exist_ok=True)
            self.file(name).fetch(os.path.join(local_path, name))

    def listdir(self) -> list[str]:
        """The addresses of the files in the folder and below, without the flag, sorted."""
        return sorted(path for path in self.fs.listdir(self.path) if path != self._sign())

    def mark(self) -> None:
        """Says that all is in the folder. In a box this is done when the task's outputs are published."""
        staged = inside.staged_path(self.path)
        if staged is None:
            self._put_flag()
        elif self._staged_now() is None:
            open(staged, "wb").close()

    @contextmanager
    def temporary_path(self) -> Iterator[str]:
        """An empty folder of this machine; on leaving the block it replaces what the target has, after an exception it
        goes."""
        staged = inside.staged_path(self.path)
        temporary = _temporary_path(self.path) if staged is None else temporary_name(staged)
        os.mkdir(temporary)
        try:
            yield temporary
            if staged is None:
                self.send(temporary)
            else:
                discard(staged)
                os.rename(temporary, staged)
        finally:
            discard(temporary)

    def begin_upload(self, local_path: str) -> Upload:
        if os.path.isdir(local_path) and not os.path.islink(local_path):
            return _FolderUpload(self, local_path)
        return _FlagUpload(self)

    def remove(self) -> None:
        """Removes the folder and all in it, the flag first; in a box, what the task has written so far."""
        staged = self._staged_now()
        if staged is not None:
            discard(staged)
            return
        if self.fs.exists(self._sign()):
            self.fs.remove(self._sign())
        if self.fs.exists(self.path):
            self.fs.remove(self.path)

    def copy(self, new_path: str, raise_if_exists: bool = False) -> None:
        raise StoreError(f"{self.path}: a folder is not copied as one", hint="copy what listdir() gives")

    def move(self, new_path: str, raise_if_exists: bool = False) -> None:
        raise StoreError(f"{self.path}: a folder is not moved as one", hint="copy what listdir() gives, then remove()")

    def _sign(self) -> str:
        return f"{self.path.rstrip('/')}/{self.flag}"

    def content_version(self) -> str:
        """A text that changes when any file in the folder does."""
        return str(self.fs.describe_versions(self.path)) if self.exists() else ""

    def _put_flag(self) -> None:
        with self.file(self.flag).open("w"):
            pass


class _FlagUpload:
    """What was written elsewhere is all there."""

    def __init__(self, target: StoreFolderTarget) -> None:
        self._target = target

    def commit(self) -> None:
        self._target._put_flag()

    def discard(self) -> None:
        """Nothing was sent."""


class _FolderUpload:
    """A folder of this machine on its way into a store."""

    def __init__(self, target: StoreFolderTarget, local_path: str) -> None:
        self._target = target
        self._new: set[str] = set()
        self._uploads: list[Upload] = []
        try:
            for name in _list_files(local_path):
                if name == target.flag:
                    raise StoreError(f"{target.path}: {name} is the flag, and is written when all else is there")
                file = target.file(name)
                self._uploads.append(file.begin_upload(os.path.join(local_path, name)))
                self._new.add(file.path)
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        target = self._target
        if target.fs.exists(target._sign()):
            target.fs.remove(target._sign())
        commit_all(self._uploads)
        for path in target.listdir():
            if path not in self._new:
                target.fs.remove(path)
        target._put_flag()

    def discard(self) -> None:
        for upload in self._uploads:
            upload.discard()


class _SentFile(atomic_file):
    """Written to this machine's disk, and sent when it is closed."""

    def __init__(self, target: StoreTarget) -> None:
        self._target = target
        super().__init__(target.path)

    def generate_tmp_path(self, path: str) -> str:
        return _temporary_path(path)

    def move_to_final_destination(self) -> None:
        self._target.send(self.tmp_path)
        discard(self.tmp_path)


def _temporary_path(url: str) -> str:
    return temporary_name(os.path.join(tempfile.gettempdir(), url.rstrip("/").rpartition("/")[2] or "jubako"))


def _list_files(folder: str) -> list[str]:
    """The files in `folder` and below, by their paths from there, sorted. StoreError for what no store can have."""
    names = []
    for directory, below, files in os.walk(folder):
        for name in (*below, *files):
            path = os.path.join(directory, name)
            if os.path.islink(path):
                raise StoreError(f"{os.path.relpath(path, folder)} is a symbolic link, which no store has")
        names += [os.path.relpath(os.path.join(directory, name), folder) for name in files]
    return sorted(names)
