"""Metrics over HTTP, and what a scheduler counts of itself."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from jubako.errors import HostError, InputError
from jubako.flow.metrics.endpoint import parse_address, serve_metrics

ANY = ("127.0.0.1", 0)


def get(url: str) -> tuple[int, str, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_are_served_while_the_block_runs() -> None:
    texts = iter(["one 1\n", "two 2\n"])
    with serve_metrics(ANY, lambda: next(texts)) as url:
        assert get(url) == (200, "text/plain; version=0.0.4; charset=utf-8", "one 1\n")
        assert get(url)[2] == "two 2\n"
        assert get(url.replace("/metrics", "/"))[0] == 404
    with pytest.raises(urllib.error.URLError):
        get(url)


def test_metrics_that_cannot_be_had_are_an_error_that_says_why() -> None:
    def refuse() -> str:
        raise InputError("x.prom holds no metrics of jubako")

    with serve_metrics(ANY, refuse) as url:
        assert get(url)[::2] == (500, "x.prom holds no metrics of jubako\n")


def test_client_that_says_nothing_holds_up_nobody() -> None:
    with (
        serve_metrics(ANY, lambda: "one 1\n") as url,
        socket.create_connection((ANY[0], int(url.split(":")[2].split("/")[0]))),
    ):
        assert get(url)[0] == 200


def test_address_that_is_taken_is_refused_by_name() -> None:
    with socket.socket() as taken:
        taken.bind(ANY)
        taken.listen()
        address = taken.getsockname()
        with (
            pytest.raises(HostError, match=rf"cannot be served at 127\.0\.0\.1:{address[1]}: Address already in use"),
            serve_metrics(address, str),
        ):
            pass


@pytest.mark.parametrize("text", ["9108", ":9108", "localhost", "localhost:x", "localhost:70000", "::1:9108"])
def test_address_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not of the form HOST:PORT"):
        parse_address(text)


def test_address_may_be_one_of_version_6() -> None:
    assert parse_address("[::1]:9108") == ("::1", 9108)
    assert parse_address("localhost:0") == ("localhost", 0)
