"""Questions that others answer: a running engine, asked by dnspython, with upstreams whose behaviour each test writes down."""

import contextlib

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
from nameserving import LOOPBACK, bound, nameserving, texts

from gateway.native import nameserver_forward
from gateway.snapshot import Dns, Name


def answered(query, *records, ttl=300, rcode=dns.rcode.NOERROR, authority=(), **more):
    """records: (kind, text)."""
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(rcode)
    for kind, text in records:
        response.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", kind, text))
    for name, lasting, kind, text in authority:
        response.authority.append(dns.rrset.from_text(name, lasting, "IN", kind, text))
    return response


class Upstream:
    """answer: function of the query (a dns.message) → message, bytes, a list of them, or None; stream: the same by TCP, else `answer`.
    asked: ("udp" or "tcp", query, client's port)."""

    def __init__(self, answer, *, stream=None):
        self.answer, self.stream = answer, stream or answer
        self.asked = []
        self.tcp, self.udp = bound("127.0.0.1")
        self.place = ("127.0.0.1", self.udp.getsockname()[1])

    async def run(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._datagrams)
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(self.tcp))
            await trio.serve_listeners(self._stream, [listener])

    async def _datagrams(self):
        sock = trio.socket.from_stdlib_socket(self.udp)
        while True:
            data, client = await sock.recvfrom(65535)
            query = dns.message.from_wire(data)
            self.asked.append(("udp", query, client[1]))
            for wire in wires(self.answer(query)):
                await sock.sendto(wire, client)

    async def _stream(self, stream):
        async with stream:
            size = int.from_bytes(await read(stream, 2), "big")
            query = dns.message.from_wire(await read(stream, size))
            self.asked.append(("tcp", query, 0))
            for wire in wires(self.stream(query)):
                for byte in (len(wire).to_bytes(2, "big") + wire)[:3]:  # the length and the rest need not come together
                    await stream.send_all(bytes([byte]))
                await stream.send_all(wire[1:])


def wires(answer):
    several = answer if isinstance(answer, list) else [] if answer is None else [answer]
    return [each if isinstance(each, bytes) else each.to_wire(max_size=65535) for each in several]


async def read(stream, size):
    data = b""
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise trio.BrokenResourceError
        data += more
    return data


@contextlib.asynccontextmanager
async def forwarding(*upstreams, parts=(), clock=None, **more):
    options = {} if clock is None else {"clock": clock}
    with contextlib.ExitStack() as stack:
        for upstream in upstreams:
            stack.enter_context(upstream.tcp)
            stack.enter_context(upstream.udp)
        async with trio.open_nursery() as nursery:
            for upstream in upstreams:
                nursery.start_soon(upstream.run)
            dns_part = Dns(allow=LOOPBACK, synced=True, upstreams=tuple(each.place for each in upstreams), **more)
            async with nameserving(*parts, dns=dns_part, **options) as server:
                yield server
            nursery.cancel_scope.cancel()


def one(text, **more):
    return lambda query: answered(query, ("A", text), **more)


SOA = "ns.example. admin.example. 1 2 3 4 60"


async def test_the_rest_is_forwarded_once_and_then_known():
    upstream = Upstream(one("192.0.2.7"))
    async with forwarding(upstream) as server:
        for name in ("www.example.com", "www.example.com", "WWW.example.COM"):
            answer = await server.ask(name)
            assert texts(answer) == ["192.0.2.7"]
            assert answer.flags & dns.flags.RA
            assert answer.answer[0].ttl in (299, 300)
            assert answer.question[0].name.to_text(omit_final_dot=True) == name
        (kind, query, _), *others = upstream.asked
        assert not others
        assert (kind, query.edns, query.payload) == ("udp", 0, 1232)
        assert server.nameserver.counts["kept"] + server.nameserver.counts["forwarded"] == 3


async def test_names_of_a_zone_are_never_forwarded():
    upstream = Upstream(one("192.0.2.7"))
    async with forwarding(upstream, parts=(Name("a.b.svc.cluster.local", addresses=("10.0.0.1",)),)) as server:
        answer = await server.ask("other.b.svc.cluster.local")
        assert answer.rcode() == dns.rcode.NXDOMAIN
        assert answer.authority[0].ttl == 5
        assert (await server.ask("b.svc.cluster.local")).rcode() == dns.rcode.NOERROR  # there are names below
        assert (await server.ask("x.clusterset.local")).rcode() == dns.rcode.NXDOMAIN
        assert not upstream.asked


async def test_each_question_leaves_from_a_port_of_its_own_with_an_id_of_its_own():
    upstream = Upstream(one("192.0.2.7"))
    async with forwarding(upstream) as server:
        for number in range(20):
            await server.ask(f"n{number}.example.com")
        assert len({query.id for _, query, _ in upstream.asked}) > 15
        assert len({port for _, _, port in upstream.asked}) > 15


