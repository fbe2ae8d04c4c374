"""Posts to one web server, again where that may help, and signs what it posts. Blocks; `sending` and the like call it.

answer              again?
2xx                 it has arrived
408, 425, 429, 5xx  after a while, or after as long as Retry-After says
no answer           after a while
others              no: the same again would come to the same. A redirection is one of them: it may lead to whom the
                    message is not for
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from jubako._version import __version__
from jubako.records import record

__all__ = ["Answer", "NotTakenError", "Poster", "post_patiently", "sign"]

_AGAIN: Final = frozenset({408, 425, 429})
_ATTEMPTS: Final = 4
_FIRST_WAIT_S: Final = 0.5
_ANSWER_BYTES: Final = 65_536
_PREFIX: Final = "whsec_"


class NotTakenError(Exception):
    """The server did not take it; the text is a sentence that says why."""


@record
class Answer:
    """What a server said. `wait_s`: how long it wants to be left alone."""

    status: int
    reason: str
    wait_s: float = 0.0

    @property
    def is_taken(self) -> bool:
        return 200 <= self.status < 300

    @property
    def may_be_taken_later(self) -> bool:
        return self.status in _AGAIN or self.status >= 500


class Poster:
    """Posts to `url` by one connection, which is kept. Proxies are those of the environment, as curl has them."""

    def __init__(self, url: str, *, ca_file: str = "") -> None:
        self._parts = urlsplit(url)
        self._host = self._parts.hostname or ""
        self._context = ssl.create_default_context(cafile=ca_file or None) if self._parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        path = self._parts.path or "/"
        self._path = f"{path}?{self._parts.query}" if self._parts.query else path

    def post(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Posts once. OSError or http.client.HTTPException where there is no answer."""
        is_kept = self._connection is not None
        try:
            return self._post(body, headers, timeout_s)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            if not is_kept:
                raise
        return self._post(body, headers, timeout_s)  # the server had closed what was kept

    def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        try:
            if self._connection is None:
                self._connection = self._connect(timeout_s)
            if self._connection.sock is not None:
                self._connection.sock.settimeout(timeout_s)
            own = {"Content-Type": "application/json", "User-Agent": f"jubako/{__version__}"}
            self._connection.request("POST", self._path, body, {**own, **headers})
            response = self._connection.getresponse()
            left = response.read(_ANSWER_BYTES)
            answer = Answer(response.status, response.reason, _read_wait(response.getheader("Retry-After")))
            if len(left) == _ANSWER_BYTES or response.will_close:
                self.close()
        except BaseException:
            self.close()
            raise
        return answer

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        port, proxy = self._parts.port, _find_proxy(self._parts.scheme, self._host)
        host, proxy_port = (self._host, port) if proxy is None else proxy
        if self._context is None:
            if proxy is not None and self._path.startswith("/"):
                self._path = f"http://{self._parts.netloc}{self._path}"
            return http.client.HTTPConnection(host, proxy_port, timeout=timeout_s)
        connection = http.client.HTTPSConnection(host, proxy_port, timeout=timeout_s, context=self._context)
        if proxy is not None:
            connection.set_tunnel(self._host, port)
        return connection


def post_patiently(
    poster: Poster,
    body: bytes,
    headers: Mapping[str, str],
    *,
    until_s: float,
    clock_s: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Posts, again where that may help, but not after `until_s` of the clock. NotTakenError says what came of it."""
    for attempt in range(_ATTEMPTS):
        wait_s = _FIRST_WAIT_S * 2**attempt
        try:
            answer = poster.post(body, headers, max(0.1, until_s - clock_s()))
        except TimeoutError:
            why = "the server did not answer in time"
        except (OSError, http.client.HTTPException) as error:
            why = _describe(error)
            if isinstance(error, ssl.SSLCertVerificationError):
                raise NotTakenError(why) from error
        else:
            if answer.is_taken:
                return
            why = f"the server answered {answer.status} {answer.reason}".rstrip()
            if not answer.may_be_taken_later:
                raise NotTakenError(why)
            wait_s = max(wait_s, answer.wait_s)
        if attempt == _ATTEMPTS - 1 or clock_s() + wait_s >= until_s:
            raise NotTakenError(why if attempt == 0 else f"{why}, {attempt + 1} times")
        sleep(wait_s)


def sign(secret: str, message_id: str, sent_s: int, body: bytes) -> str:
    """The signature of a message, as Standard Webhooks have it: HMAC-SHA256 over its id, its time and its body.

    A secret that begins with "whsec_" is base64 after that; any other is taken as it is.
    """
    signed = f"{message_id}.{sent_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode("ascii")


def _key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass  # then it only looks like one
    return secret.encode()


def _read_wait(text: str | None) -> float:
    """Seconds that Retry-After asks for; a date, which it may be too, is left to our own patience."""
    return float(text) if text is not None and text.strip().isdecimal() else 0.0


def _find_proxy(scheme: str, host: str) -> tuple[str, int] | None:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    import urllib.request  # 20 ms, for those who have a proxy

    proxy = urllib.request.getproxies().get(scheme)
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return (parts.hostname, parts.port or 8080) if parts.hostname else None


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return f"no answer that HTTP knows: {error or type(error).__name__}"
