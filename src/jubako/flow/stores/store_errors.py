"""What went wrong with a store, in one sentence: errors of client libraries become errors that say who must act.

    missing bucket, refused access, no credentials     StoreError
    nobody answers, within the time there is           StorageUnreachable
    unknown protocol, missing package, wrong option    InputError

No library is imported for that: what their errors are is told by their names and by the codes of the protocol, so this
serves every client alike. No sentence has a storage option in it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any, Final

from jubako.errors import InputError, JubakoError
from jubako.flow.targets.target import FileSystemException, StorageUnreachable

__all__ = ["StoreError", "describe_store_error", "find_code"]

_UNREACHABLE: Final = frozenset(
    {
        "ClientConnectionError", "ClientConnectorError", "ConnectError", "ConnectTimeoutError", "ConnectionClosedError",
        "EndpointConnectionError", "FSTimeoutError", "HTTPClientError", "ProxyConnectionError", "ReadTimeoutError",
        "SSLError", "ServerDisconnectedError", "ServerTimeoutError",
    }
)  # fmt: skip
_WITHOUT_CREDENTIALS: Final = frozenset(
    {"CredentialRetrievalError", "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "RefreshError"}
)
_REFUSED_CODES: Final = frozenset(
    {"403", "401", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "Forbidden", "InvalidAccessKeyId",
     "InvalidToken", "SignatureDoesNotMatch"}
)  # fmt: skip
_HINT_REFUSED: Final = "look at the credentials in use and at what they may do: reading, writing and listing"
_HINT_CREDENTIALS: Final = (
    "give them as the store's own tools take them (environment, configuration files), or as storage_options"
)


class StoreError(FileSystemException):
    """A store answered, and would not do what it was asked."""


def describe_store_error(error: Exception, url: str) -> Exception:
    """The error to raise instead of `error`, which a client library raised about `url`.

    Errors of our own and of this machine's files are answered with themselves.
    """
    chain = list(_chain(error))
    names = {cls.__name__ for each in chain for cls in type(each).__mro__}
    code = find_code(error)
    if code == "NoSuchBucket":
        return StoreError(f"{url}: there is no bucket {_bucket_of(url)!r}", hint="make it first, or correct the name")
    if isinstance(error, JubakoError) or (isinstance(error, OSError) and error.filename is not None):
        return error
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
    if names & _WITHOUT_CREDENTIALS:
        return StoreError(f"{url}: there are no credentials: {_text(error)}", hint=_HINT_CREDENTIALS)
    if code in _REFUSED_CODES or any(isinstance(each, PermissionError) for each in chain):
        why = f" ({code})" if code and not code.isdecimal() else ""
        return StoreError(f"{url}: access is refused{why}", hint=_HINT_REFUSED)
    if names & _UNREACHABLE or any(isinstance(each, (ConnectionError, TimeoutError)) for each in chain):
        return StorageUnreachable(
            f"{url}: the store cannot be reached: {_text(error)}",
            hint="look at the network, at proxies, and at endpoint_url where the store has one",
        )
    if isinstance(error, NotImplementedError):
        return StoreError(f"{url}: this store cannot do that{_appended(error)}")
    if isinstance(error, TypeError) and "argument" in str(error):
        return InputError(f"{url}: {_text(error)}", hint="see what storage_options the package of this store takes")
    return StoreError(f"{url}: {_text(error)}")


def find_code(error: BaseException) -> str:
    """What the service called the error ("NoSuchKey", "403"); "" if it did not answer, or is no such service."""
    for each in _chain(error):
        response: Any = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _bucket_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _text(error: BaseException) -> str:
    """The error's own words, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _appended(error: BaseException) -> str:
    return f": {_text(error)}" if str(error) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it came from, the nearest first; ends where it goes in circles."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
