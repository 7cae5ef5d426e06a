"""Byte streams over socket pairs, turned by hand: back-pressure, pauses, ends, and the same over TLS."""

import socket
import ssl

import pytest
import trustme

from gateway.native.reactor import READ, Reactor
from gateway.native.stream import Stream, TlsStream


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


def turn(reactor, times=20):
    for _ in range(times):
        reactor.turn()


def test_a_reader_gets_what_comes_and_the_end(reactor, pair):
    a, b = pair
    got = []

    async def read(strand):
        stream = Stream(reactor, a, strand.wake)
        while data := await stream.recv(strand):
            got.append(data)
        stream.close()

    strand = reactor.spawn(read)
    b.send(b"one")
    turn(reactor)
    b.send(b"two")
    turn(reactor)
    b.shutdown(socket.SHUT_WR)
    turn(reactor)
    assert got == [b"one", b"two"]
    assert strand.finished
    assert not reactor.handlers


def test_a_writer_waits_for_a_slow_reader_and_nothing_is_lost(reactor, pair):
    a, b = pair
    data = bytes(range(256)) * 40_000

    async def write(strand):
        stream = Stream(reactor, a, strand.wake)
        assert not stream.write(data)
        await stream.drain(strand)
        assert stream.unsent is None
        stream.close()

    strand = reactor.spawn(write)
    got = bytearray()
    while len(got) < len(data):
        turn(reactor, 2)
        got += b.recv(1 << 20)
    turn(reactor)
    assert bytes(got) == data
    assert strand.finished


def test_a_paused_stream_costs_no_turns_even_when_the_other_side_hangs_up(reactor, pair):
    a, b = pair
    told = []
    stream = Stream(reactor, a, told.append)
    stream.pause()
    b.send(b"x")
    b.close()
    assert reactor.turn() == 0
    stream.resume()
    assert reactor.turn() == 1
    assert told[0] & READ
    assert stream.read() == b"x"
    stream.close()
    stream.close()


def test_while_one_strand_drains_another_reads(reactor, pair):
    a, b = pair
    data, got = bytes(4 << 20), []

    async def both(strand):
        stream = Stream(reactor, a, got.append)
        stream.write(data)
        stream.listen(lambda events: got.append(stream.read()))
        await stream.drain(strand)

    reactor.spawn(both)
    b.send(b"upwards")
    turn(reactor, 3)
    assert b"upwards" in got


def test_abort_is_seen_as_a_reset(reactor):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        accepted.setblocking(False)
        stream = Stream(reactor, accepted, lambda events: None)
        stream.abort()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.fixture(scope="module")
def contexts():
    ca = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.issue_cert("a.test").configure_cert(server)
    ca.configure_trust(client)
    return server, client


def joined(reactor, pair, contexts, server, client):
    """Both ends of a TLS connection as strands: `server(strand, stream)` and `client(strand, stream)`."""
    done = []

    async def end(strand, sock, work, context, options):
        stream = TlsStream(Stream(reactor, sock, strand.wake), context, **options)
        await stream.handshake(strand)
        await work(strand, stream)
        done.append(work)
        stream.close()

    reactor.spawn(end, pair[0], server, contexts[0], {"server_side": True})
    reactor.spawn(end, pair[1], client, contexts[1], {"server_side": False, "server_hostname": "a.test"})
    for _ in range(20_000):
        reactor.turn()
        if len(done) == 2:
            return
    raise AssertionError(f"not done: {reactor!r}")


def test_tls_carries_large_data_both_ways_and_says_that_it_ends(reactor, pair, contexts):
    data = bytes(range(256)) * 8_000
    got = bytearray()

    async def server(strand, stream):
        while len(got) < len(data):
            got.extend(await stream.recv(strand))
        await stream.sendall(strand, b"thanks")

    async def client(strand, stream):
        for at in range(0, len(data), 50_000):
            await stream.sendall(strand, data[at : at + 50_000])
        assert await stream.recv(strand) == b"thanks"
        assert await stream.recv(strand) == b""

    joined(reactor, pair, contexts, server, client)
    assert bytes(got) == data


