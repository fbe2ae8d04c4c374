"""Where lineage goes: values only. What makes no sense is an InputError when it is made."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from jubako.errors import InputError
from jubako.flow.notices.hooks import Secret, check_url
from jubako.records import record

__all__ = ["Lineage"]

_ENDPOINT = "/api/v1/lineage"  # where collectors listen, unless an address says otherwise


@record
class Lineage:
    """Events of a run as OpenLineage has them, appended to a file or posted to a collector.

    `to` is a path, "file:///PATH" or "https://HOST"; `namespace` is that of jobs; `api_key` goes to the collector.
    """

    to: str
    namespace: str = "jubako"
    api_key: Secret | None = None

    def __post_init__(self) -> None:
        problem = ""
        scheme = urlsplit(self.to).scheme if "://" in self.to else ""
        if not self.to or scheme not in ("", "file", "http", "https"):
            problem = f"lineage goes to a path, file:///PATH or https://HOST, not {self.to!r}"
        elif scheme == "file" and (urlsplit(self.to).netloc not in ("", "localhost") or not urlsplit(self.to).path):
            problem = f"{self.to!r} is not of the form file:///PATH"
        elif scheme in ("http", "https"):
            problem = check_url(self.to)
        elif self.api_key is not None:
            problem = "an api_key is for a collector, not for a file"
        if not self.namespace.strip():
            problem = "the namespace of lineage is empty"
        if problem:
            raise InputError(problem)

    @property
    def path(self) -> str:
        """The file that events go to, "" if they are posted."""
        if "://" not in self.to:
            return os.path.abspath(self.to)
        parts = urlsplit(self.to)
        return unquote(parts.path) if parts.scheme == "file" else ""

    @property
    def url(self) -> str:
        """The address they are posted to, "" if they go to a file."""
        if self.path:
            return ""
        parts = urlsplit(self.to)
        return self.to if parts.path.strip("/") or parts.query else f"{parts.scheme}://{parts.netloc}{_ENDPOINT}"

    @property
    def target(self) -> str:
        """Where they go, for people."""
        return self.path or urlsplit(self.to).netloc
