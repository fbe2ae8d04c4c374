"""The loopback interface of a network namespace of one's own, which starts out down."""

from __future__ import annotations

import os
import struct

from jubako.kernel.syscalls import call, close

__all__ = ["bring_loopback_up"]

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 0x1
_AF_INET = 2
_SOCK_DGRAM = 2 | os.O_CLOEXEC
_IFREQ = struct.Struct("16sh22x")  # name, flags, the rest of the union


def bring_loopback_up() -> None:
    """Makes 127.0.0.1 and ::1 reachable in this network namespace; needs CAP_NET_ADMIN in it.

    Imports nothing: the view that is mounted by now may hide Python, or have another one's modules.
    """
    any_socket = call("socket", _AF_INET, _SOCK_DGRAM, 0)
    try:
        call("ioctl", any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _IFF_UP))
    finally:
        close(any_socket)