def test_an_end_without_close_notify_is_an_error(reactor, pair, contexts):
    async def server(strand, stream):
        await stream.sendall(strand, b"half")
        Stream.close(stream)

    async def client(strand, stream):
        assert await stream.recv(strand) == b"half"
        with pytest.raises(OSError, match="EOF"):
            await stream.recv(strand)

    joined(reactor, pair, contexts, server, client)


@pytest.mark.parametrize("more", range(0, 8000, 1000))
def test_a_slow_reader_of_what_lingers_gets_a_whole_end(reactor, pair, contexts, more):
    """close_notify finds no room in a socket that is full of the answer's last bytes."""
    data = bytes(range(250)) * 400 + bytes(more)
    got = bytearray()

    async def server(strand, stream):
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await stream.sendall(strand, data)
        await stream.linger(strand)

    async def client(strand, stream):
        stream._recv = lambda size: stream.sock.recv(1500)
        while more := await stream.recv(strand):
            got.extend(more)

    joined(reactor, pair, contexts, server, client)
    assert bytes(got) == data


def test_a_handshake_with_nonsense_fails(reactor, pair, contexts):
    seen = []

    async def server(strand):
        stream = TlsStream(Stream(reactor, pair[0], strand.wake), contexts[0], server_side=True)
        try:
            await stream.handshake(strand)
        except ssl.SSLError as error:
            seen.append(error)
        finally:
            stream.close()

    reactor.spawn(server)
    pair[1].send(b"GET / HTTP/1.1\r\n\r\n")
    turn(reactor)
    assert seen


class ByHand:
    """A TLS client over a socket, moved step by step, so that it is seen what came when."""

    def __init__(self, sock, context):
        self.sock, self.down, self.up = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.down, self.up, server_hostname="a.test")

    def step(self, what):
        """Does it, says what TLS has to say; whether it was done."""
        try:
            what()
            done = True
        except ssl.SSLWantReadError:
            done = False
        if self.up.pending:
            self.sock.send(self.up.read())
        return done

    def came(self):
        """Bytes that are here, given to TLS."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return 0
        self.down.write(data)
        return len(data)


def held(reactor, pair, contexts, version, *, answer):
    """A server that reads one request and answers it, or ends; and its client with the handshake done."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, version

    async def serve(strand):
        stream = TlsStream(Stream(reactor, pair[0], strand.wake), contexts[0], server_side=True)
        await stream.handshake(strand)
        assert await stream.recv(strand) == b"ask"
        if answer:
            await stream.sendall(strand, b"answer")
        stream.close()

    reactor.spawn(serve)
    client = ByHand(pair[1], context)
    assert not client.step(client.tls.do_handshake)
    for _ in range(4):
        turn(reactor)
        client.came()
        if client.step(client.tls.do_handshake):
            break
    turn(reactor)
    return client


@pytest.mark.parametrize("answer", [True, False])
def test_tickets_of_tls_13_leave_with_the_answer(reactor, pair, contexts, answer):
    client = held(reactor, pair, contexts, ssl.TLSVersion.TLSv1_3, answer=answer)
    assert client.tls.version() == "TLSv1.3"
    assert client.came() == 0
    client.step(lambda: client.tls.write(b"ask"))
    turn(reactor)
    assert client.came()
    assert client.tls.read(100) == (b"answer" if answer else b"")
    assert client.tls.session.has_ticket


def test_the_end_of_a_handshake_of_tls_12_is_sent_at_once(reactor, pair, contexts):
    client = held(reactor, pair, contexts, ssl.TLSVersion.TLSv1_2, answer=True)
    assert client.tls.version() == "TLSv1.2"
    client.step(lambda: client.tls.write(b"ask"))
    turn(reactor)
    assert client.came()
    assert client.tls.read(100) == b"answer"
