import os
import socket
import sys

import pytest

from agent.sandbox import wire
from agent.sandbox.wire import BadRequest, Request, Result

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_request_arrives_with_its_descriptors(ends):
    ours, theirs = ends
    wire.send(ours, Request(["cat", "a b", "ü\n"], "folder", 3), (0, 1))
    request, descriptors = wire.receive(theirs)
    assert request == Request(["cat", "a b", "ü\n"], "folder", 3)
    assert len(descriptors) == 2
    for number in descriptors:
        os.close(number)


def test_a_result_arrives(ends):
    ours, theirs = ends
    wire.answer(theirs, Result("exit", 1, 0.5, "why"))
    assert wire.to_result(ours.recv(wire.MAX_PACKET)) == Result("exit", 1, 0.5, "why")


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"[]",
        b"{",
        b'{"command": []}',
        b'{"command": [1]}',
        b'{"command": ["a\\u0000b"]}',
        b'{"command": ["a"], "folder": "\\u0000"}',
        b'{"command": ["a"], "seconds": 0}',
        b'{"command": ["a"], "seconds": 601}',
        b'{"command": ["a"], "more": 1}',
    ],
)
def test_what_is_no_request_is_refused(ends, packet):
    ours, theirs = ends
    socket.send_fds(ours, [packet or b" "], [0, 1])
    with pytest.raises(BadRequest):
        wire.receive(theirs)


def test_a_request_without_descriptors_is_refused(ends):
    ours, theirs = ends
    ours.send(b'{"command": ["a"]}')
    with pytest.raises(BadRequest, match="two descriptors"):
        wire.receive(theirs)


def test_too_long_a_request_is_not_sent(ends):
    with pytest.raises(BadRequest, match="standard input"):
        wire.send(ends[0], Request(["x" * wire.MAX_PACKET]), (0, 1))
