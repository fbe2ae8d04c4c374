"""Messages between a runner and a worker, over real sockets."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator

import pytest

from jubako.boxes.job import Job, Printed
from jubako.boxes.spec import Box, StagedOutput
from jubako.boxes.workers.wire import Cancel, Channel, read_message

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_arrive_whole_and_in_order(pair: Pair) -> None:
    ours, theirs = (Channel(one.fileno()) for one in pair)
    job = Job("a1", "T(x)", "m:f", b"\0\xff", (StagedOutput("/x\udcff", "file", "/s/0"),), box=Box(binds=["/data"]))
    ours.send(job)
    ours.send(Cancel("a1"))
    assert theirs.receive() == [job, Cancel("a1")]
    assert theirs.receive() == []


def test_half_a_message_waits_for_its_other_half(pair: Pair) -> None:
    sender, receiver = pair
    channel = Channel(receiver.fileno())
    whole, other = socket.socketpair()
    with whole, other:
        Channel(whole.fileno()).send(Printed("a1", b"text"))
        raw = other.recv(1000)
    for byte in raw[:-1]:
        sender.send(bytes([byte]))
        assert channel.receive() == []
    sender.send(raw[-1:])
    assert channel.receive() == [Printed("a1", b"text")]


def test_large_messages_both_ways_do_not_block_each_other(pair: Pair) -> None:
    ours, theirs = (Channel(one.fileno()) for one in pair)
    big = Printed("a1", b"x" * 3_000_000)
    ours.send(big)
    theirs.send(big)
    assert ours.unsent_bytes > 0
    came: dict[int, list[object]] = {}

    def send_and_listen(channel: Channel) -> None:
        channel.flush_all()
        while not (messages := channel.receive()) and select.select([channel.fd], [], [], 10)[0]:
            pass
        came[channel.fd] = messages

    other = threading.Thread(target=send_and_listen, args=(theirs,))
    other.start()
    send_and_listen(ours)
    other.join()
    assert came == {ours.fd: [big], theirs.fd: [big]}


def test_other_end_that_is_gone_is_noticed_when_reading_and_when_writing(pair: Pair) -> None:
    ours = Channel(pair[0].fileno())
    ours.send(Cancel("x"))
    pair[1].close()
    assert ours.receive() == []
    assert ours.is_closed
    ours.send(Cancel("y"))
    ours.flush_all()


def test_message_read_alone_leaves_the_next_in_the_socket(pair: Pair) -> None:
    sender = Channel(pair[0].fileno())
    sender.send(Cancel("one"))
    sender.send(Cancel("two"))
    assert read_message(pair[1].fileno()) == Cancel("one")
    assert read_message(pair[1].fileno()) == Cancel("two")


def test_message_that_never_comes_is_an_end_of_file(pair: Pair) -> None:
    pair[0].send(b"\x05")
    pair[0].close()
    with pytest.raises(EOFError, match="1 of 8 bytes"):
        read_message(pair[1].fileno())
