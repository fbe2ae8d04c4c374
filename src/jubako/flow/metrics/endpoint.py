"""Serves metrics over HTTP, in threads beside whatever else the process does: it must not fork without exec.

    GET /metrics    the text that `read` returns; 500 with a sentence where that cannot be had

Everybody who reaches the address may read it.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from jubako.errors import HostError, InputError, JubakoError

__all__ = ["parse_address", "serve_metrics"]

_PATIENCE_S: Final = 5.0  # with a client that is slow
_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def parse_address(text: str) -> tuple[str, int]:
    """The host and port of "127.0.0.1:9108" or "[::1]:9108"; port 0 is any that is free."""
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isdecimal() or int(port) > 65_535 or (":" in host and not is_bracketed):
        raise InputError(
            f"{text!r} is not of the form HOST:PORT", hint="127.0.0.1:9108 is reached from this machine only"
        )
    return host.strip("[]"), int(port)


@contextmanager
def serve_metrics(address: tuple[str, int], read: Callable[[], str]) -> Iterator[str]:
    """Serves while the block runs; the address to look at, as a URL. HostError if it cannot be served there."""
    host, port = address
    is_v6 = ":" in host
    try:
        server = _make_server(socket.AF_INET6 if is_v6 else socket.AF_INET)(address, _make_handler(read))
    except OSError as error:
        raise HostError(f"metrics cannot be served at {host}:{port}: {error.strerror or error}") from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{f'[{host}]' if is_v6 else host}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _make_server(family: socket.AddressFamily) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True
        block_on_close = False  # a client that is slow does not hold up the end

        def server_bind(self) -> None:
            socketserver.TCPServer.server_bind(self)  # HTTPServer's own looks up our name, which may take long

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away in the middle is nobody's concern."""

    return Server


def _make_handler(read: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self._answer(404, "metrics are at /metrics\n")
                return
            try:
                text = read()
            except JubakoError as error:
                self._answer(500, f"{error.message}\n")
            else:
                self._answer(200, text)

        def _answer(self, status: int, text: str) -> None:
            body = text.encode("utf-8", "replace")
            self.send_response(status)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Says nothing: only `cli` does."""

    return Handler
