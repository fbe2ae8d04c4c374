"""The options that say how a box is made, for every command that makes one, and what they come to. Needs no click."""

from __future__ import annotations

from jubako.boxes.spec import Box, Host
from jubako.cli.line import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BOX_OPTIONS", "NETWORK_OPTION", "box_of"]

NETWORK_OPTION = Option(
    ("--network", "--no-network"), "network", "Share the machine's network (default), or have none.", default=True
)
BOX_OPTIONS = (
    NETWORK_OPTION,
    Option(("--bind",), "binds", "Share PATH: writes there are real.", takes="values", default=(), metavar="PATH"),
)


def box_of(*, network: bool = True, binds: Sequence[str] = ()) -> Box:
    """The box that the values of `BOX_OPTIONS` ask for."""
    return Box(Host(whole=True), binds=binds, network="host" if network else "none")
