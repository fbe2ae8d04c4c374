"""Targets by URI: a path or file:// is a file of this machine, mock:// one in memory, s3:// one in S3.

Openers for others can be added.

OpenerTarget("file:///data/day.csv?format=...")       opener.add(MyOpener)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.mock import MockTarget
from jubako.flow.targets.target import FileSystemException

__all__ = [
    "InvalidQuery",
    "LocalOpener",
    "MockOpener",
    "NoOpenerError",
    "Opener",
    "OpenerError",
    "OpenerRegistry",
    "OpenerTarget",
    "S3Opener",
    "opener",
]


class OpenerError(FileSystemException):
    """A URI cannot be made a target."""


class NoOpenerError(OpenerError):
    """Nobody knows the URI's scheme."""


class InvalidQuery(OpenerError):
    """An opener doesn't like what stands after the "?"; raised by openers of pipelines."""


class Opener:
    """Makes targets of URIs with one of `names` for a scheme."""

    names: ClassVar[Iterable[str]] = ()
    allowed_kwargs: ClassVar[Mapping[str, bool]] = {}  # what may stand in the query, and whether it is JSON
    filter_kwargs: ClassVar[bool] = True  # what else stands there is left out

    @classmethod
    def conform_query(cls, query: str) -> dict[str, Any]:
        """The values in a query; of a name that stands there twice the first one counts, a bare name is true."""
        values: dict[str, Any] = {}
        for name, texts in parse_qs(query, keep_blank_values=True).items():
            if name in cls.allowed_kwargs or not cls.filter_kwargs:
                text = texts[0] or "true"
                values[name] = json.loads(text) if cls.allowed_kwargs.get(name, False) else text
        return values

    @classmethod
    def get_target(
        cls,
        scheme: str,
        path: str,
        fragment: str,
        username: str | None,
        password: str | None,
        hostname: str | None,
        port: int | None,
        query: dict[str, Any],
        **kwargs: Any,
    ) -> Any:
        """The target for the parts of a URI."""
        raise NotImplementedError("get_target must be overridden")


class _PathOpener(Opener):
    """Makes targets that need no more than a path, of which a relative one begins where a host would stand."""

    target: ClassVar[Any]

    @classmethod
    def get_target(cls, scheme: str, path: str, fragment: str, *rest: Any, **kwargs: Any) -> Any:
        _, _, hostname, _, query = rest
        return cls.target((hostname or "") + path, **{**query, **kwargs})


class MockOpener(_PathOpener):
    """mock://name"""

    names = ("mock",)
    allowed_kwargs: ClassVar = {"is_tmp": True, "mirror_on_stderr": True, "format": False}
    target = MockTarget


class LocalOpener(_PathOpener):
    """file:///absolute, file://relative or just a path"""

    names = ("file",)
    allowed_kwargs: ClassVar = {"is_tmp": True, "format": False}
    target = LocalTarget


class S3Opener(Opener):
    """s3://bucket/key, with what is to be told of the object after a "?" """

    names = ("s3", "s3n")
    allowed_kwargs: ClassVar = {"format": False, "client": True}
    filter_kwargs = False

    @classmethod
    def get_target(cls, scheme: str, path: str, fragment: str, *rest: Any, **kwargs: Any) -> Any:
        from jubako.luigi.s3 import S3Target  # 20 ms that few ask for

        _, _, hostname, _, query = rest
        return S3Target(f"{scheme}://{hostname}{path}", **{**query, **kwargs})


class OpenerRegistry:
    """Openers by scheme; of several for one scheme the last added counts."""

    default_opener: ClassVar[str] = "file"

    def __init__(self, openers: Iterable[type[Opener]] = ()) -> None:
        self.registry: dict[str, type[Opener]] = {}
        for each in openers:
            self.add(each)

    def add(self, opener: type[Opener]) -> None:
        """Makes the opener known for its schemes."""
        self.registry.update(dict.fromkeys(opener.names, opener))

    def get_opener(self, name: str) -> type[Opener]:
        """The opener for a scheme."""
        if name not in self.registry:
            known = ", ".join(sorted(self.registry))
            raise NoOpenerError(f"No opener for {name}", hint=f"openers are there for {known}; add() takes others")
        return self.registry[name]

    def open(self, target_uri: str, **kwargs: Any) -> Any:
        """The target at a URI; `kwargs` go to it beside what the query says."""
        parts = urlsplit(target_uri, scheme=self.default_opener)
        found = self.get_opener(parts.scheme)
        target = found.get_target(
            parts.scheme, parts.path, parts.fragment, parts.username, parts.password, parts.hostname, parts.port,
            found.conform_query(parts.query), **kwargs,
        )  # fmt: skip
        target.opener_path = target_uri
        return target


opener = OpenerRegistry([MockOpener, LocalOpener, S3Opener])
OpenerTarget = opener.open
