"""What is started for a hook: with which words and what on stdin, and where secrets are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jubako.errors import InputError
from jubako.flow.notices.hooks import CommandHook, Hook, MailHook, Secret, WebHook
from jubako.flow.notices.message import Message
from jubako.flow.notices.order import SENDER, make_order, prepare

MESSAGE = Message("run", "failure", "/data/p.py", "Day(n=1)", "host7", 0.0, 1.0, "R-1", counts={"failed": 1})


def test_command_gets_the_message_on_stdin_and_the_facts_in_variables() -> None:
    order = make_order(CommandHook(["./page"], folder="/data"), MESSAGE, "msg_1", {"PATH": "/bin"})
    assert (list(order.words), order.folder) == (["./page"], "/data")
    assert json.loads(order.data) == MESSAGE.to_json()
    assert order.environ == {
        "PATH": "/bin",
        "JUBAKO_EVENT": "run",
        "JUBAKO_OUTCOME": "failure",
        "JUBAKO_SUMMARY": "Day(n=1) failed on host7: 1 failed",
        "JUBAKO_PIPELINE": "/data/p.py",
        "JUBAKO_ASKED": "Day(n=1)",
        "JUBAKO_RUN": "R-1",
        "JUBAKO_HOST": "host7",
    }


@pytest.mark.parametrize(
    "hook",
    [
        MailHook(["a@b"], "c@d", user="me", password=Secret(env="IT")),
        WebHook("https://example.org", secret=Secret(env="IT")),
        WebHook(Secret(env="URL")),
    ],
)
def test_secrets_are_on_stdin_and_on_no_command_line(hook: Hook) -> None:
    environ = {"IT": "hunter2", "URL": "https://example.org/hunter2"}
    order = make_order(prepare(hook, environ), MESSAGE, "msg_1", {})
    assert "hunter2" in order.data.decode()
    assert "hunter2" not in " ".join(order.words)
    assert tuple(order.words) == SENDER
    assert order.environ == {}


def test_chat_gets_nothing_but_a_text() -> None:
    order = make_order(WebHook("https://example.org", format="text"), MESSAGE, "msg_1", {})
    assert json.loads(json.loads(order.data)["body"]) == {"text": MESSAGE.format_text()}


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (
            MailHook(["a@b"], "c@d", "chief", user="me", password=Secret(env="IT")),
            "hook chief: the environment has no IT",
        ),
        (WebHook(Secret(env="URL"), "chat"), "hook chat: the url is not of the form https://HOST/..."),
        (WebHook("https://example.org", "chat", ca_file="/no/ca.pem"), "hook chat: ca_file /no/ca.pem cannot be read"),
    ],
)
def test_hook_that_cannot_be_used_is_refused_before_anything_runs(hook: Hook, words: str) -> None:
    with pytest.raises(InputError) as refused:
        prepare(hook, {"URL": "gopher://x"})
    assert refused.value.message.startswith(words)


def test_sender_needs_nothing_of_where_it_is_started(tmp_path: Path) -> None:
    """A pipeline's folder may hold an email.py."""
    assert SENDER[1:3] == ("-I", "-S")
