"""Ports that are published, as people write them."""

from __future__ import annotations

import pytest

from jubako.boxes.networks.publish import Published, parse_published
from jubako.errors import InputError


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("8080:80", Published("127.0.0.1", 8080, 80, "tcp")),
        ("8080:80/tcp", Published("127.0.0.1", 8080, 80, "tcp")),
        ("5353:53/udp", Published("127.0.0.1", 5353, 53, "udp")),
        ("0.0.0.0:1:65535", Published("0.0.0.0", 1, 65535, "tcp")),
        ("192.0.2.7:8080:80/udp", Published("192.0.2.7", 8080, 80, "udp")),
    ],
)
def test_port_is_read_with_the_loopback_where_there_is_no_address(text: str, published: Published) -> None:
    assert parse_published(text) == published


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "80", "80:", ":80", "a:80", "0:80", "80:65536", "-1:80", "1:2:3", "1:2:3:4", "1.2.3:80:80"),
        *("256.0.0.1:80:80", "[::1]:80:80", "80:80/", "80:80/sctp", "80:80/udp/tcp", "8 0:80", "²:80"),
    ],
)
def test_what_is_no_port_is_refused_with_the_form_it_should_have(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_published(text)
    assert f"--publish {text}" in caught.value.message
    assert "[IP:]PORT:PORT[/udp]" in caught.value.hint
