"""Putting a local file into a store, whole or not at all, in two steps: the bytes, then the name.

    begin_upload     all bytes are sent where the store can take them without showing them; nothing is seen yet
    commit           the file is there, in place of what was there before
    discard          what was sent is given up; nothing was seen

    S3, from 16 MiB on      parts of a multipart upload; complete; abort
    S3 below, other objects nothing; one PUT, of which the store shows nothing before it has all; nothing
    memory                  nothing; the content is set; nothing
    anything with renames   a file beside the place; rename; remove

So of several files that belong together all bytes are sent before the first is shown.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

from jubako.flow.stores.store import Store, explaining
from jubako.flow.stores.store_errors import describe_store_error
from jubako.flow.targets.target import temporary_name

__all__ = ["Upload", "begin_upload", "commit_all"]

_PART_BYTES: Final = 16 << 20
_LEAST_PART_BYTES: Final = 5 << 20  # that S3 takes
_MOST_PARTS: Final = 9_000  # S3 takes 10,000


class Upload(Protocol):
    """A file on its way. One of the two is called, once."""

    def commit(self) -> None:
        """Shows it."""

    def discard(self) -> None:
        """Gives it up. What cannot be undone because the store does not answer is left there, unseen."""


def begin_upload(store: Store, local_path: str, url: str, extra: Mapping[str, Any]) -> Upload:
    """Step one for `local_path`, which must stay as it is until the second. `part_bytes` in `extra` is for S3."""
    options = dict(extra)
    part_bytes = max(_LEAST_PART_BYTES, options.pop("part_bytes", _PART_BYTES))
    if store.connection.protocol == "memory":
        return _InMemory(store, local_path, url)
    if not store.has_objects:
        return _Beside(store, local_path, url)
    size = os.stat(local_path).st_size
    if store.connection.is_s3 and size >= part_bytes:
        return _Parts(store, local_path, url, max(part_bytes, -(-size // _MOST_PARTS)), options)
    return _Whole(store, local_path, url, options)


def commit_all(uploads: MutableSequence[Upload]) -> None:
    """Shows all of `uploads`, in any order, and takes out those that are; small objects are sent side by side."""
    whole = [each for each in uploads if isinstance(each, _Whole) and not each.options]
    uploads[:] = [each for each in uploads if each not in whole]
    if whole:
        store = whole[0].store
        questions = [(each.local_path, store.key(each.url)) for each in whole]
        for each, answer in zip(whole, store.connection.ask_many("put_file", questions), strict=True):
            if isinstance(answer, Exception):
                raise describe_store_error(answer, each.url) from answer
    while uploads:
        uploads.pop().commit()


class _Whole:
    def __init__(self, store: Store, local_path: str, url: str, options: Mapping[str, Any]) -> None:
        self.store = store
        self.local_path = local_path
        self.url = url
        self.options = options
        store.client  # noqa: B018  (a package that is missing is missed before another file is shown)

    def commit(self) -> None:
        with explaining(self.url):
            self.store.client.put_file(self.local_path, self.store.key(self.url), **self.options)

    def discard(self) -> None:
        """Nothing was sent."""


class _Parts:
    def __init__(self, store: Store, local_path: str, url: str, part_bytes: int, options: Mapping[str, Any]) -> None:
        self._url = url
        with explaining(url):
            self._file = store.client.open(store.key(url), "wb", block_size=part_bytes, autocommit=False, **options)
        with _discarding(self), open(local_path, "rb") as source, explaining(url):
            shutil.copyfileobj(source, self._file, part_bytes)
            self._file.close()

    def commit(self) -> None:
        with _discarding(self), explaining(self._url):
            self._file.commit()

    def discard(self) -> None:
        with suppress(Exception):  # whatever the client raises: what fails here is why we are here
            self._file.discard()
        self._file.closed = True  # or dropping it would send what is left in its buffer


class _InMemory:
    def __init__(self, store: Store, local_path: str, url: str) -> None:
        self._store = store
        self._url = url
        with open(local_path, "rb") as file:
            self._data = file.read()

    def commit(self) -> None:
        with explaining(self._url):
            self._store.client.pipe_file(self._store.key(self._url), self._data)

    def discard(self) -> None:
        """Nothing was sent."""


class _Beside:
    def __init__(self, store: Store, local_path: str, url: str) -> None:
        self._store = store
        self._url = url
        self._beside = temporary_name(url)
        store.mkdir(url.rpartition("/")[0])
        with _discarding(self), explaining(url):
            store.client.put_file(local_path, store.key(self._beside))

    def commit(self) -> None:
        with _discarding(self):
            self._store.put_in_place(self._beside, self._url)

    def discard(self) -> None:
        with suppress(Exception):  # as above
            self._store.client.rm_file(self._store.key(self._beside))


@contextmanager
def _discarding(upload: Upload) -> Iterator[None]:
    """Gives `upload` up if the block raises."""
    try:
        yield
    except BaseException:
        upload.discard()
        raise
