"""Luigi's client of S3, with its directories: a marker `key_$folder$` or `key/`, or anything below `key/`.

Methods and what they raise are Luigi's: an error of the service is botocore's ClientError. The requests are made by the
client that jubako's own targets use (`flow.store`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from configparser import NoSectionError
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from jubako.errors import InputError
from jubako.flow.local_files import atomic_file
from jubako.flow.store import Store, find_store
from jubako.flow.store_upload import begin_upload
from jubako.flow.target import FileAlreadyExists, FileSystem, FileSystemException, MissingParentDirectory
from jubako.luigi.configuration import get_config
from jubako.luigi.log import logger
from jubako.luigi.s3_options import DeprecatedBotoClientException, assume_role, translate_options
from jubako.records import record

__all__ = ["FileNotFoundException", "InvalidDeleteException", "S3Client", "S3Key", "find_usual_client"]

_MARKERS: Final = ("_$folder$", "/")
_NOT_THERE: Final = ("NoSuchKey", "404")
_FEW: Final = 8  # keys in one directory that are asked for one by one
_MOST_DELETED: Final = 1000  # in one request
_MOST_COPIED_BYTES: Final = 5 << 30  # in one request


class InvalidDeleteException(FileSystemException):
    """A bucket is not removed, nor a directory unless it is to be removed with what is in it."""


class FileNotFoundException(FileSystemException):
    """There is no such file."""


@record
class S3Key:
    """What is known of an object. `get()["Body"]` is a file to read it from."""

    bucket_name: str
    key: str
    size: int
    last_modified: datetime
    e_tag: str
    storage_class: str
    _store: Store

    def get(self) -> dict[str, Any]:
        return {"Body": self._store.open_reader(f"s3://{self.bucket_name}/{self.key}")}


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
        bucket, key = _split(path)
        if _is_root(key) or self._exists(bucket, key) or self.isdir(path):
            return True
        logger.debug("Path %s does not exist", path)
        return False

    def find_existing(self, paths: Iterable[str]) -> set[str]:
        """Those of `paths` that exist; where many are in one directory, it is listed."""
        by_directory: dict[tuple[str, str], list[str]] = {}
        for path in paths:
            bucket, key = _split(path)
            by_directory.setdefault((bucket, key.rstrip("/").rpartition("/")[0]), []).append(path)
        existing: set[str] = set()
        for (bucket, directory), members in by_directory.items():
            if len(members) <= _FEW:
                existing.update(path for path in members if self.exists(path))
                continue
            keys: set[str] = set()
            for page in self._list_pages(bucket, _as_prefix(directory), Delimiter="/"):
                keys.update(item["Key"] for item in page.get("Contents", ()))
                keys.update(item["Prefix"] for item in page.get("CommonPrefixes", ()))
            for path in members:
                key = _split(path)[1]
                if _is_root(key) or key in keys or any(key + marker in keys for marker in _MARKERS):
                    existing.add(path)
        return existing

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> bool:  # type: ignore[override]
        """Removes an object, or a directory with all in it; True if something was removed."""
        if not self.exists(path):
            logger.debug("Could not delete %s; path does not exist", path)
            return False
        bucket, key = _split(path)
        if _is_root(key):
            raise InvalidDeleteException(f"Cannot delete root of bucket at path {path}")
        if self._exists(bucket, key):
            self._call("delete_object", Bucket=bucket, Key=key)
            logger.debug("Deleting %s from bucket %s", key, bucket)
            return True
        if self.isdir(path) and not recursive:
            raise InvalidDeleteException(f"Path {path} is a directory. Must use recursive delete")
        keys = [item["Key"] for page in self._list_pages(bucket, _as_prefix(key)) for item in page.get("Contents", ())]
        keys += [key + _MARKERS[0]] if self._exists(bucket, key + _MARKERS[0]) else []
        for start in range(0, len(keys), _MOST_DELETED):
            objects = [{"Key": each} for each in keys[start : start + _MOST_DELETED]]
            self._call("delete_objects", Bucket=bucket, Delete={"Objects": objects})
        return bool(keys)

    def move(self, source_path: str, destination_path: str, **kwargs: Any) -> None:  # type: ignore[override]
        """Copies, then removes."""
        self.copy(source_path, destination_path, **kwargs)
        self.remove(source_path)

    def get_key(self, path: str) -> S3Key | None:
        """What is known of the object at `path`; None if there is none."""
        bucket, key = _split(path)
        head = self._find_head(bucket, key)
        if head is None:
            return None
        return S3Key(
            bucket,
            key,
            head["ContentLength"],
            head["LastModified"],
            head["ETag"],
            head.get("StorageClass", "STANDARD"),
            self.store,
        )

    def put(self, local_path: str, destination_s3_path: str, **kwargs: Any) -> None:
        """Puts a file of this machine to `destination_s3_path`."""
        self.put_multipart(local_path, destination_s3_path, **kwargs)

    def put_string(self, content: str | bytes, destination_s3_path: str, **kwargs: Any) -> None:
        """Puts a text or bytes to `destination_s3_path`."""
        _refuse_deprecated(kwargs)
        bucket, key = _split(destination_s3_path)
        body = content.encode() if isinstance(content, str) else content
        self._call("put_object", Bucket=bucket, Key=key, Body=body, **kwargs)

    def put_multipart(
        self, local_path: str, destination_s3_path: str, part_size: int = DEFAULT_PART_SIZE, **kwargs: Any
    ) -> None:
        """Puts a file of this machine, in parts if it is bigger than one; it appears whole, or not at all."""
        _refuse_deprecated(kwargs)
        bucket, key = _split(destination_s3_path)
        with _raising_theirs():
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
        bucket, key = _split(source_path)
        to_bucket, to_key = _split(destination_path)
        if not self.isdir(source_path):
            size = self._call("head_object", Bucket=bucket, Key=key)["ContentLength"]
            self._copy_all([(bucket, key, size, to_bucket, to_key)], kwargs)
            return 1, size
        prefix, to_prefix = _as_prefix(key), _as_prefix(to_key)
        jobs = []
        for item in self.list(source_path, start_time=start_time, end_time=end_time, return_key=True):
            name = item.key[len(prefix) :]
            if name not in ("", "/"):  # the mark of a directory
                jobs.append((bucket, prefix + name, item.size, to_bucket, to_prefix + name))
        self._copy_all(jobs, kwargs)
        return len(jobs), sum(size for _, _, size, _, _ in jobs)

    def get(self, s3_path: str, destination_local_path: str) -> None:
        """Copies an object to a file of this machine."""
        bucket, key = _split(s3_path)
        self._call("head_object", Bucket=bucket, Key=key)
        with (
            _raising_theirs(),
            self.store.open_reader(f"s3://{bucket}/{key}") as source,
            atomic_file(destination_local_path) as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)

    def get_as_bytes(self, s3_path: str) -> bytes:
        """The content of an object."""
        bucket, key = _split(s3_path)
        client = self.store.client

        async def read() -> bytes:
            answer = await client._call_s3("get_object", Bucket=bucket, Key=key)
            async with answer["Body"] as body:
                content: bytes = await body.read()
            return content

        with _raising_theirs():
            found: bytes = self.store.connection.wait(read())
        return found

    def get_as_string(self, s3_path: str, encoding: str = "utf-8") -> str:
        """The content of an object, as text."""
        return self.get_as_bytes(s3_path).decode(encoding)

    def isdir(self, path: str) -> bool:
        bucket, key = _split(path)
        if _is_root(key):
            return True
        for marker in _MARKERS:
            try:
                self._call("get_object", Bucket=bucket, Key=key + marker)["Body"].close()
            except Exception as error:
                if _code(error) not in _NOT_THERE:
                    raise
            else:
                return True
        return bool(self._call("list_objects", Bucket=bucket, Prefix=_as_prefix(key), MaxKeys=1).get("Contents"))

    is_dir = isdir

    def mkdir(self, path: str, parents: bool = True, raise_if_exists: bool = False) -> None:
        if raise_if_exists and self.isdir(path):
            raise FileAlreadyExists()
        if _is_root(_split(path)[1]):
            return
        if not parents and not self.isdir(_as_prefix(path)[:-1]):
            raise MissingParentDirectory()
        self.put_string("", _as_prefix(path))

    def listdir(
        self,
        path: str,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        return_key: bool = False,
    ) -> Iterator[Any]:
        """The paths of all objects below `path`, each beginning with it; or what is known of them (`S3Key`)."""
        bucket, key = _split(path)
        prefix = _as_prefix(key)
        for page in self._list_pages(bucket, prefix):
            for item in page.get("Contents", ()):
                changed = item["LastModified"]
                if (start_time and changed <= start_time) or (end_time and changed >= end_time):
                    continue
                if return_key:
                    storage_class = item.get("StorageClass", "STANDARD")
                    yield S3Key(bucket, item["Key"], item["Size"], changed, item["ETag"], storage_class, self.store)
                else:
                    yield _as_prefix(path) + item["Key"][len(prefix) :]

    def list(
        self,
        path: str,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        return_key: bool = False,
    ) -> Iterator[Any]:
        """As `listdir`, with paths relative to `path`."""
        for item in self.listdir(path, start_time=start_time, end_time=end_time, return_key=return_key):
            yield item if return_key else item[len(_as_prefix(path)) :]

    @staticmethod
    def _get_s3_config(key: str | None = None) -> Any:
        section = _read_section()
        return section.get(key) if key else section

    def _exists(self, bucket: str, key: str) -> bool:
        return self._find_head(bucket, key) is not None

    def _find_head(self, bucket: str, key: str) -> dict[str, Any] | None:
        try:
            return self._call("head_object", Bucket=bucket, Key=key)
        except Exception as error:
            if _code(error) in _NOT_THERE:
                return None
            raise

    def _list_pages(self, bucket: str, prefix: str, **more: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self._call("list_objects", Bucket=bucket, Prefix=prefix, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more["Marker"] = page.get("NextMarker") or page["Contents"][-1]["Key"]

    def _copy_all(self, jobs: Sequence[tuple[str, str, int, str, str]], extra: dict[str, Any]) -> None:
        small = []
        for bucket, key, size, to_bucket, to_key in jobs:
            if size > _MOST_COPIED_BYTES:
                with _raising_theirs():
                    self.store.client.cp_file(f"{bucket}/{key}", f"{to_bucket}/{to_key}", **extra)
            else:
                source = {"Bucket": bucket, "Key": key}
                small.append(("copy_object", {**extra, "Bucket": to_bucket, "Key": to_key, "CopySource": source}))
        with _raising_theirs():
            for answer in self.store.connection.ask_many("call_s3", small):
                if isinstance(answer, Exception):
                    raise answer

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        with _raising_theirs():
            answer: dict[str, Any] = self.store.client.call_s3(method, **arguments)
        return answer


def find_usual_client() -> S3Client:
    """The client that the settings describe; the same one while they do not change."""
    client = S3Client()
    return _usual.setdefault(repr(sorted(client._options.items())), client)


class _raising_theirs:
    """Raises what botocore raised, where that is what an error comes from."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        current = error
        while current is not None:
            if hasattr(current, "response") or type(current).__module__.startswith("botocore"):
                if current is not error:
                    raise current from None
                return
            current = current.__cause__


