"""Files in a store (S3 and whatever else fsspec has a client for), by their whole addresses: "s3://bucket/key".

What is asked is asked of the store itself, nothing is remembered. Whatever a client raises becomes one of our errors,
of one sentence (`store_errors`), with the client's own as its cause; what is not there is a FileNotFoundError.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Final

from jubako.errors import InputError
from jubako.flow.stores.store_connection import Connection, find_connection
from jubako.flow.stores.store_errors import StoreError, describe_store_error
from jubako.flow.targets.target import FileAlreadyExists, FileSystem, temporary_name

__all__ = ["Store", "check_url", "explaining", "find_store", "protocol_of"]

_FEW: Final = 8  # addresses in one folder that are asked for one by one
_DIGESTS: Final = ("ETag", "etag", "md5Hash", "content_md5")  # what clients of stores call a digest of the content
_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "created")
_OBJECT_STORES: Final = frozenset({"abfs", "abfss", "az", "gcs", "gs", "s3", "s3a"})  # what they hold appears whole
_LOCAL: Final = ("file", "local")
_READ_BYTES: Final = 1 << 20

_stores: dict[Connection, Store] = {}


class Store(FileSystem):
    """One store. Addresses of folders may end in "/"."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def client(self) -> Any:
        return self.connection.client

    @property
    def has_objects(self) -> bool:
        """True if what is put there appears whole; elsewhere it is put beside its place and renamed."""
        return self.connection.protocol in _OBJECT_STORES

    def key(self, url: str) -> str:
        """What the client calls `url`."""
        key: str = self.client._strip_protocol(url)
        return key

    def exists(self, path: str) -> bool:
        return self._find_type(path) is not None

    def isdir(self, path: str) -> bool:
        return self._find_type(path) == "directory"

    def describe_version(self, path: str) -> str:
        """A text that changes when the file at `path` does, as well as the store knows it; "" if nothing is there."""
        answer = self._ask("info", [path])[0]
        return _version_of(answer) if _fits(path, answer) else ""

    def describe_versions(self, folder: str) -> str:
        """The same for all files in a folder, at any depth, in one text; "" if there are none."""
        found = self._ask("find", [folder.rstrip("/")], detail=True)[0] or {}
        lines = (f"{name} {_version_of(entry)}\n" for name, entry in sorted(found.items()))
        text = "".join(lines)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() if text else ""

    def find_existing(self, paths: Iterable[str]) -> set[str]:
        """Those of `paths` at which there is something; with a trailing "/", those at which there is a folder.

        Where many are in one folder it is listed, once; folders are listed side by side.
        """
        by_folder: dict[str, list[str]] = {}
        for path in paths:
            by_folder.setdefault(path.rstrip("/").rpartition("/")[0], []).append(path)
        listed = [folder for folder, members in by_folder.items() if len(members) > _FEW]
        asked = [path for members in by_folder.values() if len(members) <= _FEW for path in members]
        existing: set[str] = set()
        types = self._ask("info", asked)
        existing.update(path for path, answer in zip(asked, types, strict=True) if _fits(path, answer))
        for folder, answer in zip(listed, self._ask("ls", listed, detail=True), strict=True):
            if answer is not None:
                found = {entry["name"].rstrip("/"): entry for entry in answer}
                existing.update(path for path in by_folder[folder] if _fits(path, found.get(self.key(path))))
        return existing

    def listdir(self, path: str) -> Iterator[str]:
        with explaining(path):
            base = self.key(path).rstrip("/")
            names = self.client.find(base)
        for name in names:
            if name != base:
                yield path.rstrip("/") + name[len(base) :]

    def mkdir(self, path: str, parents: bool = True, raise_if_exists: bool = False) -> None:
        """Makes a folder where folders have to be made; object stores have them when something is in them."""
        if raise_if_exists and self.isdir(path):
            raise FileAlreadyExists(f"Destination exists: {path}")
        if not self.has_objects:
            with explaining(path):
                self.client.makedirs(self.key(path), exist_ok=True)

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> None:
        kind = self._find_type(path)
        if kind is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        key = self.key(path)
        if kind != "directory":
            with explaining(path):
                self.client.rm_file(key)
            return
        if not recursive:
            raise StoreError(f"{path} is a folder", hint="remove it recursively")
        if "/" not in key.strip("/"):
            raise InputError(f"{path} is all there is, and is not removed", hint="name what is to be removed in it")
        with explaining(path):
            self.client.rm(key, recursive=True)

    def copy(self, path: str, dest: str, raise_if_exists: bool = False) -> None:
        """Copies a file within the store; what is at `dest` is replaced, whole."""
        self._check_destination(path, dest, raise_if_exists)
        self.mkdir(dest.rpartition("/")[0])
        with explaining(path):
            if self.has_objects:
                self.client.cp_file(self.key(path), self.key(dest))
                return
            beside = temporary_name(dest)
            self.client.cp_file(self.key(path), self.key(beside))
        self.put_in_place(beside, dest)

    def move(self, path: str, dest: str, raise_if_exists: bool = False) -> None:
        """Moves a file or a folder within the store. Where nothing can be renamed, it is copied, then removed."""
        self._check_destination(path, dest, raise_if_exists)
        if self.isdir(path):
            base = path.rstrip("/")
            for each in list(self.listdir(path)):
                self.copy(each, dest.rstrip("/") + each[len(base) :])
            self.remove(path)
        elif self.has_objects:
            self.copy(path, dest)
            self.remove(path)
        else:
            self.mkdir(dest.rpartition("/")[0])
            self.put_in_place(path, dest)

    def rename_dont_move(self, path: str, dest: str) -> None:
        self.move(path, dest, raise_if_exists=True)

    def put_in_place(self, path: str, dest: str) -> None:
        """Renames a file over the one at `dest`. Not for object stores."""
        with explaining(dest):
            if self.connection.protocol in _LOCAL:
                os.replace(self.key(path), self.key(dest))  # theirs moves into a folder, where there is one
            else:
                self.client.mv(self.key(path), self.key(dest))

    def open_reader(self, path: str) -> IO[bytes]:
        """The file to read from; FileNotFoundError if it isn't there."""
        return io.BufferedReader(_Reader(self, path), _READ_BYTES)

    def _find_type(self, path: str) -> str | None:
        """ "file", "directory", or None for nothing. A trailing "/" asks for a folder only."""
        answer = self._ask("info", [path])[0]
        return answer["type"] if _fits(path, answer) else None

    def _ask(self, method: str, paths: list[str], **arguments: Any) -> list[Any]:
        """The answers about `paths`, None where nothing is there."""
        if not paths:
            return []
        answers = self.connection.ask_many(method, [(self.key(path),) for path in paths], **arguments)
        for number, (path, answer) in enumerate(zip(paths, answers, strict=True)):
            if isinstance(answer, Exception):
                error = describe_store_error(answer, path)
                if not isinstance(error, FileNotFoundError):
                    raise error from answer
                answers[number] = None
        return answers

    def _check_destination(self, path: str, dest: str, raise_if_exists: bool) -> None:
        check_url(dest)
        if protocol_of(dest) != protocol_of(path):
            raise InputError(f"{path} cannot get to {dest}, which is in another store", hint="read and write it")
        if raise_if_exists and self.exists(dest):
            raise FileAlreadyExists(f"Destination exists: {dest}")


