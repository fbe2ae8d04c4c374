"""Luigi's client of S3, with its directories: a marker `key_$folder$` or `key/`, or anything below `key/`.

Methods and what they raise are Luigi's: an error of the service is botocore's ClientError. The requests are made by the
client that jubako's own targets use (`flow.stores.store`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, ClassVar, Final

from jubako.errors import InputError
from jubako.flow.stores.store import Store, find_store
from jubako.flow.stores.store_errors import find_code
from jubako.flow.stores.store_upload import begin_upload
from jubako.flow.targets.local_files import atomic_file
from jubako.flow.targets.target import FileAlreadyExists, FileSystem, FileSystemException, MissingParentDirectory
from jubako.luigi.log import logger
from jubako.luigi.s3_options import DeprecatedBotoClientException, assume_role, read_section, translate_options
from jubako.luigi.s3_requests import (
    NOT_THERE,
    S3Key,
    as_prefix,
    ask,
    copy_objects,
    find_head,
    find_key,
    is_root,
    list_pages,
    raising_theirs,
    split_path,
)

__all__ = ["FileNotFoundException", "InvalidDeleteException", "S3Client", "find_usual_client"]

_MARKERS: Final = ("_$folder$", "/")
_FEW: Final = 8  # keys in one directory that are asked for one by one
_MOST_DELETED: Final = 1000  # in one request


class InvalidDeleteException(FileSystemException):
    """A bucket is not removed, nor a directory unless it is to be removed with what is in it."""


class FileNotFoundException(FileSystemException):
    """There is no such file."""


class S3Client(FileSystem):
    """A client of S3. Arguments are those of boto3's resource; what they leave open, the section [s3] of the settings
    says, then what AWS's own tools read (environment, profiles)."""

    DEFAULT_PART_SIZE: ClassVar[int] = 8388608
    DEFAULT_THREADS: ClassVar[int] = 100

    def __init__(
        self,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        **kwargs: Any,
    ) -> None:
        given = {
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_session_token": aws_session_token,
        }
        self._options = {**self._get_s3_config(), **kwargs, **{name: value for name, value in given.items() if value}}
        self._found: Store | None = None

    @property
    def store(self) -> Store:
        """What the requests are made with."""
        if self._found is None:
            self._found = find_store("s3://", translate_options(assume_role(self._options)))
        return self._found

    @property
    def s3(self) -> Any:
        """Refused: it is a resource of boto3 in Luigi, which is not used here."""
        raise InputError(
            "S3Client.s3 is not part of jubako, which does not use boto3",
            hint="use the methods of S3Client, or boto3.resource('s3')",
        )

    def exists(self, path: str) -> bool:
        bucket, key = split_path(path)
        if is_root(key) or self._exists(bucket, key) or self.isdir(path):
            return True
        logger.debug("Path %s does not exist", path)
        return False

    def find_existing(self, paths: Iterable[str]) -> set[str]:
        """Those of `paths` that exist; where many are in one directory, it is listed."""
        by_directory: dict[tuple[str, str], list[str]] = {}
        for path in paths:
            bucket, key = split_path(path)
            by_directory.setdefault((bucket, key.rstrip("/").rpartition("/")[0]), []).append(path)
        existing: set[str] = set()
        for (bucket, directory), members in by_directory.items():
            if len(members) <= _FEW:
                existing.update(path for path in members if self.exists(path))
                continue
            keys: set[str] = set()
            for page in list_pages(self.store, bucket, as_prefix(directory), Delimiter="/"):
                keys.update(item["Key"] for item in page.get("Contents", ()))
                keys.update(item["Prefix"] for item in page.get("CommonPrefixes", ()))
            for path in members:
                key = split_path(path)[1]
                if is_root(key) or key in keys or any(key + marker in keys for marker in _MARKERS):
                    existing.add(path)
        return existing

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> bool:  # type: ignore[override]
        """Removes an object, or a directory with all in it; True if something was removed."""
        if not self.exists(path):
            logger.debug("Could not delete %s; path does not exist", path)
            return False
        bucket, key = split_path(path)
        if is_root(key):
            raise InvalidDeleteException(f"Cannot delete root of bucket at path {path}")
        if self._exists(bucket, key):
            ask(self.store, "delete_object", Bucket=bucket, Key=key)
            logger.debug("Deleting %s from bucket %s", key, bucket)
            return True
        if self.isdir(path) and not recursive:
            raise InvalidDeleteException(f"Path {path} is a directory. Must use recursive delete")
        keys = [
            item["Key"] for page in list_pages(self.store, bucket, as_prefix(key)) for item in page.get("Contents", ())
        ]
        keys += [key + _MARKERS[0]] if self._exists(bucket, key + _MARKERS[0]) else []
        for start in range(0, len(keys), _MOST_DELETED):
            objects = [{"Key": each} for each in keys[start : start + _MOST_DELETED]]
            ask(self.store, "delete_objects", Bucket=bucket, Delete={"Objects": objects})
        return bool(keys)

    def move(self, source_path: str, destination_path: str, **kwargs: Any) -> None:  # type: ignore[override]
        """Copies, then removes."""
        self.copy(source_path, destination_path, **kwargs)
        self.remove(source_path)

    def get_key(self, path: str) -> S3Key | None:
        """What is known of the object at `path`; None if there is none."""
        bucket, key = split_path(path)
        return find_key(self.store, bucket, key)

    def put(self, local_path: str, destination_s3_path: str, **kwargs: Any) -> None:
        """Puts a file of this machine to `destination_s3_path`."""
        self.put_multipart(local_path, destination_s3_path, **kwargs)

    def put_string(self, content: str | bytes, destination_s3_path: str, **kwargs: Any) -> None:
        """Puts a text or bytes to `destination_s3_path`."""
        _refuse_deprecated(kwargs)
        bucket, key = split_path(destination_s3_path)
        body = content.encode() if isinstance(content, str) else content
        ask(self.store, "put_object", Bucket=bucket, Key=key, Body=body, **kwargs)

    def put_multipart(
        self, local_path: str, destination_s3_path: str, part_size: int = DEFAULT_PART_SIZE, **kwargs: Any
    ) -> None:
        """Puts a file of this machine, in parts if it is bigger than one; it appears whole, or not at all."""
        _refuse_deprecated(kwargs)
        bucket, key = split_path(destination_s3_path)
        with raising_theirs():
            begin_upload(self.store, local_path, f"s3://{bucket}/{key}", {"part_bytes": part_size, **kwargs}).commit()

    def copy(  # type: ignore[override]
        self,
        source_path: str,
        destination_path: str,
        threads: int = DEFAULT_THREADS,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        part_size: int = DEFAULT_PART_SIZE,
        **kwargs: Any,
    ) -> tuple[int, int]:
        """Copies an object or a directory, of that what was changed after `start_time` and before `end_time`.

        Comes back with how many objects were copied, and their bytes.
        """
        bucket, key = split_path(source_path)
        to_bucket, to_key = split_path(destination_path)
        if not self.isdir(source_path):
            size = ask(self.store, "head_object", Bucket=bucket, Key=key)["ContentLength"]
            copy_objects(self.store, [(bucket, key, size, to_bucket, to_key)], kwargs)
            return 1, size
        prefix, to_prefix = as_prefix(key), as_prefix(to_key)
        jobs = []
        for item in self.list(source_path, start_time=start_time, end_time=end_time, return_key=True):
            name = item.key[len(prefix) :]
            if name not in ("", "/"):  # the mark of a directory
                jobs.append((bucket, prefix + name, item.size, to_bucket, to_prefix + name))
        copy_objects(self.store, jobs, kwargs)
        return len(jobs), sum(size for _, _, size, _, _ in jobs)

    def get(self, s3_path: str, destination_local_path: str) -> None:
        """Copies an object to a file of this machine."""
        bucket, key = split_path(s3_path)
        ask(self.store, "head_object", Bucket=bucket, Key=key)
        with (
            raising_theirs(),
            self.store.open_reader(f"s3://{bucket}/{key}") as source,
            atomic_file(destination_local_path) as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)

    def get_as_bytes(self, s3_path: str) -> bytes:
        """The content of an object."""
        bucket, key = split_path(s3_path)
        client = self.store.client

        async def read() -> bytes:
            answer = await client._call_s3("get_object", Bucket=bucket, Key=key)
            async with answer["Body"] as body:
                content: bytes = await body.read()
            return content

        with raising_theirs():
            found: bytes = self.store.connection.wait(read())
        return found

    def get_as_string(self, s3_path: str, encoding: str = "utf-8") -> str:
        """The content of an object, as text."""
        return self.get_as_bytes(s3_path).decode(encoding)

    def isdir(self, path: str) -> bool:
        bucket, key = split_path(path)
        if is_root(key):
            return True
        for marker in _MARKERS:
            try:
                ask(self.store, "get_object", Bucket=bucket, Key=key + marker)["Body"].close()
            except Exception as error:
                if find_code(error) not in NOT_THERE:
                    raise
            else:
                return True
        return bool(ask(self.store, "list_objects", Bucket=bucket, Prefix=as_prefix(key), MaxKeys=1).get("Contents"))

    is_dir = isdir

    def mkdir(self, path: str, parents: bool = True, raise_if_exists: bool = False) -> None:
        if raise_if_exists and self.isdir(path):
            raise FileAlreadyExists()
        if is_root(split_path(path)[1]):
            return
        if not parents and not self.isdir(as_prefix(path)[:-1]):
            raise MissingParentDirectory()
        self.put_string("", as_prefix(path))

    def listdir(
        self,
        path: str,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        return_key: bool = False,
    ) -> Iterator[Any]:
        """The paths of all objects below `path`, each beginning with it; or what is known of them (`S3Key`)."""
        bucket, key = split_path(path)
        prefix = as_prefix(key)
        for page in list_pages(self.store, bucket, prefix):
            for item in page.get("Contents", ()):
                changed = item["LastModified"]
                if (start_time and changed <= start_time) or (end_time and changed >= end_time):
                    continue
                if return_key:
                    storage_class = item.get("StorageClass", "STANDARD")
                    yield S3Key(bucket, item["Key"], item["Size"], changed, item["ETag"], storage_class, self.store)
                else:
                    yield as_prefix(path) + item["Key"][len(prefix) :]

    def list(
        self,
        path: str,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        return_key: bool = False,
    ) -> Iterator[Any]:
        """As `listdir`, with paths relative to `path`."""
        for item in self.listdir(path, start_time=start_time, end_time=end_time, return_key=return_key):
            yield item if return_key else item[len(as_prefix(path)) :]

    @staticmethod
    def _get_s3_config(key: str | None = None) -> Any:
        section = read_section()
        return section.get(key) if key else section

    def _exists(self, bucket: str, key: str) -> bool:
        return find_head(self.store, bucket, key) is not None


def find_usual_client() -> S3Client:
    """The client that the settings describe; the same one while they do not change."""
    client = S3Client()
    return _usual.setdefault(repr(sorted(client._options.items())), client)


_usual: dict[str, S3Client] = {}


def _refuse_deprecated(arguments: dict[str, Any]) -> None:
    if "encrypt_key" in arguments:
        raise DeprecatedBotoClientException(
            "encrypt_key deprecated in boto3. Please refer to boto3 documentation for encryption details."
        )
    if "host" in arguments:
        raise DeprecatedBotoClientException("host keyword deprecated and is replaced by region_name in boto3.")
