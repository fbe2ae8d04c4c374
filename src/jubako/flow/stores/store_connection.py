"""Connections to stores: the only module that imports fsspec, and knows what its clients want to be told.

A client is made when it is first used, one for each protocol and set of options. `close_connections` ends them, and
the thread that serves asynchronous ones (`store_loop`); that also happens before this process forks, since a fork takes
no other thread along, wherever that is. A child leaves its parent's clients alone.

Retries and time-outs are bounded for S3, where fsspec and botocore would multiply theirs to minutes; what
`config_kwargs` of the storage options say counts more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

from jubako.errors import InputError
from jubako.flow.stores.store_errors import describe_store_error
from jubako.flow.targets.target import StorageUnreachable

__all__ = ["Connection", "close_connections", "find_connection"]

_S3: Final = ("s3", "s3a")
_S3_TIMES: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,  # seconds
    "read_timeout": 20,
    "retries": {"mode": "standard", "max_attempts": 2},
}
_S3_ROUNDS: Final = 2  # of the above, by s3fs, for answers that break off

_connections: dict[tuple[str, str], Connection] = {}
_abandoned: list[object] = []  # of the process this one was forked from: ending them here would end them there


class Connection:
    """A store by its protocol and options. `client` is what fsspec calls a file system."""

    def __init__(self, protocol: str, options: Mapping[str, Any]) -> None:
        self.protocol = protocol
        self._options = dict(options)
        self._client: Any = None
        self._pid = 0
        self._session: Any = None  # what botocore has read: half of the time it takes to connect, and all that can stay

    @property
    def is_s3(self) -> bool:
        return self.protocol in _S3

    @property
    def client(self) -> Any:
        """InputError for a protocol nobody knows, for a package that is not installed, and for options it refuses."""
        pid = os.getpid()
        if self._client is None or self._pid != pid:
            if self._client is not None:
                _abandoned.append(self._client)
            self._client = self._connect()
            self._pid = pid
        return self._client

    def ask_many(self, method: str, questions: Sequence[tuple[Any, ...]], **arguments: Any) -> list[Any]:
        """What `method` of the client says to each of `questions`, in order; an exception where it raised one.

        When nobody answers to one of them, those that are not under way yet are answered for in the same way.
        """
        client = self.client
        if not getattr(client, "async_impl", False):
            ask = getattr(client, method)
            return [_try(lambda words=words: ask(*words, **arguments)) for words in questions]  # type: ignore[misc]
        from jubako.flow.stores.store_loop import gather  # as in _connect

        ask = getattr(client, f"_{method}")
        return gather(partial(ask, **arguments), questions, _is_hopeless)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What comes of `work`, which uses methods of an asynchronous client."""
        from jubako.flow.stores.store_loop import wait  # as in _connect

        return wait(work)

    def ask_service(self, service: str, method: str, **arguments: Any) -> Any:
        """What another service of AWS answers, with the credentials of this connection to S3."""
        client = self.client

        async def ask() -> Any:
            await client.set_session()
            async with client.session.create_client(service) as other:
                return await getattr(other, method)(**arguments)

        return self.wait(ask())

    def close(self) -> None:
        """Lets go of the client; the next use makes a new one."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._pid != os.getpid():
            _abandoned.append(client)
            return
        session = getattr(client, "_s3creator", None)  # s3fs: else it is left to a finalizer, which waits for nothing
        if session is not None:
            self.wait(session.__aexit__(None, None, None))
            client._s3 = client._s3creator = None
            self._session = client.session

    def _connect(self) -> Any:
        try:
            import fsspec  # 60 ms, and an extra: only those who use a store have it
        except ImportError as error:
            raise _missing(self.protocol, "fsspec") from error
        try:
            cls = fsspec.get_filesystem_class(self.protocol)
        except ImportError as error:
            package = "s3fs" if self.is_s3 else ""
            raise _missing(self.protocol, package, str(error)) from error
        except ValueError as error:
            raise _unknown(self.protocol, fsspec.available_protocols()) from error
        options = {"use_listings_cache": False, **self._options}  # whether a task is done is asked now, not remembered
        if getattr(cls, "async_impl", False):
            from jubako.flow.stores.store_loop import get_loop  # imports asyncio, which others can do without

            _heed_forks()
            options["loop"] = get_loop()
        if self.is_s3:
            options["config_kwargs"] = {**_S3_TIMES, **options.get("config_kwargs", {})}
            if self._session is not None:
                options["session"] = self._session
        try:
            client = cls(**options, skip_instance_cache=True)
        except Exception as error:
            raise describe_store_error(error, f"{self.protocol}://") from error
        if self.is_s3:
            client.retries = _S3_ROUNDS
        return client


def find_connection(protocol: str, options: Mapping[str, Any]) -> Connection:
    """The connection with these options; always the same one."""
    key = (protocol, repr(sorted(options.items())) if options else "")
    found = _connections.get(key)
    if found is None:
        found = _connections[key] = Connection(protocol, options)
    return found


def close_connections() -> None:
    """Ends all connections and the thread that serves them; those that are used again are made again. Idempotent."""
    for connection in _connections.values():
        connection.close()
    module = sys.modules.get("jubako.flow.stores.store_loop")
    if module is not None:
        module.end_loop()


@cache
def _heed_forks() -> None:
    os.register_at_fork(before=_rest)


def _rest() -> None:
    """Ends the connections, unless somebody may be using one: a thread of the pipeline's, or of a library."""
    module = sys.modules["jubako.flow.stores.store_loop"]
    if module.is_alone():
        close_connections()


def _is_hopeless(error: Exception) -> bool:
    return isinstance(describe_store_error(error, ""), StorageUnreachable)


def _try(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001  (answered for, as in gather)
        return error


def _missing(protocol: str, package: str, words: str = "") -> InputError:
    what = f"{package}, which is not installed" if package else f"a package that is not installed ({words})"
    extra = "s3" if protocol in _S3 else "stores"
    hint = f"pip install 'jubako[{extra}]'" if package else "install it beside jubako"
    return InputError(f"{protocol}:// needs {what}", hint=hint)


def _unknown(protocol: str, known: Sequence[str]) -> InputError:
    import difflib  # 2 ms, for the mistaken

    close = difflib.get_close_matches(protocol, known, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(f'{name}://' for name in close)}? " if close else ""
    return InputError(
        f"no store is known whose addresses begin with {protocol}://",
        hint=f"{guess}fsspec lists its own; packages can add more",
    )
