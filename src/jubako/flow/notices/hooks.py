"""Who is told of a run, and of which: values only. A hook that makes no sense is an InputError when it is made.

Passwords and the like are `Secret`: they come from a file or the environment, are read when a run begins, and are
never shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

from jubako.errors import InputError
from jubako.flow.outcome import OUTCOMES, Outcome
from jubako.records import record

__all__ = ["CommandHook", "Hook", "MailHook", "Secret", "Security", "WebHook", "check_url", "split_server"]

Security = Literal["starttls", "ssl", "none"]

_USUAL: Final[tuple[Outcome, ...]] = ("failure", "missing")
_PORTS: Final = {"starttls": 587, "ssl": 465, "none": 25}
_LONGEST_S: Final = 600.0
_MOST_EACH: Final = 20  # messages of single tasks that one run may send by one hook
_SECRET_BYTES: Final = 16_384


@record
class Secret:
    """Something nobody may see: `Secret(env="SMTP_PASSWORD")`, `Secret(file="/etc/jubako/password")`, or its `text`."""

    env: str = ""
    file: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.env, self.file, self.text))) != 1:
            raise InputError("a secret comes from one of env, file and text")

    def __repr__(self) -> str:
        return f"Secret({'env' if self.env else 'file' if self.file else 'text'}=...)"

    def read(self, environ: Mapping[str, str]) -> str:
        """What it is, without white space around it. InputError names the file or variable that has none."""
        if self.text:
            return self.text
        if self.env:
            if found := environ.get(self.env, "").strip():
                return found
            raise InputError(f"the environment has no {self.env}, which a hook needs")
        try:
            with open(self.file, encoding="utf-8") as file:
                found = file.read(_SECRET_BYTES).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InputError(f"{self.file}, which a hook needs, cannot be read: {why}") from error
        if not found:
            raise InputError(f"{self.file}, which a hook needs, is empty")
        return found


@record
class CommandHook:
    """A program that is started with the message as JSON on its stdin, and the main facts in JUBAKO_... variables."""

    command: Sequence[str]
    name: str = ""
    on: Sequence[Outcome] = _USUAL
    timeout_s: float = 10.0
    each_failed_task: int = 0  # so many failed tasks of a run are told of one by one, as they fail
    folder: str = ""  # where it runs; "": where the run was started

    def __post_init__(self) -> None:
        is_wrong = isinstance(self.command, str) or not self.command or not all(map(_is_word, self.command))
        _refuse(
            self,
            [f"command {self.command!r} is no list of words" if is_wrong else ""],
            hint='command = ["sh", "-c", "..."] runs a line of the shell' if is_wrong else "",
        )

    @property
    def target(self) -> str:
        """Where messages go, for people."""
        return os.path.basename(self.command[0])


@record
class WebHook:
    """A web server that gets the message by POST, signed with `secret` as Standard Webhooks have it.

    `format="text"` sends nothing but `{"text": "..."}`, which chats understand.
    """

    url: str | Secret
    name: str = ""
    on: Sequence[Outcome] = _USUAL
    timeout_s: float = 10.0
    each_failed_task: int = 0
    secret: Secret | None = None
    format: Literal["json", "text"] = "json"
    ca_file: str = ""  # certificates to trust instead of this machine's

    def __post_init__(self) -> None:
        _refuse(
            self,
            [
                check_url(self.url) if isinstance(self.url, str) else "",
                "" if self.format in ("json", "text") else f"format {self.format!r} is neither json nor text",
            ],
        )

    @property
    def target(self) -> str:
        """Where messages go, for people: the path may be a secret."""
        if isinstance(self.url, Secret):
            return "a secret address"
        return urlsplit(self.url).hostname or ""


@record
class MailHook:
    """Mail, by a server that takes it. `server` is "smtp.example.org" or "smtp.example.org:2525"."""

    to: Sequence[str]
    sender: str
    name: str = ""
    on: Sequence[Outcome] = _USUAL
    timeout_s: float = 30.0
    each_failed_task: int = 0
    server: str = "localhost"
    security: Security = "starttls"
    user: str = ""
    password: Secret | None = None
    ca_file: str = ""

    def __post_init__(self) -> None:
        addresses = [self.sender, *((self.to,) if isinstance(self.to, str) else self.to)]
        problems = [f"{each!r} is no mail address" for each in addresses if not _is_address(each)]
        if isinstance(self.to, str) or not self.to:
            problems.append("mail goes to a list of addresses")
        if self.security not in _PORTS:
            problems.append(f"security {self.security!r} is none of starttls, ssl and none")
        elif self.security == "none" and self.password is not None and not _is_this_machine(self.server):
            problems.append(f"security 'none' would send a password to {self.server} for all to read")
        if bool(self.user) != (self.password is not None):
            problems.append("user and password go together")
        problems.append(_check_server(self.server))
        _refuse(self, problems)

    @property
    def target(self) -> str:
        """Where messages go, for people."""
        return ", ".join(self.to)


Hook = CommandHook | WebHook | MailHook


def check_url(url: str) -> str:
    """What is wrong with an address of a web server; "" if nothing is."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "the url cannot be read"
    if not is_right or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        return "the url is not of the form https://HOST/..."
    return "a url with a password in it is for all to see" if parts.password else ""


def split_server(server: str, security: Security) -> tuple[str, int]:
    """The host and the port of a mail server."""
    host, _, port = server.rpartition(":")
    if host and port.isdecimal() and (":" not in host or host.startswith("[")):
        return host.strip("[]"), int(port)
    return server.strip("[]"), _PORTS[security]


def _check_server(server: str) -> str:
    host, port = split_server(server, "none")
    if not host or not 0 < port < 65_536 or any(c.isspace() or c == "/" for c in server):
        return f"server {server!r} is not of the form HOST or HOST:PORT"
    return ""


def _is_word(word: object) -> bool:
    return isinstance(word, str) and bool(word) and "\0" not in word


def _is_address(text: str) -> bool:
    name, at, domain = text.rpartition("@")
    return bool(name and at and domain) and text.isprintable() and not any(c in text for c in " ,;<>")


def _is_this_machine(server: str) -> bool:
    return split_server(server, "none")[0] in ("localhost", "127.0.0.1", "::1")


def _refuse(hook: Hook, problems: Sequence[str], *, hint: str = "") -> None:
    """InputError with all that is wrong with a hook."""
    found = [problem for problem in problems if problem]
    unknown = [repr(outcome) for outcome in hook.on if outcome not in OUTCOMES]
    if isinstance(hook.on, str) or unknown or not hook.on:
        found.append(f"on = {hook.on!r} is no list of {', '.join(OUTCOMES)}")
    if not 0 < hook.timeout_s <= _LONGEST_S:
        found.append(f"timeout_s {hook.timeout_s} is not between 0 and {_LONGEST_S:.0f} seconds")
    if not 0 <= hook.each_failed_task <= _MOST_EACH:
        found.append(f"each_failed_task {hook.each_failed_task} is not between 0 and {_MOST_EACH}")
    if found:
        raise InputError(f"hook {hook.name}: {'; '.join(found)}" if hook.name else "; ".join(found), hint=hint)
