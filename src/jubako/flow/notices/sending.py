"""The program that sends a mail, or posts to a web server: what to do comes as JSON on its stdin (`order`).

It imports the standard library and little else, and ends with 0, or with 1 and one sentence on stdout.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["main", "send"]


def main() -> NoReturn:
    """Does what stdin says, and leaves."""
    problem = send(json.load(sys.stdin))
    if problem:
        print(" ".join(problem.split()))  # noqa: T201  (a program of its own; `delivery` reads it)
    sys.exit(bool(problem))


def send(told: Mapping[str, Any]) -> str:
    """Sends one message; why it did not get through, "" if it did."""
    return _send_mail(told) if told["kind"] == "mail" else _send_to_web(told)


def _send_mail(told: Mapping[str, Any]) -> str:
    import smtplib  # 25 ms with all of email, which a web server needs nothing of

    from jubako.flow.notices.mail import describe_smtp_error, send_mail

    try:
        return send_mail(told)
    except TimeoutError:
        return "the server did not answer in time"
    except smtplib.SMTPException as error:
        return describe_smtp_error(error)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}"
    except OSError as error:
        return str(error.strerror or error)


def _send_to_web(told: Mapping[str, Any]) -> str:
    from jubako.flow.notices.posting import NotTakenError, Poster, post_patiently, sign

    body, sent_s = told["body"].encode(), int(told["sent_s"])
    headers = {"webhook-id": told["id"], "webhook-timestamp": str(sent_s)}
    if told["secret"]:
        headers["webhook-signature"] = sign(told["secret"], told["id"], sent_s, body)
    try:
        poster = Poster(told["url"], ca_file=told["ca_file"])
        until_s = time.monotonic() + told["timeout_s"]
        post_patiently(poster, body, headers, until_s=until_s, clock_s=time.monotonic, sleep=time.sleep)
    except NotTakenError as error:
        return str(error)
    except OSError as error:  # ca_file
        return str(error.strerror or error)
    return ""
