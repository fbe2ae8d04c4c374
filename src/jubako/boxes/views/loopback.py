"""The loopback interface of a network namespace of one's own, which starts out down."""

from __future__ import annotations

import fcntl
import struct

__all__ = ["bring_loopback_up"]

_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sh22x")  # name, flags, the rest of the union


def bring_loopback_up() -> None:
    """Makes 127.0.0.1 and ::1 reachable in this network namespace; needs CAP_NET_ADMIN in it."""
    import socket  # 3 ms to import, for boxes without network alone

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _IFF_UP))