async def test_who_asks_the_same_meanwhile_waits_for_the_same_answer():
    waiting = trio.Event()
    upstream = Upstream(lambda query: waiting.set())
    async with forwarding(upstream) as server, trio.open_nursery() as nursery:
        found = []

        async def ask():
            found.append(texts(await server.ask("www.example.com")))

        for _ in range(5):
            nursery.start_soon(ask)
        await waiting.wait()
        while server.nameserver.counts["forwarded"] < 5:
            await trio.lowlevel.checkpoint()
        upstream.answer = one("192.0.2.7")
        await server.ask("other.example.com")
        nursery.cancel_scope.deadline = trio.current_time() + 3
        while len(found) < 5:
            await trio.lowlevel.checkpoint()
        assert found == [["192.0.2.7"]] * 5
        assert len([1 for _, query, _ in upstream.asked if str(query.question[0].name) == "www.example.com."]) == 2  # the retry


async def test_ttls_count_down_and_an_answer_that_is_too_old_is_asked_again():
    now = Ahead()
    upstream = Upstream(one("192.0.2.7", ttl=60))
    async with forwarding(upstream, clock=now) as server:
        assert (await server.ask("www.example.com")).answer[0].ttl == 60
        await now.jump(20, server)
        assert (await server.ask("www.example.com")).answer[0].ttl in (39, 40)
        assert len(upstream.asked) == 1
        await now.jump(41, server)
        assert (await server.ask("www.example.com")).answer[0].ttl == 60
        assert len(upstream.asked) == 2


class Ahead:
    """A monotonic clock that a test sets forward."""

    def __init__(self):
        import time

        self.seconds, self._real = 0.0, time.monotonic

    def __call__(self):
        return self._real() + self.seconds

    async def jump(self, seconds, server):
        """Forward, and until the nameserver has noticed."""
        self.seconds += seconds
        while server.nameserver.kept._swept < self() - 1:
            await trio.lowlevel.checkpoint()


async def test_a_ttl_of_years_is_an_hour():
    async with forwarding(Upstream(one("192.0.2.7", ttl=10_000_000))) as server:
        assert (await server.ask("www.example.com")).answer[0].ttl == 3600


async def test_that_there_is_none_is_kept_as_long_as_the_soa_says():
    now = Ahead()
    upstream = Upstream(
        lambda query: answered(query, rcode=dns.rcode.NXDOMAIN, authority=[("example.com.", 300, "SOA", SOA)]),
    )
    async with forwarding(upstream, clock=now) as server:
        for _ in range(2):
            answer = await server.ask("none.example.com")
            assert answer.rcode() == dns.rcode.NXDOMAIN
            assert answer.authority
            await now.jump(50, server)
        assert len(upstream.asked) == 1
        await server.ask("none.example.com")
        assert len(upstream.asked) == 2


async def test_what_does_not_fit_a_datagram_is_asked_by_tcp():
    many = [("A", f"192.0.2.{number}") for number in range(1, 200)]

    def cut(query):
        response = answered(query)
        response.flags |= dns.flags.TC
        return response

    upstream = Upstream(cut, stream=lambda query: answered(query, *many))
    async with forwarding(upstream) as server:
        answer = await server.ask("big.example.com", use_edns=0)
        assert answer.flags & dns.flags.TC  # nor does it fit this client's
        (whole,) = await server.ask_stream(dns.message.make_query("big.example.com", "A"))
        assert len(texts(whole)) == 199
        assert [kind for kind, _, _ in upstream.asked] == ["udp", "tcp"]


async def test_a_client_by_tcp_is_forwarded_for_too_one_question_after_the_other():
    upstream = Upstream(lambda query: answered(query, ("A", "192.0.2.1" if "one" in str(query.question[0].name) else "192.0.2.2")))
    async with forwarding(upstream) as server:
        queries = [dns.message.make_query(f"{name}.example.com", "A") for name in ("one", "two")]
        first, second = await server.ask_stream(*queries)
        assert (texts(first), texts(second)) == (["192.0.2.1"], ["192.0.2.2"])
        assert queries[0].is_response(first)
        assert queries[1].is_response(second)


@pytest.mark.parametrize("kind", ["another id", "another question", "garbage", "not a response", "cut"])
async def test_answers_to_something_else_are_passed_over(kind):
    def forged(query):
        right = answered(query, ("A", "192.0.2.7"))
        wrong = answered(query, ("A", "203.0.113.66"))
        if kind == "another id":
            wrong.id ^= 1
        wire = wrong.to_wire()
        if kind == "another question":
            wire = wire.replace(b"\x03www", b"\x03xxx")
        if kind == "garbage":
            wire = b"\x01\x02\x03"
        if kind == "not a response":
            wire = wire[:2] + bytes([wire[2] & 0x7F]) + wire[3:]
        if kind == "cut":
            wire = wire[:40]
        return [wire, right]

    upstream = Upstream(forged)
    async with forwarding(upstream) as server:
        assert await server.texts("www.example.com") == ["192.0.2.7"]
        assert len(upstream.asked) == 1


