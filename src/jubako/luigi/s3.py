"""Files in S3 as Luigi has them: targets by path, flags in directories, and tasks for what others put there.

In a box what is opened for writing is sent when the task has ended well and check() has accepted it, as with
`StoreTarget`. What goes through the client's own methods is in S3 at once.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from typing import IO, Any, Self

from jubako.flow.parameters import OptionalParameter, Parameter
from jubako.flow.stores.store_target import StoreTarget
from jubako.flow.stores.store_upload import Upload
from jubako.flow.targets.format import Format, get_default_format
from jubako.flow.targets.local_files import atomic_file, discard
from jubako.flow.targets.target import FileSystemTarget, temporary_name
from jubako.flow.tasks.task import ExternalTask
from jubako.luigi.s3_client import FileNotFoundException, InvalidDeleteException, S3Client, find_usual_client
from jubako.luigi.s3_options import DeprecatedBotoClientException

__all__ = [
    "AtomicS3File",
    "DeprecatedBotoClientException",
    "FileNotFoundException",
    "InvalidDeleteException",
    "ReadableS3File",
    "S3Client",
    "S3EmrTarget",
    "S3EmrTask",
    "S3FlagTarget",
    "S3FlagTask",
    "S3PathTask",
    "S3Target",
]


class AtomicS3File(atomic_file):
    """Written to this machine's disk; it appears in S3 when it is closed. `kwargs` are for `S3Client.put_multipart`."""

    def __init__(self, path: str, s3_client: Any, **kwargs: Any) -> None:
        self.s3_client = s3_client
        self.s3_options = kwargs
        super().__init__(path)

    def generate_tmp_path(self, path: str) -> str:
        return temporary_name(f"{tempfile.gettempdir()}/luigi-s3")

    def move_to_final_destination(self) -> None:
        self.s3_client.put_multipart(self.tmp_path, self.path, **self.s3_options)
        discard(self.tmp_path)


class ReadableS3File:
    """An object to read from: `s3_key` is what `S3Client.get_key` gives."""

    def __init__(self, s3_key: Any) -> None:
        self.s3_key = s3_key.get()["Body"]
        self.buffer: list[bytes] = []
        self.closed = False
        self.finished = False

    def read(self, size: int | None = None) -> bytes:
        data: bytes = self.s3_key.read(-1 if size is None else size)
        return data

    def read1(self, size: int = -1) -> bytes:
        return self.read(size)

    def close(self) -> None:
        self.s3_key.close()
        self.closed = True

    def flush(self) -> None:
        """Does nothing: there is nothing to write."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        yield from self.s3_key
        self.close()


class S3Target(StoreTarget):
    """A file in S3. `kwargs` are for `S3Client.put_multipart`: what S3 is to be told of the object."""

    def __init__(self, path: str, format: Format | None = None, client: Any = None, **kwargs: Any) -> None:
        FileSystemTarget.__init__(self, path)
        self.format = get_default_format() if format is None else format
        self.fs = client or find_usual_client()
        self.s3_options = kwargs

    def open(self, mode: str = "r") -> IO[Any]:
        if mode not in ("r", "w"):
            raise ValueError(f"Unsupported open mode '{mode}'")
        return super().open(mode)

    temporary_path = FileSystemTarget.temporary_path  # a path in S3, as everywhere in Luigi

    def content_version(self) -> str:
        key = self.fs.get_key(self.path)
        return str(key.e_tag) if key else ""

    def begin_upload(self, local_path: str) -> Upload:
        return _ClientUpload(self, local_path)

    def _open_store(self) -> Any:
        key = self.fs.get_key(self.path)
        if not key:
            raise FileNotFoundException(f"Could not find file at {self.path}")
        return ReadableS3File(key)

    def _make_sent_file(self) -> atomic_file:
        return AtomicS3File(self.path, self.fs, **self.s3_options)


class S3FlagTarget(S3Target):
    """A directory that is there when the file `flag` is in it. Tasks put both there by their own means."""

    as_output: Any = None  # so nothing of it is staged in a box
    content_version: Any = None  # the flag says nothing of what is in the directory

    def __init__(self, path: str, format: Format | None = None, client: Any = None, flag: Any = "_SUCCESS") -> None:
        if path[-1] != "/":
            raise ValueError("S3FlagTarget requires the path to be to a directory.  It must end with a slash ( / ).")
        super().__init__(path, format, client)
        self.flag = flag

    def _sign(self) -> str:
        sign: str = self.path + self.flag
        return sign


class S3EmrTarget(S3FlagTarget):
    """The old name of S3FlagTarget."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn("S3EmrTarget is deprecated. Please use S3FlagTarget", stacklevel=2)
        super().__init__(*args, **kwargs)


class S3PathTask(ExternalTask):
    """What somebody else puts to `path`."""

    path = Parameter()

    def output(self) -> S3Target:
        return S3Target(self.path)


class S3EmrTask(ExternalTask):
    """A directory with a flag that somebody else puts to `path`."""

    path = Parameter()

    def output(self) -> S3EmrTarget:
        return S3EmrTarget(self.path)


class S3FlagTask(ExternalTask):
    """A directory with the file `flag` that somebody else puts to `path`."""

    path = Parameter()
    flag = OptionalParameter(default=None)

    def output(self) -> S3FlagTarget:
        return S3FlagTarget(self.path, flag=self.flag)


class _ClientUpload:
    """A file that is sent when it is shown, by the client of its target, which may be the pipeline's own."""

    def __init__(self, target: S3Target, local_path: str) -> None:
        self._target = target
        self._local_path = local_path

    def commit(self) -> None:
        self._target.fs.put_multipart(self._local_path, self._target.path, **self._target.s3_options)

    def discard(self) -> None:
        """Nothing was sent."""
