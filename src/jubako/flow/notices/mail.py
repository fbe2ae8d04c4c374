"""Sends one mail by a server. Blocks; `sending` calls it."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from jubako.flow.notices.hooks import split_server

__all__ = ["describe_smtp_error", "make_mail", "send_mail"]


def make_mail(told: Mapping[str, Any]) -> EmailMessage:
    """The mail that `told` is about."""
    mail = EmailMessage()
    mail["From"] = told["sender"]
    mail["To"] = ", ".join(told["to"])
    mail["Subject"] = told["subject"]
    mail["Date"] = formatdate(told["sent_s"], localtime=True)
    mail["Message-ID"] = make_msgid(told["id"], domain=told["sender"].rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: so that nobody's absence answers it
    mail.set_content(told["text"])
    return mail


def send_mail(told: Mapping[str, Any]) -> str:
    """Sends it; what is wrong, "" if nothing is. OSError and smtplib.SMTPException where there is no talking to it."""
    security = told["security"]
    host, port = split_server(told["server"], security)
    context = None if security == "none" else ssl.create_default_context(cafile=told["ca_file"] or None)
    # Given our own name, it is not looked up: that may take a minute where there is no name server.
    options: dict[str, Any] = {"local_hostname": told["host"], "timeout": told["timeout_s"]}
    if security == "ssl":
        connection: smtplib.SMTP = smtplib.SMTP_SSL(host, port, context=context, **options)
    else:
        connection = smtplib.SMTP(host, port, **options)
    with connection as server:
        if security == "starttls":
            server.starttls(context=context)
        if told["user"]:
            server.login(told["user"], told["password"])
        refused = server.send_message(make_mail(told))
    if not refused:
        return ""
    return "; ".join(f"{address} was refused: {code} {_text(why)}" for address, (code, why) in refused.items())


def describe_smtp_error(error: smtplib.SMTPException) -> str:
    """What a mail server has against it, as a sentence."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        address, (code, why) = next(iter(error.recipients.items()))
        return f"the server refused {address}: {code} {_text(why)}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered {error.smtp_code} {_text(error.smtp_error)}"
    return f"the server cannot be used: {error or type(error).__name__}"


def _text(answer: bytes | str) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
