"""Fingerprints: what is in one, what is never, and how changes are named."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.flow.fingerprints.fingerprint import Fingerprint, find_causes, find_lacking, take_fingerprint
from jubako.flow.parameters import FloatParameter, Parameter, ParameterVisibility
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import Config, ExternalTask, Task

PRIVATE, HIDDEN = ParameterVisibility.PRIVATE, ParameterVisibility.HIDDEN


class Versioned(Target):
    def exists(self) -> bool:
        return True

    def content_version(self) -> int:
        return 7

    def __str__(self) -> str:
        return "table"


class Plain(Target):
    def exists(self) -> bool:
        return True

    def __str__(self) -> str:
        return "queue"


class Source(ExternalTask):
    def output(self) -> Any:
        return [LocalTarget("/in/a"), {"x": LocalTarget("/in/b"), "y": Versioned()}, Plain()]


class FingerprintSettings(Config):
    factor = FloatParameter(default=2.0)
    password = Parameter(default="secret", visibility=HIDDEN)


class Made(Task):
    name = Parameter(default="x")
    threads = Parameter(default="3", significant=False)
    token = Parameter(default="secret", visibility=PRIVATE)
    key = Parameter(default="secret", visibility=HIDDEN)

    def requires(self) -> Any:
        return Source()

    def run(self) -> None:
        assert FingerprintSettings().factor


class ByVersion(Made):
    code_version = 3


def test_fingerprint_has_code_parameters_and_inputs() -> None:
    found = take_fingerprint(Made(), {"/in/a": "1a", "/in/b": ""}.__getitem__)
    assert found.code is not None
    assert {name.rpartition(".")[2] for name in found.code} >= {"Made"}
    assert found.parameters == {"Made.name": "x", "FingerprintSettings.factor": "2.0"}
    assert found.inputs == {"/in/a": "1a", "/in/b": "", "table": "7", "queue": None}
    assert find_lacking(found) == ["/in/b"]
    assert "secret" not in found.dump()
    assert Fingerprint.load(found.dump()) == found


def test_version_of_the_code_stands_for_it() -> None:
    assert take_fingerprint(ByVersion(), lambda path: "1").code == {"code_version": "3"}


def test_fingerprint_of_another_version_of_jubako_is_not_known() -> None:
    assert Fingerprint.load('[2,"something else"]') is None


def fingerprint(code: Any = None, parameters: Any = None, inputs: Any = None) -> Fingerprint:
    return Fingerprint({"a": "1"} if code is None else code, parameters or {"T.p": "1"}, inputs or {"/x": "1"})


@pytest.mark.parametrize(
    ("was", "now", "texts"),
    [
        (fingerprint(), fingerprint(), []),
        (fingerprint(), fingerprint({"a": "2"}), ["code of a changed"]),
        (
            fingerprint(),
            fingerprint({"b": "1"}),
            ["code of b is new", "code of a is used no more"],
        ),
        (fingerprint(), fingerprint(parameters={"T.p": "2"}), ["parameter T.p was 1, and is 2"]),
        (fingerprint(), fingerprint(parameters={"T.p": "1", "S.q": "2"}), ["parameter S.q is new"]),
        (fingerprint(), fingerprint(inputs={"/x": "2"}), ["input /x changed"]),
        (fingerprint(), fingerprint(inputs={"/y": "1"}), ["input /y is new", "input /x is used no more"]),
        (fingerprint(), fingerprint(inputs={"/x": ""}), []),  # gone: nobody knows
        (fingerprint(inputs={"/x": None}), fingerprint(inputs={"/x": "1"}), []),
        (fingerprint(inputs={"/x": ""}), fingerprint(inputs={"/x": "1"}), ["input /x changed"]),
        (Fingerprint(None, {}, {}), Fingerprint({"a": "1"}, {}, {}), []),
    ],
)
def test_causes_name_what_changed(was: Fingerprint, now: Fingerprint, texts: list[str]) -> None:
    assert [cause.text for cause in find_causes(was, now)] == texts
