"""Real servers on this machine, for what sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

import pytest


class Asked(NamedTuple):
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes


class WebServer:
    """Answers with the statuses of `script`, the last again and again, and remembers what it was asked."""

    def __init__(self) -> None:
        self.script: list[int] = [204]
        self.answer_headers: dict[str, str] = {}
        self.asked: list[Asked] = []
        self.connections = 0
        self._server = HTTPServer(("127.0.0.1", 0), self._make_handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?to=me"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5

            def setup(self) -> None:
                web.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.asked.append(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(web.script.pop(0) if len(web.script) > 1 else web.script[0])
                for name, value in web.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.send_header("Connection", "close")
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        return Handler


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()
