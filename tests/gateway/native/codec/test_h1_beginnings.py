"""What is no HTTP is refused by its first bytes: it may never send what would end a head."""

import pytest

from gateway.errors import BadRequest, UpstreamProtocolError
from gateway.native.codec.h1 import ClientCodec, ServerCodec


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(32), b"\r\n\r", b"(", b"a" * 65, b"\n"], ids=repr
)
def test_no_request_begins_so(data):
    with pytest.raises(BadRequest):
        ServerCodec().next_event(data)


@pytest.mark.parametrize(
    "data", [b"", b"\r", b"\r\n", b"\r\nG", b"GET", b"GET ", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\n", b"a" * 64]
)
def test_a_request_may_begin_so(data):
    assert ServerCodec().next_event(data) is None


@pytest.mark.parametrize("data", [b"220 this is a mail server\r\n", b"h", b"HTTP/2", b"\0", b"\r\n"], ids=repr)
def test_no_answer_begins_so(data):
    with pytest.raises(UpstreamProtocolError):
        ClientCodec().next_event(data)


@pytest.mark.parametrize("data", [b"", b"H", b"HTTP/1.", b"HTTP/1.1 20"])
def test_an_answer_may_begin_so(data):
    assert ClientCodec().next_event(data) is None
