"""Requests to S3 as Luigi makes them, and what they raise: botocore's own errors, where it was botocore that raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from jubako.flow.stores.store import Store
from jubako.flow.stores.store_errors import find_code
from jubako.records import record

__all__ = [
    "NOT_THERE",
    "S3Key",
    "as_prefix",
    "ask",
    "copy_objects",
    "find_head",
    "find_key",
    "is_root",
    "list_pages",
    "raising_theirs",
    "split_path",
]

NOT_THERE: Final = ("NoSuchKey", "404")  # codes
_MOST_COPIED_BYTES: Final = 5 << 30  # in one request


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


class raising_theirs:
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


def ask(store: Store, method: str, **arguments: Any) -> dict[str, Any]:
    """The answer to a request."""
    with raising_theirs():
        answer: dict[str, Any] = store.client.call_s3(method, **arguments)
    return answer


def find_head(store: Store, bucket: str, key: str) -> dict[str, Any] | None:
    """What is known of an object; None if there is none."""
    try:
        return ask(store, "head_object", Bucket=bucket, Key=key)
    except Exception as error:
        if find_code(error) in NOT_THERE:
            return None
        raise


def find_key(store: Store, bucket: str, key: str) -> S3Key | None:
    """As `find_head`, as a record."""
    head = find_head(store, bucket, key)
    if head is None:
        return None
    storage_class = head.get("StorageClass", "STANDARD")
    return S3Key(bucket, key, head["ContentLength"], head["LastModified"], head["ETag"], storage_class, store)


def list_pages(store: Store, bucket: str, prefix: str, **more: Any) -> Iterator[dict[str, Any]]:
    """The answers to listing what begins with `prefix`."""
    while True:
        page = ask(store, "list_objects", Bucket=bucket, Prefix=prefix, **more)
        yield page
        if not page.get("IsTruncated"):
            return
        more["Marker"] = page.get("NextMarker") or page["Contents"][-1]["Key"]


def copy_objects(store: Store, jobs: Sequence[tuple[str, str, int, str, str]], extra: Mapping[str, Any]) -> None:
    """Copies objects side by side. A job is a bucket, a key, a size, the bucket and the key to copy to."""
    small = []
    with raising_theirs():
        for bucket, key, size, to_bucket, to_key in jobs:
            if size > _MOST_COPIED_BYTES:
                store.client.cp_file(f"{bucket}/{key}", f"{to_bucket}/{to_key}", **extra)
            else:
                source = {"Bucket": bucket, "Key": key}
                small.append(("copy_object", {**extra, "Bucket": to_bucket, "Key": to_key, "CopySource": source}))
        for answer in store.connection.ask_many("call_s3", small):
            if isinstance(answer, Exception):
                raise answer


def split_path(path: str) -> tuple[str, str]:
    """Bucket and key."""
    parts = urlsplit(path, allow_fragments=False)
    return parts.netloc, parts.path[1:] + (f"?{parts.query}" if parts.query else "")


def is_root(key: str) -> bool:
    return key in ("", "/")


def as_prefix(key: str) -> str:
    """What the keys of all that is in the directory `key` begin with."""
    return key if not key or key.endswith("/") else key + "/"
