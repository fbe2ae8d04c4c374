"""Posting to a real server: what is tried again, what is not, and what it is signed with."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from jubako.flow.notices.posting import NotTakenError, Poster, post_patiently, sign


class Sleeper:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def clock_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def post(url: str, sleeper: Sleeper, *, until_s: float = 20.0) -> str:
    """What is wrong, "" if nothing is."""
    try:
        post_patiently(Poster(url), b"{}", {}, until_s=until_s, clock_s=sleeper.clock_s, sleep=sleeper.sleep)
    except NotTakenError as error:
        return str(error)
    return ""


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_post_that_is_taken_is_not_sent_again(web: Any, sleeper: Sleeper) -> None:
    assert post(web.url, sleeper) == ""
    (asked,) = web.asked
    assert (asked.path, asked.body) == ("/hook?to=me", b"{}")
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"].startswith("jubako/")


def test_post_is_sent_again_while_the_server_is_in_trouble(web: Any, sleeper: Sleeper) -> None:
    web.script = [503, 429, 200]
    assert post(web.url, sleeper) == ""
    assert (len(web.asked), sleeper.slept) == (3, [0.5, 1.0])


def test_post_is_given_up_after_four_times(web: Any, sleeper: Sleeper) -> None:
    web.script = [500]
    assert post(web.url, sleeper) == "the server answered 500 Internal Server Error, 4 times"
    assert (len(web.asked), sleeper.slept) == (4, [0.5, 1.0, 2.0])


def test_post_is_not_sent_again_beyond_its_time(web: Any, sleeper: Sleeper) -> None:
    web.script = [500]
    assert post(web.url, sleeper, until_s=1.2) == "the server answered 500 Internal Server Error, 2 times"


def test_server_that_wants_to_be_left_alone_is(web: Any, sleeper: Sleeper) -> None:
    web.script, web.answer_headers = [429, 200], {"Retry-After": "7"}
    assert post(web.url, sleeper) == ""
    assert sleeper.slept == [7.0]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_refusal_and_redirection_are_final(web: Any, sleeper: Sleeper, status: int) -> None:
    web.script, web.answer_headers = [status], {"Location": "http://127.0.0.1:1/elsewhere"}
    assert post(web.url, sleeper).startswith(f"the server answered {status}")
    assert len(web.asked) == 1


def test_nobody_at_the_address_is_tried_again_and_said(sleeper: Sleeper) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        assert post(f"http://127.0.0.1:{taken.getsockname()[1]}/", sleeper) == "Connection refused, 4 times"


def test_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert post(url, Sleeper(), until_s=0.1) == "the server did not answer in time"


def test_what_does_not_speak_http_is_said(sleeper: Sleeper) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        url = f"http://127.0.0.1:{other.getsockname()[1]}/"

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        assert post(url, sleeper, until_s=0.4).startswith("no answer that HTTP knows: ")
        thread.join()


def test_connection_is_kept_until_the_server_closes_it(web: Any) -> None:
    poster = Poster(web.url)
    for _ in range(3):
        assert poster.post(b"{}", {}, 5.0).is_taken  # this server closes after each, and is connected to anew
    assert web.connections == 3


def test_proxy_of_the_environment_is_asked_for_the_whole_address(
    web: Any, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    assert post("http://hooks.example.org/x", sleeper) == ""
    assert web.asked[0].path == "http://hooks.example.org/x"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert post(web.url, sleeper) == ""
    assert web.asked[1].path == "/hook?to=me"


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ="])
def test_signature_is_what_the_standards_own_library_takes(secret: str) -> None:
    now_s, body = int(time.time()), b'{"a": 1}'
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now_s)}
    signed = headers | {"webhook-signature": sign(secret, "msg_1", now_s, body)}
    assert Webhook(secret).verify(body, signed) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"a": 2}', signed)


def test_secret_that_is_no_base64_is_taken_as_it_is() -> None:
    # printf '1.2.x' | openssl dgst -sha256 -hmac whsec_no! -binary | base64
    assert sign("whsec_no!", "1", 2, b"x") == "v1,P2iqX49Bn7AjmYT4bjuvabeZ16ULzVDaeuoYewus49U="
