"""`jubako box profile`, and the options that ask for a profile or bring a secret."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import say_here

from jubako.boxes.profiles import PROFILES
from jubako.boxes.secrets import BoxSecret
from jubako.cli.box_options import BOX_OPTIONS, box_of
from jubako.cli.mount_values import parse_secrets
from jubako.errors import InputError


def test_profiles_are_listed_with_what_they_are_for() -> None:
    said = say_here("box", "profile")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["PROFILE", *PROFILES]


@pytest.mark.parametrize("name", PROFILES)
def test_profile_is_explained_on_lines_that_fit(name: str) -> None:
    short, long = say_here("box", "profile", name), say_here("box", "profile", name, "--explain")
    assert (short.code, long.code) == (0, 0)
    assert short.out.startswith(f"{name}: for ")
    assert len(long.out) > len(short.out)
    assert max(map(len, long.out.splitlines())) <= 110


def test_explanation_as_json_has_every_reason() -> None:
    said = json.loads(say_here("box", "profile", "strict", "--explain", "--format", "json").out)
    assert said["schema"] == "jubako.box.profile/1"
    assert said["profile"] == "strict"
    assert all(set(trait) == {"about", "holds", "why"} for trait in said["traits"])
    assert any("openat2" in trait["holds"] for trait in said["traits"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lax"], "profile='lax' is none of 'task', 'strict', 'trusted', 'system'"),
        (["--explain"], "--explain is for one profile"),
    ],
)
def test_profile_that_is_not_there_or_not_named_is_asked_for_again(words: list[str], said: str) -> None:
    answer = say_here("box", "profile", *words)
    assert answer.code == 2
    assert said in answer.err


def test_option_offers_the_profiles_there_are() -> None:
    (option,) = [option for option in BOX_OPTIONS if option.parameter == "profile"]
    assert tuple(option.choices) == tuple(PROFILES)


def test_strict_box_with_a_network_is_refused() -> None:
    with pytest.raises(InputError, match="--profile strict has no network, and contradicts --network host"):
        box_of(profile="strict", network="host")
    assert box_of(profile="strict", network="none").network == "none"


def test_secrets_come_from_files_variables_and_descriptors() -> None:
    assert parse_secrets(["a=/etc/token", "b=env:TOKEN", "c=fd:3", "d=env:", "e=fd:x"]) == [
        BoxSecret("a", file="/etc/token"),
        BoxSecret("b", variable="TOKEN"),
        BoxSecret("c", descriptor=3),
        BoxSecret("d", file="env:"),
        BoxSecret("e", file="fd:x"),
    ]


@pytest.mark.parametrize("word", ["token", "=x", "token="])
def test_secret_without_a_source_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="names no source"):
        parse_secrets([word])