class _Reader(io.RawIOBase):
    """What a client gives to read from, with our errors. It goes on where it was when the client is another one, as
    after a fork."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self._url = url
        self._open()

    def _open(self) -> None:
        self._client = self._store.client
        with explaining(self._url):
            self._file = self._client.open(self._store.key(self._url), "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        if self._client is not self._store.client:
            place = self._file.tell()
            self._open()
            self._file.seek(place)
        with explaining(self._url):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


def find_store(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store that `url` is in; the same for the same protocol and options."""
    connection = find_connection(protocol_of(url), options or {})
    found = _stores.get(connection)
    if found is None:
        found = _stores[connection] = Store(connection)
    return found


def protocol_of(url: str) -> str:
    return url.partition("://")[0]


def check_url(url: str) -> None:
    """InputError for what is no address of something in a store."""
    protocol, mark, rest = url.partition("://")
    if not mark or not protocol:
        raise InputError(
            f"{url!r} is no address in a store", hint="write s3://bucket/key; a path of this machine is a LocalTarget"
        )
    if "::" in url:
        raise InputError(f"{url!r} chains stores with '::', and nothing can be written whole through a chain")
    if not rest.strip("/"):
        raise InputError(f"{url!r} names a store and nothing in it", hint=f"write {protocol}://bucket/key")
    if protocol in _LOCAL and not rest.startswith("/"):
        raise InputError(f"{url!r} has no absolute path", hint="write file:///folder/file, or LocalTarget(path)")
    login, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in login:
        raise InputError(
            f"an address that begins with {protocol}://{login.partition(':')[0]}: has a password in it, and addresses "
            "are printed",
            hint="give it in storage_options",
        )


class explaining:
    """Raises our errors instead of those of a client."""

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            told = describe_store_error(error, self._url)
            if told is not error:
                raise told from error


def _version_of(entry: Mapping[str, Any]) -> str:
    for name in _DIGESTS:
        if entry.get(name):
            return str(entry[name])
    return f"{entry.get('size')} {next((entry[name] for name in _TIMES if entry.get(name)), None)}"


def _fits(path: str, entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and (not path.endswith("/") or entry["type"] == "directory")
