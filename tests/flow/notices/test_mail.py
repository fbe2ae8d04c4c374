"""Mail by a real server on this machine, with and without TLS."""

from __future__ import annotations

import email
import email.policy
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from jubako.flow.notices.sending import send


class Box:
    """Takes all mail but what is for `refused@...`."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.to: list[str] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.was_secure: list[bool] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("refused@"):
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.to += envelope.rcpt_tos
        self.was_secure.append(server.transport.get_extra_info("sslcontext") is not None)
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hunter2", handled=False)


class OnAnyPort(Controller):
    """Listens where the system likes, and knows where before it is asked."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def serve(box: Box, authority: trustme.CA) -> Iterator[Callable[..., int]]:
    """Starts a server that speaks as `security` has it, and answers with its port."""
    controllers = []

    def start(security: str) -> int:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        options: dict[str, Any] = {}
        if security == "starttls":
            options = {"tls_context": context, "require_starttls": True, "authenticator": box.authenticate}
        elif security == "ssl":
            options = {"ssl_context": context, "authenticator": box.authenticate, "auth_require_tls": False}
        controller = OnAnyPort(box, hostname="127.0.0.1", port=0, **options)
        controller.start()
        controllers.append(controller)
        return controller.port

    yield start
    for controller in controllers:
        controller.stop()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


def told(port: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": "mail",
        "server": f"localhost:{port}",
        "security": "none",
        "user": "",
        "password": "",
        "sender": "jubako@example.org",
        "to": ["ops@example.org", "boss@example.org"],
        "subject": "[jubako] Tag(stadt=Köln) failed",
        "text": "Köln: ValueError\n",
        "sent_s": 1_700_000_000.0,
        "id": "msg_1",
        "timeout_s": 10.0,
        "ca_file": "",
        "host": "host7",
        **more,
    }


def test_mail_arrives_with_what_it_is_about(box: Box, serve: Callable[..., int]) -> None:
    assert send(told(serve("none"))) == ""
    (mail,) = box.mails
    assert box.to == ["ops@example.org", "boss@example.org"]
    assert (mail["From"], mail["To"]) == ("jubako@example.org", "ops@example.org, boss@example.org")
    assert mail["Subject"] == "[jubako] Tag(stadt=Köln) failed"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "msg_1@example.org" in mail["Message-ID"]
    assert mail.get_content().replace("\r\n", "\n") == "Köln: ValueError\n"


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_mail_is_sent_encrypted_after_a_login(box: Box, serve: Callable[..., int], ca_file: str, security: str) -> None:
    given = {"security": security, "user": "me", "password": "hunter2", "ca_file": ca_file}
    assert send(told(serve(security), **given)) == ""
    assert (box.logins, box.was_secure) == ([(b"me", b"hunter2")], [True])


def test_wrong_password_is_said_and_not_shown(box: Box, serve: Callable[..., int], ca_file: str) -> None:
    problem = send(told(serve("starttls"), security="starttls", user="me", password="wrong-one", ca_file=ca_file))
    assert problem.startswith("the server answered 535 ")
    assert "wrong-one" not in problem
    assert box.mails == []


def test_certificate_that_nobody_vouches_for_is_refused(box: Box, serve: Callable[..., int]) -> None:
    problem = send(told(serve("starttls"), security="starttls", user="me", password="hunter2"))
    assert problem.startswith("its certificate is not trusted: ")
    assert (box.logins, box.mails) == ([], [])


def test_server_without_tls_gets_no_mail_where_it_is_wanted(box: Box, serve: Callable[..., int]) -> None:
    assert "STARTTLS" in send(told(serve("none"), security="starttls"))
    assert box.mails == []


def test_addresses_that_are_refused_are_named(box: Box, serve: Callable[..., int]) -> None:
    port = serve("none")
    some = send(told(port, to=["refused@example.org", "ops@example.org"]))
    assert some == "refused@example.org was refused: 550 nobody of that name"
    assert box.to == ["ops@example.org"]
    none = send(told(port, to=["refused@example.org"]))
    assert none == "the server refused refused@example.org: 550 nobody of that name"


def test_nobody_at_the_port_is_said() -> None:
    assert send(told(1)) == "Connection refused"
