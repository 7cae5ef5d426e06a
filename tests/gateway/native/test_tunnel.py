"""Relays between socket pairs, turned by hand: ends, back-pressure, times, resets, splices, and the same over TLS."""

import contextlib
import os
import socket
import ssl

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.native import splice
from gateway.native.reactor import Reactor
from gateway.native.stream import Stream, TlsStream
from gateway.native.tunnel import Counts, Ended, relay


class Desk:
    """A client and a server, and a relay between the other ends of their connections."""

    def __init__(self, *, tcp=False, idle=0.0, limit=0.0, ahead=(b"", b""), wrap=None):
        self.time = [100.0]
        self.reactor = Reactor(lambda: self.time[0])
        make = tcp_pair if tcp else socket.socketpair
        self.client, self._a = make()
        self.server, self._b = make()
        for each in (self.client, self._a, self.server, self._b):
            each.setblocking(False)
        self.counts = Counts()
        self.ended = None
        self.strand = self.reactor.spawn(self._relay, idle, limit, ahead, wrap)

    async def _relay(self, strand, idle, limit, ahead, wrap):
        a, b = Stream(self.reactor, self._a, strand.wake), Stream(self.reactor, self._b, strand.wake)
        try:
            if wrap is not None:
                a = await wrap(strand, a)
            self.ended = await relay(strand, a, b, idle=idle, limit=limit, counts=self.counts, ahead=ahead)
            if self.ended is Ended.RESET_BY_A:
                b.abort()
            if self.ended is Ended.RESET_BY_B:
                a.abort()
        finally:
            a.close()
            b.close()

    def turn(self, times=10):
        for _ in range(times):
            self.reactor.turn()

    def close(self):
        self.reactor.close()
        for each in (self.client, self.server, self._a, self._b):
            each.close()


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


@pytest.fixture
def desk(request):
    desk = Desk(**getattr(request, "param", {}))
    yield desk
    desk.close()
    splice.PIPES.close()


def receive(sock, size=1 << 20):
    try:
        return sock.recv(size)
    except BlockingIOError:
        return None


def carry(desk, ways, *, turns=20_000):
    """Send and receive until every way (from, to, bytes) has arrived whole; None in place of bytes: shut that side down."""
    sent = [0] * len(ways)
    got = [bytearray() for _ in ways]
    for _ in range(turns):
        for number, (source, target, data) in enumerate(ways):
            if sent[number] < len(data):
                with contextlib.suppress(BlockingIOError):
                    sent[number] += source.send(data[sent[number] : sent[number] + 300_000])
            got[number] += receive(target, 250_000) or b""
        desk.reactor.turn()
        if all(len(each) >= len(way[2]) for each, way in zip(got, ways, strict=True)):
            break
    return [bytes(each) for each in got]


def test_both_ways_and_both_ends(desk):
    desk.client.send(b"question")
    desk.turn()
    assert receive(desk.server) == b"question"
    desk.server.send(b"answer")
    desk.turn()
    assert receive(desk.client) == b"answer"
    desk.client.shutdown(socket.SHUT_WR)
    desk.turn()
    assert receive(desk.server) == b""
    assert desk.ended is None
    desk.server.send(b"still here")
    desk.turn()
    assert receive(desk.client) == b"still here"
    desk.server.close()
    desk.turn()
    assert receive(desk.client) == b""
    assert desk.ended is Ended.WELL
    assert (desk.counts.received, desk.counts.sent) == (8, 16)
    assert desk.strand.finished
    assert not desk.reactor.handlers


def test_the_server_may_end_first(desk):
    desk.server.send(b"bye")
    desk.server.shutdown(socket.SHUT_WR)
    desk.turn()
    assert receive(desk.client) == b"bye"
    assert receive(desk.client) == b""
    desk.client.send(b"more")
    desk.turn()
    assert receive(desk.server) == b"more"
    desk.client.close()
    desk.turn()
    assert desk.ended is Ended.WELL


@pytest.mark.parametrize("desk", [{"ahead": (b"hello ", b"welcome ")}], indirect=True)
def test_what_was_read_before_goes_first(desk):
    desk.client.send(b"server")
    desk.server.send(b"client")
    desk.turn()
    assert receive(desk.server) == b"hello server"
    assert receive(desk.client) == b"welcome client"
    assert (desk.counts.received, desk.counts.sent) == (12, 14)


@pytest.mark.slow
@pytest.mark.parametrize("desk", [{}, {"tcp": True}], indirect=True, ids=["unix", "tcp"])
def test_megabytes_both_ways_byte_by_byte(desk):
    up, down = os.urandom(7_000_001), os.urandom(5_000_003)
    assert carry(desk, [(desk.client, desk.server, up), (desk.server, desk.client, down)]) == [up, down]
    assert (desk.counts.received, desk.counts.sent) == (len(up), len(down))
    desk.client.close()
    desk.server.close()
    desk.turn()
    assert desk.ended is Ended.WELL
    assert 1 <= len(splice.PIPES.free) == splice.PIPES.made <= 2