async def test_after_a_few_forged_answers_it_is_asked_by_tcp():
    def forge(query):
        wrong = answered(query, ("A", "203.0.113.66"))
        wrong.id ^= 1
        return [wrong] * 4

    upstream = Upstream(forge, stream=one("192.0.2.7"))
    async with forwarding(upstream) as server:
        assert await server.texts("www.example.com") == ["192.0.2.7"]
        assert [kind for kind, _, _ in upstream.asked] == ["udp", "tcp"]


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_an_upstream_that_fails_gives_way_to_the_next_which_is_then_asked_first(rcode):
    bad, good = Upstream(lambda query: answered(query, rcode=rcode)), Upstream(one("192.0.2.7"))
    async with forwarding(bad, good) as server:
        assert await server.texts("www.example.com") == ["192.0.2.7"]
        assert await server.texts("other.example.com") == ["192.0.2.7"]
        assert (len(bad.asked), len(good.asked)) == (1, 2)


async def test_an_upstream_that_refuses_datagrams_gives_way_at_once(monkeypatch):
    monkeypatch.setattr(nameserver_forward, "PATIENCE_S", 60.0)
    monkeypatch.setattr(nameserver_forward, "_FIRST_TRY_S", 30.0)
    gone, good = Upstream(one("203.0.113.1")), Upstream(one("192.0.2.7"))
    gone.run = trio.sleep_forever
    gone.tcp.close()
    gone.udp.close()
    async with forwarding(gone, good) as server:
        assert await server.texts("www.example.com") == ["192.0.2.7"]  # or `ask` has no patience left


@pytest.mark.slow
async def test_silence_is_servfail_within_the_clients_patience_and_an_old_answer_is_better(monkeypatch):
    assert nameserver_forward.PATIENCE_S < 5  # of glibc and dig
    monkeypatch.setattr(nameserver_forward, "PATIENCE_S", 0.5)
    monkeypatch.setattr(nameserver_forward, "_FIRST_TRY_S", 0.1)
    now = Ahead()
    upstream = Upstream(one("192.0.2.7", ttl=1))
    async with forwarding(upstream, clock=now) as server:
        assert await server.texts("www.example.com") == ["192.0.2.7"]
        upstream.answer = lambda query: None
        await now.jump(5, server)
        with trio.fail_after(10):
            stale = await server.ask("www.example.com")
        assert (texts(stale), stale.answer[0].ttl) == (["192.0.2.7"], 30)
        del upstream.asked[:]
        with trio.fail_after(10):
            assert (await server.ask("other.example.com")).rcode() == dns.rcode.SERVFAIL
        assert len(upstream.asked) >= 3  # it may only have been lost


async def test_an_upstream_without_edns_is_asked_without():
    def old(query):
        return answered(query, ("A", "192.0.2.7")) if query.edns < 0 else answered(query, rcode=dns.rcode.FORMERR)

    upstream = Upstream(old)
    async with forwarding(upstream) as server:
        answer = await server.ask("www.example.com", use_edns=0)
        assert (texts(answer), answer.edns) == (["192.0.2.7"], 0)
        assert [query.edns for _, query, _ in upstream.asked] == [0, -1]


async def test_what_a_client_wants_of_signatures_is_passed_on_and_not_mixed_up():
    upstream = Upstream(one("192.0.2.7"))
    async with forwarding(upstream) as server:
        await server.ask("www.example.com")
        await server.ask("www.example.com", want_dnssec=True)
        assert [bool(query.ednsflags & dns.flags.DO) for _, query, _ in upstream.asked] == [False, True]


async def test_other_upstreams_are_asked_anew():
    first, second = Upstream(one("192.0.2.1")), Upstream(one("192.0.2.2"))
    async with forwarding(first, second) as server:
        assert await server.texts("www.example.com") == ["192.0.2.1"]
        server.snapshots.set(server.snapshot(dns=Dns(allow=LOOPBACK, synced=True, upstreams=(second.place,))))
        with trio.fail_after(10):
            while await server.texts("www.example.com") != ["192.0.2.2"]:
                await trio.lowlevel.checkpoint()


async def test_questions_under_way_are_bounded(monkeypatch):
    monkeypatch.setattr("gateway.native.nameserver_forward.MOST_UNDER_WAY", 3)
    upstream = Upstream(lambda query: None)
    async with forwarding(upstream) as server, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(server.ask, f"n{number}.example.com")
        while len(upstream.asked) < 3:
            await trio.lowlevel.checkpoint()
        assert (await server.ask("n4.example.com")).rcode() == dns.rcode.SERVFAIL
        nursery.cancel_scope.cancel()


async def test_answers_kept_are_bounded(monkeypatch):
    monkeypatch.setattr("gateway.native.nameserver_forward.MOST_KEPT", 5)
    upstream = Upstream(one("192.0.2.7"))
    async with forwarding(upstream) as server:
        for number in range(12):
            await server.ask(f"n{number}.example.com")
        assert len(server.nameserver.forwarder._kept) == 5
