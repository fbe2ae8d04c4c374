"""Profiles as values: what a box may ask for beside one, and that what is said of each is what the lists hold."""

from __future__ import annotations

from typing import Any

import pytest

from jubako.boxes.commands.explain_profile import explain_calls, explain_profile
from jubako.boxes.profiles import PROFILES, get_profile
from jubako.boxes.spec import Box, Host
from jubako.errors import InputError
from jubako.kernel.allowed_calls import ALLOWED, LEFT_OUT
from jubako.kernel.seccomp import DENIED, init_rules


def test_strict_box_has_no_network() -> None:
    assert Box(Host(whole=True), profile="strict").network == "none"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"profile": "lax"}, "profile='lax' is none of 'task', 'strict', 'trusted', 'system'"),
        ({"profile": "strict", "network": "private"}, "has no network, and contradicts network='private'"),
        ({"profile": "strict", "capabilities": ["CAP_CHOWN"]}, "has none, and contradicts capabilities"),
        ({"profile": "system", "capabilities": ["CAP_CHOWN"]}, "has all of its own, and contradicts capabilities"),
        ({"profile": "system", "user": "nobody"}, "is for an init, which is root in there, and not user='nobody'"),
    ],
)
def test_what_contradicts_a_profile_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Box(Host(whole=True), **asked)


def test_pipelines_task_is_told_that_profiles_and_secrets_are_for_commands() -> None:
    from jubako.boxes.secrets import BoxSecret

    assert Box(profile="trusted", secrets=[BoxSecret("a", value=b"")]).for_commands == ("secrets", "profile")
    assert Box().for_commands == ()


@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_is_explained_with_reasons(name: str) -> None:
    traits = explain_profile(get_profile(name))
    assert len(traits) > 10
    assert all(trait.holds and trait.why for trait in traits)
    about = [trait.about for trait in traits]
    assert len(about) - len(set(about)) <= 1  # "namespaces" and "namespaces in it" are two


def test_explanation_names_every_call_that_is_allowed_or_refused() -> None:
    def named(profile: str, holds: str) -> set[str]:
        found = explain_calls(get_profile(profile))
        return {name for trait in found if trait.about == holds for name in trait.holds.split()}

    assert named("strict", "allowed") == {name for names in ALLOWED.values() for name in names}
    assert named("task", "refused") == {*DENIED, "clone3"}
    assert named("task", "by argument") == {"clone", "unshare", "ioctl", "socket"}
    rules = init_rules()
    assert named("system", "refused") | named("system", "by argument") == set(rules)
    assert explain_calls(get_profile("trusted")) == ()


def test_no_call_is_both_allowed_and_left_out_and_all_that_boxes_refuse_is_left_out() -> None:
    allowed = [name for names in ALLOWED.values() for name in names]
    left_out = [name for names in LEFT_OUT.values() for name in names]
    assert len(set(allowed)) == len(allowed)
    assert len(set(left_out)) == len(left_out)
    assert not set(allowed) & set(left_out)
    assert set(DENIED) <= set(left_out)
