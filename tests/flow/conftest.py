"""What tests of pipelines share: a register of their own each, Luigi itself to compare with, and a web server."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

import pytest

from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Task


@pytest.fixture(autouse=True)
def own_register() -> Iterator[None]:
    """Task classes that a test defines are forgotten after it, and so are the tasks it made."""
    classes, namespaces = list(Register._reg), dict(Register._default_namespace_dict)
    callbacks = {
        cls: {event: dict(found) for event, found in events.items()} for cls, events in Task._event_callbacks.items()
    }
    yield
    Register._reg[:] = classes
    Register._default_namespace_dict.clear()
    Register._default_namespace_dict.update(namespaces)
    Task._event_callbacks.clear()
    Task._event_callbacks.update(callbacks)
    Register.clear_instance_cache()


@pytest.fixture(scope="session")
def luigi() -> Any:
    """Luigi, the peer whose names and behaviour are kept."""
    if sys.version_info >= (3, 14):
        pytest.skip("Luigi 3.8.1 is not made for this Python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about a setting of its own
        import luigi
        import luigi.tools.range
    return luigi


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
