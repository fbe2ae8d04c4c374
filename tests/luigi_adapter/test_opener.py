"""Targets by URI."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.targets.format import Nop
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.mock import MockTarget
from jubako.luigi.opener import LocalOpener, MockOpener, NoOpenerError, Opener, OpenerRegistry, OpenerTarget
from jubako.luigi.s3 import S3Target


@pytest.mark.parametrize(
    ("uri", "kind", "path"),
    [
        ("some/file.txt", LocalTarget, "some/file.txt"),
        ("/some/file.txt", LocalTarget, "/some/file.txt"),
        ("file://relative/file.txt", LocalTarget, "relative/file.txt"),
        ("file:///absolute/file.txt", LocalTarget, "/absolute/file.txt"),
        ("mock://in/memory", MockTarget, "in/memory"),
        ("s3://bucket/key?ContentType=x", S3Target, "s3://bucket/key"),
    ],
)
def test_uri_is_the_target_luigi_makes_of_it(uri: str, kind: Any, path: str) -> None:
    target = OpenerTarget(uri)
    assert (type(target), target.path, target.opener_path) == (kind, path, uri)


def test_query_and_arguments_reach_the_target() -> None:
    target = OpenerTarget("mock://x?mirror_on_stderr&is_tmp=false&password=secret", format=Nop)
    assert (target.mirror_on_stderr, target.format) == (True, Nop)


def test_query_is_read_by_the_openers_rules() -> None:
    class Open(Opener):
        names = ("open",)
        allowed_kwargs = {"number": True, "text": False}  # noqa: RUF012
        filter_kwargs = False

    query = "number=5&text=5&other=a&other=b&bare"
    assert Open.conform_query(query) == {"number": 5, "text": "5", "other": "a", "bare": "true"}
    assert LocalOpener.conform_query(query) == {}
    with pytest.raises(NotImplementedError):
        OpenerRegistry([Open]).open("open://x")


def test_unknown_scheme_is_refused_with_those_there_are() -> None:
    with pytest.raises(NoOpenerError, match="No opener for s3") as caught:
        OpenerRegistry([MockOpener]).open("s3://bucket/key")
    assert caught.value.hint == "openers are there for mock; add() takes others"


def test_opener_that_is_added_counts() -> None:
    class Other(MockOpener):
        names = ("file", "other")

    registry = OpenerRegistry([LocalOpener])
    registry.add(Other)
    assert type(registry.open("path")) is type(registry.open("other://path")) is MockTarget
