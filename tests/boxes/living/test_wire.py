"""Frames on a control socket: whole, with descriptors, and told from what is none."""

from __future__ import annotations

import os
import socket

import pytest

from jubako.boxes.living.wire import LONGEST, Inbox, pack, receive, send


def test_frames_come_whole_and_in_order_with_their_descriptors() -> None:
    ours, theirs = socket.socketpair()
    reads, writes = os.pipe()
    with ours, theirs:
        send(ours, {"ask": "x", "name": "\udcff"}, (writes,))
        send(ours, {"more": [1, 2]})
        inbox = Inbox()
        frames = []
        while len(frames) < 2:
            assert receive(theirs, inbox)
            while (frame := inbox.next()) is not None:
                frames.append(frame)
        (fd,) = inbox.fds
        assert not os.get_inheritable(fd)
        os.write(fd, b"through")
        inbox.close()
        ours.close()
        assert not receive(theirs, inbox)
    assert frames == [{"ask": "x", "name": "\udcff"}, {"more": [1, 2]}]
    assert os.read(reads, 100) == b"through"
    os.close(reads)
    os.close(writes)


def test_frame_is_taken_when_all_of_it_is_there() -> None:
    data = pack({"a": "b" * 100})
    inbox = Inbox()
    for byte in data[:-1]:
        inbox.data.append(byte)
        assert inbox.next() is None
    inbox.data.append(data[-1])
    assert inbox.next() == {"a": "b" * 100}


@pytest.mark.parametrize(
    "data", [(LONGEST + 1).to_bytes(4, "big"), b"\0\0\0\2[]", b"\0\0\0\3abc"], ids=["too long", "no object", "no JSON"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    inbox = Inbox(bytearray(data))
    with pytest.raises(ValueError, match=r"."):
        inbox.next()
