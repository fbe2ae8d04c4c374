"""A port of this machine that leads to one in a box: "8080:80", "127.0.0.1:8080:80", "5353:53/udp"."""

from __future__ import annotations

from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

__all__ = ["Published", "parse_published"]

_LOOPBACK = "127.0.0.1"
_HINT = "It is [IP:]PORT:PORT[/udp], the machine's first: 8080:80, or 0.0.0.0:8080:80 for who is not on this machine."


@record
class Published:
    """What comes to `port` of this machine's `address` goes to `box_port` of the box."""

    address: str  # of IPv4; "0.0.0.0" is each
    port: int
    box_port: int
    protocol: Literal["tcp", "udp"] = "tcp"


def parse_published(text: str) -> Published:
    """What `text` says; without an address it is this machine's loopback. Raises InputError."""
    ports, slash, protocol = text.partition("/")
    if slash and protocol not in ("tcp", "udp"):
        raise InputError(f"--publish {text}: {protocol!r} is neither tcp nor udp", hint=_HINT)
    *address, port, box_port = ports.rsplit(":", 2) if ports.count(":") > 1 else ("", *ports.split(":"))[-3:]
    if len((*address, port, box_port)) != 3 or not port or not box_port or not _is_address(address[0]):
        raise InputError(f"--publish {text}: is no port to be published", hint=_HINT)
    return Published(
        address[0] or _LOOPBACK, _port(port, text), _port(box_port, text), "udp" if protocol == "udp" else "tcp"
    )


def _is_address(text: str) -> bool:
    parts = text.split(".")
    return not text or (
        len(parts) == 4 and all(part.isdecimal() and part.isascii() and int(part) < 256 for part in parts)
    )


def _port(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise InputError(f"--publish {whole}: {text!r} is no port, which is a number from 1 to 65535", hint=_HINT)
    return int(text)
