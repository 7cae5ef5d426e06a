"""What is said before bytes flow: keepalive, PROXY headers, tunnels, over a socket pair turned by hand."""

import socket

import pytest

from gateway.native.codec.proxy_protocol import header
from gateway.native.preface import PostStream, TunnelRefused, open_tunnel, say_proxy, set_keepalive
from gateway.native.reactor import DeadlineExceeded, Reactor
from gateway.native.stream import Stream
from gateway.snapshot import Keepalive, Tunnel


@pytest.fixture
def reactor():
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


def run(reactor, pair, function, *says):
    """Run `function(strand, stream)` while the other side says this; what it returned or raised, and what the other side heard."""
    result = []

    async def strand_of(strand):
        stream = Stream(reactor, pair[0], strand.wake)
        strand.until(reactor.now + 5.0)
        try:
            result.append(await function(strand, stream))
        except (TunnelRefused, OSError, DeadlineExceeded) as error:
            result.append(error)
        reactor.handlers.pop(stream.fd)

    reactor.spawn(strand_of)
    for said in says:
        reactor.turn()
        if said is None:
            pair[1].shutdown(socket.SHUT_WR)
        else:
            pair[1].send(said)
    reactor.turn()
    reactor.turn()
    try:
        heard = pair[1].recv(10_000)
    except BlockingIOError:
        heard = b""
    return result[0] if result else None, heard


def test_keepalive_is_what_was_asked_and_otherwise_the_systems():
    with socket.socket() as sock, socket.socket() as untouched:
        set_keepalive(sock, Keepalive(probes=4, time_ms=1500, interval_ms=0))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 2
        usual = untouched.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == usual


@pytest.mark.parametrize(
    ("proxy", "wanted"),
    [
        (("10.0.0.1:1000", "10.0.0.2:80"), header("V1", ("10.0.0.1", 1000), ("10.0.0.2", 80))),
        (("[2001:db8::1]:1000", "[::1]:80"), b"PROXY TCP6 2001:db8::1 ::1 1000 80\r\n"),
        (("/run/gw.sock", "/run/gw.sock"), b"PROXY UNKNOWN\r\n"),
        (("@gw", "@gw"), b"PROXY UNKNOWN\r\n"),
        (("", ""), b"PROXY UNKNOWN\r\n"),
    ],
)
def test_whom_a_proxy_header_speaks_of(reactor, pair, proxy, wanted):
    assert run(reactor, pair, lambda strand, stream: say_proxy(strand, stream, "V1", proxy)) == (None, wanted)


CONNECT = Tunnel("CONNECT", "db.test", 5432)


def tunnel(reactor, pair, *says, to=CONNECT):
    return run(reactor, pair, lambda strand, stream: open_tunnel(strand, stream, to), *says)


def test_connect_and_what_came_through_already(reactor, pair):
    (carrier, ahead), heard = tunnel(
        reactor, pair, b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.0 ", b"299 Odd\r\nContent-Length: 5\r\n\r\n", b""
    )
    assert (carrier.spliceable, ahead) == (True, b"")
    assert heard == b"CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n"


def test_an_ipv6_target_is_in_brackets(reactor, pair):
    _, heard = tunnel(reactor, pair, to=Tunnel("CONNECT", "2001:db8::1", 1))
    assert heard.startswith(b"CONNECT [2001:db8::1]:1 HTTP/1.1\r\n")


@pytest.mark.parametrize("method", ["CONNECT", "POST"])
@pytest.mark.parametrize(
    ("says", "why"),
    [
        ((b"HTTP/1.1 403 No\r\n\r\n",), "tunnel_refused:_403"),
        ((b"HTTP/2 200\r\n\r\n",), "tunnel_answer_malformed"),
        ((b"HTTP/1.1 2000 OK\r\n\r\n",), "tunnel_answer_malformed"),
        ((b"HTTP/1.1 200 OK\r\n", None), "tunnel_closed"),
    ],
)
def test_a_tunnel_that_is_not_opened(reactor, pair, method, says, why):
    error, _ = tunnel(reactor, pair, *says, to=Tunnel(method, "db.test", 5432))
    assert isinstance(error, TunnelRefused)
    assert str(error) == why


def test_an_endless_answer_is_refused(reactor, pair):
    error, _ = tunnel(reactor, pair, *([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 30_000] + [b"y" * 30_000] * 2))
    assert str(error) == "tunnel_answer_too_long"


POST = Tunnel("POST", "db.test", 5432)
OPEN = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_bytes_through_a_post_are_chunks(reactor, pair):
    (carrier, ahead), heard = tunnel(reactor, pair, OPEN + b"3\r\nabc\r\n", to=POST)
    assert isinstance(carrier, PostStream)
    assert (carrier.spliceable, ahead) == (False, b"")
    assert heard == b"POST / HTTP/1.1\r\nhost: db.test:5432\r\ntransfer-encoding: chunked\r\n\r\n"
    assert carrier.read() == b"abc"
    assert carrier.read() is None
    assert carrier.write(b"0123456789abcdef")
    carrier.finish()
    assert pair[1].recv(100) == b"10\r\n0123456789abcdef\r\n0\r\n\r\n"
    pair[1].send(b"2\r\n")
    assert carrier.read() is None
    pair[1].send(b"hi\r\n0\r\n\r\n")
    assert carrier.read() == b"hi"
    assert carrier.read() == b""
    assert carrier.read() == b""


@pytest.mark.parametrize("says", [b"3\r\nab", b"nonsense\r\n"])
def test_a_post_that_breaks_off_is_no_end(reactor, pair, says):
    (carrier, _), _ = tunnel(reactor, pair, OPEN, to=POST)
    pair[1].send(says)
    pair[1].close()
    if says == b"3\r\nab":
        assert carrier.read() == b"ab"
    with pytest.raises(OSError, match=r"in the middle|protocol_error"):
        carrier.read()


def test_a_body_that_ends_with_the_connection(reactor, pair):
    (carrier, _), _ = tunnel(reactor, pair, b"HTTP/1.1 200 OK\r\n\r\nabc", to=POST)
    assert carrier.read() == b"abc"
    pair[1].shutdown(socket.SHUT_WR)
    assert carrier.read() == b""