_usual: dict[str, S3Client] = {}


def _code(error: Exception) -> str:
    response: Any = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def _read_section() -> dict[str, Any]:
    """The section [s3] of the settings, without what is only there because it is in [DEFAULT]. Numbers are numbers."""
    config = get_config()
    defaults = dict(config.defaults()) if hasattr(config, "defaults") else {}
    try:
        section = dict(config.items("s3")) if hasattr(config, "items") else dict(config["s3"])
    except (NoSectionError, KeyError):
        return {}
    options: dict[str, Any] = {}
    for name, value in section.items():
        if name in defaults and defaults[name] == value:
            continue
        is_number = isinstance(value, str) and value.strip().lstrip("+-").isdecimal()
        options[name] = int(value) if is_number else value
    return options


def _refuse_deprecated(arguments: dict[str, Any]) -> None:
    if "encrypt_key" in arguments:
        raise DeprecatedBotoClientException(
            "encrypt_key deprecated in boto3. Please refer to boto3 documentation for encryption details."
        )
    if "host" in arguments:
        raise DeprecatedBotoClientException("host keyword deprecated and is replaced by region_name in boto3.")


def _split(path: str) -> tuple[str, str]:
    """Bucket and key."""
    parts = urlsplit(path, allow_fragments=False)
    return parts.netloc, parts.path[1:] + (f"?{parts.query}" if parts.query else "")


def _is_root(key: str) -> bool:
    return key in ("", "/")


def _as_prefix(key: str) -> str:
    return key if not key or key.endswith("/") else key + "/"