@pytest.mark.slow
def test_the_end_of_a_spliced_way_is_passed_on_after_its_last_byte(desk):
    data = os.urandom(3_000_000)
    assert carry(desk, [(desk.client, desk.server, data[:2_000_000])]) == [data[:2_000_000]]
    desk.client.setblocking(True)
    desk.client.settimeout(0.05)
    sent = 0
    rest = data[2_000_000:]
    got = bytearray()
    while sent < len(rest):
        try:
            sent += desk.client.send(rest[sent:])
        except TimeoutError:
            desk.turn(2)
            got += receive(desk.server) or b""
    desk.client.shutdown(socket.SHUT_WR)
    for _ in range(1000):
        desk.turn(2)
        more = receive(desk.server)
        if more == b"":
            break
        got += more or b""
    assert bytes(got) == rest
    assert more == b""
    assert desk.ended is None


@pytest.mark.parametrize("first", [0, 1_000_000], ids=["copied", "spliced"])
def test_a_side_that_does_not_read_stops_the_other(desk, first):
    data = bytes(first)
    if first:
        carry(desk, [(desk.client, desk.server, data)])
    sent = quiet = 0
    while quiet < 20:
        try:
            sent += desk.client.send(bytes(100_000))
            quiet = 0
        except BlockingIOError:
            quiet += 1
        desk.turn(2)
    held = desk.counts.received - first
    assert 0 < held < 8 << 20
    assert desk.reactor.turn() == 0, "nothing is busy while it waits"
    got = 0
    while got < sent:
        more = receive(desk.server)
        got += len(more) if more else 0
        desk.turn(2)
    assert desk.counts.received == first + sent


@pytest.mark.parametrize("desk", [{"idle": 10.0}], indirect=True)
def test_idle_is_no_byte_in_either_direction(desk):
    for _ in range(3):
        desk.time[0] += 9.0
        desk.server.send(b"x")
        desk.turn()
        assert desk.ended is None
    desk.time[0] += 9.9
    desk.turn()
    assert desk.ended is None
    desk.time[0] += 0.2
    desk.turn()
    assert desk.ended is Ended.IDLE
    assert receive(desk.client, 3) == b"xxx"
    assert receive(desk.client) == b""


@pytest.mark.parametrize("desk", [{"idle": 10.0, "limit": 25.0}], indirect=True)
def test_the_limit_holds_however_busy_it_is(desk):
    for _ in range(4):
        assert desk.ended is None
        desk.time[0] += 6.0
        desk.client.send(b"x")
        desk.turn()
    desk.time[0] += 2.0
    desk.turn()
    assert desk.ended is Ended.LIMIT


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
    sock.close()


@pytest.mark.parametrize("desk", [{"tcp": True}], indirect=True)
@pytest.mark.parametrize("by_client", [True, False])
@pytest.mark.parametrize("spliced", [True, False])
def test_a_reset_is_passed_on_as_one(desk, by_client, spliced):
    if spliced:
        data = bytes(1_000_000)
        carry(desk, [(desk.client, desk.server, data), (desk.server, desk.client, data)])
    one, other = (desk.client, desk.server) if by_client else (desk.server, desk.client)
    reset(one)
    desk.turn()
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert desk.ended is (Ended.RESET_BY_A if by_client else Ended.RESET_BY_B)


@pytest.mark.parametrize("desk", [{"tcp": True}], indirect=True)
def test_what_a_server_said_before_it_refused_more_still_arrives(desk):
    desk.server.send(b"too much, bye")
    desk.server.shutdown(socket.SHUT_WR)
    desk.server.shutdown(socket.SHUT_RD)
    desk.turn()
    assert receive(desk.client) == b"too much, bye"


