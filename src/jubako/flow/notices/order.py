"""Turns a hook and a message into a process to start. Pure but for secrets, which are read before: `prepare`.

A command is that process itself. For mail and web servers it is `sending`, a program of ours, which is told on its
stdin what to do: so nothing secret is on a command line, and whatever hangs can be killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jubako.errors import InputError
from jubako.flow.isolated import isolated_python
from jubako.flow.notices.hooks import CommandHook, Hook, MailHook, Secret, WebHook, check_url
from jubako.flow.notices.message import Message
from jubako.records import record, replace

__all__ = ["SENDER", "Order", "make_order", "prepare"]

SENDER: Final = tuple(isolated_python("jubako.flow.notices.sending"))
_OWN_SHARE: Final = 0.8  # of a hook's time, after which the sender itself says what it is waiting for


@record
class Order:
    """A process to start: it gets `data` on its stdin and has `timeout_s` to end."""

    words: Sequence[str]
    data: bytes
    timeout_s: float
    environ: Mapping[str, str]
    folder: str = ""
    is_ours: bool = False  # then what it prints is a sentence about what went wrong


def prepare(hook: Hook, environ: Mapping[str, str]) -> Hook:
    """The hook with its secrets read. InputError, with its name, where they cannot be."""
    try:
        if not isinstance(hook, CommandHook) and hook.ca_file and not os.access(hook.ca_file, os.R_OK):
            raise InputError(f"ca_file {hook.ca_file} cannot be read")
        if isinstance(hook, MailHook) and hook.password is not None:
            return replace(hook, password=Secret(text=hook.password.read(environ)))
        if isinstance(hook, WebHook):
            url, secret = hook.url, hook.secret
            if isinstance(url, Secret):
                url = Secret(text=url.read(environ))
                if problem := check_url(url.text):
                    raise InputError(problem)
            return replace(hook, url=url, secret=None if secret is None else Secret(text=secret.read(environ)))
    except InputError as error:
        raise InputError(f"hook {hook.name}: {error.message}", hint=error.hint) from error
    return hook


def make_order(hook: Hook, message: Message, message_id: str, environ: Mapping[str, str]) -> Order:
    """What to start so that `message` gets to where a prepared hook sends it. `message_id` tells it from any other."""
    if isinstance(hook, CommandHook):
        return Order(
            hook.command,
            json.dumps(message.to_json()).encode() + b"\n",
            hook.timeout_s,
            {**environ, **_facts(message)},
            folder=hook.folder,
        )
    told = _tell_mail(hook, message) if isinstance(hook, MailHook) else _tell_web(hook, message)
    told |= {"id": message_id, "timeout_s": hook.timeout_s * _OWN_SHARE, "ca_file": hook.ca_file, "host": message.host}
    return Order(SENDER, json.dumps(told).encode(), hook.timeout_s, environ, is_ours=True)


def _facts(message: Message) -> dict[str, str]:
    return {
        "JUBAKO_EVENT": message.event,
        "JUBAKO_OUTCOME": message.outcome,
        "JUBAKO_SUMMARY": message.summary,
        "JUBAKO_PIPELINE": message.pipeline,
        "JUBAKO_ASKED": message.asked,
        "JUBAKO_RUN": message.run_id,
        "JUBAKO_HOST": message.host,
    }


def _tell_mail(hook: MailHook, message: Message) -> dict[str, Any]:
    return {
        "kind": "mail",
        "server": hook.server,
        "security": hook.security,
        "user": hook.user,
        "password": "" if hook.password is None else hook.password.text,
        "sender": hook.sender,
        "to": list(hook.to),
        "subject": f"[jubako] {message.summary}",
        "text": message.format_text(),
        "sent_s": message.ended_s,
    }


def _tell_web(hook: WebHook, message: Message) -> dict[str, Any]:
    body = {"text": message.format_text()} if hook.format == "text" else message.to_json()
    return {
        "kind": "web",
        "url": hook.url.text if isinstance(hook.url, Secret) else hook.url,
        "secret": "" if hook.secret is None else hook.secret.text,
        "body": json.dumps(body),
        "sent_s": message.ended_s,
    }
