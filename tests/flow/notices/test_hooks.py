"""Hooks as values: which make sense, where secrets come from, and that nobody sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.notices.hooks import CommandHook, MailHook, Secret, WebHook, split_server

URL = "https://example.org/hook"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CommandHook("echo hello"), "command 'echo hello' is no list of words"),
        (lambda: CommandHook([]), "command"),
        (lambda: CommandHook(["a", ""]), "command"),
        (lambda: CommandHook(["a\0b"]), "command"),
        (lambda: CommandHook(["a"], on=("failed",)), "on = ('failed',) is no list of success, failure, missing"),
        (lambda: CommandHook(["a"], on="failure"), "on = 'failure' is no list"),
        (lambda: CommandHook(["a"], on=()), "on = () is no list"),
        (lambda: CommandHook(["a"], timeout_s=0), "timeout_s 0 is not between"),
        (lambda: CommandHook(["a"], timeout_s=3601), "timeout_s 3601 is not between"),
        (lambda: CommandHook(["a"], each_failed_task=-1), "each_failed_task -1 is not between 0 and 20"),
        (lambda: WebHook("ftp://example.org"), "the url is not of the form https://HOST/..."),
        (lambda: WebHook("https:///path"), "the url is not of the form"),
        (lambda: WebHook("https://example.org/a b"), "the url is not of the form"),
        (lambda: WebHook("https://[example"), "the url cannot be read"),
        (lambda: WebHook("https://example.org:99999"), "the url cannot be read"),
        (lambda: WebHook("https://me:pass@example.org"), "a url with a password in it is for all to see"),
        (lambda: WebHook(URL, format="xml"), "format 'xml' is neither json nor text"),
        (lambda: MailHook([], sender="a@b"), "mail goes to a list of addresses"),
        (lambda: MailHook("a@b", sender="a@b"), "mail goes to a list of addresses"),
        (lambda: MailHook(["a@b"], sender="nobody"), "'nobody' is no mail address"),
        (lambda: MailHook(["a@b\nBcc: c@d"], sender="a@b"), "is no mail address"),
        (lambda: MailHook(["a@b"], sender="a@b", security="tls"), "security 'tls' is none of starttls, ssl and none"),
        (lambda: MailHook(["a@b"], sender="a@b", user="me"), "user and password go together"),
        (
            lambda: MailHook(["a@b"], sender="a@b", server="host:0"),
            "server 'host:0' is not of the form HOST or HOST:PORT",
        ),
        (
            lambda: MailHook(["a@b"], "a@b", server="far", security="none", user="me", password=Secret(text="x")),
            "security 'none' would send a password to far for all to read",
        ),
    ],
)
def test_hook_that_makes_no_sense_is_refused_by_what_is_wrong(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        make()
    assert words in refused.value.message


def test_hook_with_a_name_is_refused_by_name_with_all_that_is_wrong() -> None:
    with pytest.raises(InputError) as refused:
        MailHook(["a"], sender="b", name="on-call", timeout_s=-1)
    assert refused.value.message == (
        "hook on-call: 'b' is no mail address; 'a' is no mail address; timeout_s -1 is not between 0 and 600 seconds"
    )


@pytest.mark.parametrize(
    ("server", "security", "expected"),
    [
        ("mail.example.org", "starttls", ("mail.example.org", 587)),
        ("mail.example.org", "ssl", ("mail.example.org", 465)),
        ("mail.example.org:2525", "ssl", ("mail.example.org", 2525)),
        ("[::1]:2525", "none", ("::1", 2525)),
        ("::1", "none", ("::1", 25)),
    ],
)
def test_server_has_a_port_by_how_it_is_spoken_to(server: str, security: Any, expected: tuple[str, int]) -> None:
    assert split_server(server, security) == expected


def test_secret_is_read_from_where_it_is_without_space_around_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" hunter2\n")
    assert Secret(file=str(file)).read({}) == "hunter2"
    assert Secret(env="IT").read({"IT": "hunter2\n"}) == "hunter2"
    assert Secret(text="hunter2").read({}) == "hunter2"


def test_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for secret, words in (
        (Secret(env="IT"), "the environment has no IT"),
        (Secret(file=str(tmp_path / "no")), "no, which a hook needs, cannot be read: No such file"),
        (Secret(file=str(tmp_path / "empty")), "empty, which a hook needs, is empty"),
    ):
        with pytest.raises(InputError, match=words):
            secret.read({"IT": " "})


def test_secret_is_in_no_repr() -> None:
    hook = WebHook(Secret(text="https://example.org/t0ken"), secret=Secret(text="hunter2"))
    assert "hunter2" not in repr(hook)
    assert "t0ken" not in repr(hook)
    assert hook.target == "a secret address"
    assert WebHook("https://example.org/t0ken").target == "example.org"


def test_secret_comes_from_one_place() -> None:
    with pytest.raises(InputError, match="one of env, file and text"):
        Secret()
