"""Secrets as values: where they come from, and that no text of a record holds what they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.secrets import BoxSecret
from jubako.boxes.spec import Box
from jubako.boxes.views.operations import PlaceSecrets, SecretFile
from jubako.errors import InputError


def test_secret_is_read_from_each_kind_of_source(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"of a file\n")
    read_end, write_end = os.pipe()
    os.write(write_end, b"of a pipe")
    os.close(write_end)
    environment = {"TOKEN": "of a variable"}
    try:
        assert BoxSecret("a", file=str(tmp_path / "token")).resolve({}).value == b"of a file\n"
        assert BoxSecret("a", descriptor=read_end).resolve({}).value == b"of a pipe"
        assert BoxSecret("a", variable="TOKEN").resolve(environment).value == b"of a variable"
        assert BoxSecret("a", value=b"as it is").resolve({}).value == b"as it is"
    finally:
        os.close(read_end)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "", "value": b""}, "'' is no name for a secret"),
        ({"name": "..", "value": b""}, "is no name for a secret"),
        ({"name": "a/b", "value": b""}, "is no name for a secret"),
        ({"name": "a"}, "is to come from one place"),
        ({"name": "a", "value": b"", "file": "/x"}, "is to come from one place"),
    ],
)
def test_secret_without_a_name_or_one_source_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        BoxSecret(**values)


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (BoxSecret("a", file="/nonexistent/token"), "/nonexistent/token cannot be read: No such file"),
        (BoxSecret("a", file="/"), "cannot be read: Is a directory"),
        (BoxSecret("a", descriptor=977), "descriptor 977 cannot be read: Bad file descriptor"),
        (BoxSecret("a", variable="UNSET"), "the variable UNSET is not set"),
        (BoxSecret("a", file="/dev/zero"), "is larger than 1 MiB"),
    ],
)
def test_secret_that_cannot_be_read_is_named(secret: BoxSecret, said: str) -> None:
    with pytest.raises(InputError, match=said):
        secret.resolve({})


def test_two_secrets_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two secrets have the same name"):
        Box(secrets=[BoxSecret("a", value=b"1"), BoxSecret("a", value=b"2")])


def test_no_text_of_a_record_holds_a_secret() -> None:
    secret = BoxSecret("token", value=b"hunter2")
    place = PlaceSecrets("/run/secrets", (SecretFile("token", b"hunter2", 0, 0),))
    for shown in (repr(secret), repr(Box(secrets=[secret])), repr(place), place.describe()):
        assert "hunter2" not in shown
    assert "token" in repr(secret)