@pytest.mark.parametrize("amount", [0, 400_000, 3_000_000])
def test_cancelled_it_leaves_nothing(amount):
    before = len(os.listdir("/proc/self/fd"))
    desk = Desk()
    try:
        desk.client.send(b"x")
        for _ in range(max(1, amount // 50_000)):
            with contextlib.suppress(BlockingIOError):
                desk.client.send(bytes(50_000))
            desk.turn(2)
        desk.strand.cancel()
        assert not desk.reactor.handlers
        assert not desk.reactor.strands
    finally:
        desk.close()
        splice.PIPES.close()
    assert len(os.listdir("/proc/self/fd")) == before


# ----------------------------------------------------------------------------------------------------------------- TLS


class Client:
    """A TLS client on a non-blocking socket. chunk: bytes that it reads at a time."""

    chunk = 1 << 20

    def __init__(self, sock, context):
        self.sock, self._in, self._out = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="gw.test")

    def step(self, function, *args):
        try:
            return function(*args)
        except ssl.SSLWantReadError:
            return None
        finally:
            if self._out.pending:
                self.sock.setblocking(True)
                self.sock.sendall(self._out.read())
                self.sock.setblocking(False)
            try:
                if data := self.sock.recv(self.chunk):
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except BlockingIOError:
                pass


@pytest.fixture(scope="module")
def contexts():
    ca = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ca.issue_cert("gw.test").configure_cert(server)
    ca.configure_trust(client)
    return server, client


@pytest.fixture
def secure(contexts):
    async def wrap(strand, stream):
        tls = TlsStream(stream, contexts[0], server_side=True)
        await tls.handshake(strand)
        return tls

    desk = Desk(wrap=wrap)
    client = Client(desk.client, contexts[1])
    for _ in range(20):
        client.step(client.tls.do_handshake)
        desk.turn(2)
    yield desk, client
    desk.close()


def test_over_tls_an_end_still_lets_the_other_way_go_on(secure):
    desk, client = secure
    client.step(client.tls.write, b"question")
    desk.turn()
    assert receive(desk.server) == b"question"
    desk.server.send(b"first")
    desk.server.shutdown(socket.SHUT_WR)
    desk.turn()
    client.step(lambda: None)
    assert client.step(client.tls.read, 100) == b"first"
    client.step(lambda: None)
    assert client.step(client.tls.read, 100) == b""  # close_notify: a clean end
    sent = os.urandom(3_000_000)
    got = bytearray()
    for at in range(0, len(sent), 10_000):
        client.step(client.tls.write, sent[at : at + 10_000])
        desk.turn(3)
        got += receive(desk.server) or b""
    assert bytes(got) == sent
    desk.client.shutdown(socket.SHUT_WR)  # without close_notify
    desk.turn()
    assert desk.ended is Ended.WELL
    assert receive(desk.server) == b""


def test_back_pressure_over_tls(secure):
    desk, client = secure
    data = os.urandom(5_000_000)
    sent, got = 0, bytearray()
    for _ in range(20_000):
        if sent < len(data):
            with contextlib.suppress(BlockingIOError):
                sent += desk.server.send(data[sent : sent + 400_000])
        desk.turn(1)
        got += client.step(client.tls.read, 16_384) or b""
        if len(got) == len(data):
            break
    assert bytes(got) == data


@pytest.mark.parametrize("more", range(0, 8000, 1000))
def test_a_slow_reader_over_tls_gets_a_whole_end(secure, more):
    """The server has ended before the client reads: close_notify finds no room, and must not be lost for it."""
    desk, client = secure
    desk._a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = os.urandom(100_000 + more)
    desk.server.send(data)
    desk.server.shutdown(socket.SHUT_WR)
    client.chunk = 1500
    got, piece = bytearray(), None
    for _ in range(1000):
        desk.turn(1)
        piece = client.step(client.tls.read, 16_384)
        if piece == b"":
            break
        got += piece or b""
    assert bytes(got) == data
    assert piece == b"", "close_notify came"


steps = st.lists(st.tuples(st.booleans(), st.sampled_from(["send", "read", "end", "turn"]), st.integers(1, 300_000)), max_size=40)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.booleans(), steps)
def test_whatever_happens_in_whatever_order_every_byte_and_both_ends_arrive(tcp, steps):
    desk = Desk(tcp=tcp)
    sides = {True: (desk.client, desk.server), False: (desk.server, desk.client)}
    sent, got, ended = ({True: bytearray(), False: bytearray()} for _ in range(3))

    def read(side, size):
        data = receive(sides[not side][0], size)
        got[side] += data or b""
        if data == b"":
            ended[side] += b"!"

    def end(side):
        if not ended[side].startswith(b"."):
            ended[side][:0] = b"."
            sides[side][0].shutdown(socket.SHUT_WR)

    try:
        for side, action, size in steps:
            if action == "send" and not ended[side]:
                data = bytes([len(sent[side]) % 251]) * size
                with contextlib.suppress(BlockingIOError):
                    sent[side] += data[: sides[side][0].send(data)]
            elif action == "read":
                read(side, size)
            elif action == "end":
                end(side)
            desk.turn(1)
        end(True)
        end(False)
        for _ in range(2000):
            for side in (True, False):
                read(side, 1 << 20)
            desk.turn(1)
            if desk.strand.finished and all(each.endswith(b"!") for each in ended.values()):
                break
        assert got == sent
        assert desk.ended is Ended.WELL
        assert (desk.counts.received, desk.counts.sent) == (len(sent[True]), len(sent[False]))
    finally:
        desk.close()
        splice.PIPES.close()
    assert splice.PIPES.made == 0
