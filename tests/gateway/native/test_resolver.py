"""A worker's look-ups against a real nameserver on 127.0.0.1."""

import socket

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
from zone import Zone

from gateway.native import resolver as resolving
from gateway.native.reactor import DeadlineExceeded, Reactor
from gateway.native.resolver import NotResolved, Resolver, nameservers

RECORDS = {
    ("a.test", "A"): ["192.0.2.2", "192.0.2.1"],
    ("a.test", "AAAA"): ["2001:db8::1"],
    ("six.test", "AAAA"): ["2001:db8::6"],
    ("none.test", "TXT"): ["hello"],
}


class Looking:
    """A Resolver on a reactor that runs, with a clock that a test moves."""

    def __init__(self, *servers):
        self.offset = 0.0
        self.reactor = Reactor(lambda: trio.current_time() + self.offset)
        self.resolver = Resolver(self.reactor)
        self.resolver.configure(servers)

    async def ask(self, name, *, within=10.0):
        """The addresses, or what was raised."""
        found, ready = [], trio.Event()

        async def look(strand):
            try:
                found.append(await self.resolver.resolve(strand, name, self.reactor.now + within))
            except (NotResolved, DeadlineExceeded) as error:
                found.append(error)
            ready.set()

        strand = self.reactor.spawn(look)
        try:
            await ready.wait()
        finally:
            strand.cancel()
        return found[0]

    def pass_time(self, seconds):
        self.offset += seconds
        self.reactor.now = self.reactor.clock()


@pytest.fixture
async def zone(nursery):
    return Zone(dict(RECORDS), ttl=60)


@pytest.fixture
async def looking(nursery, zone):
    port = await nursery.start(zone.serve)
    made = Looking(("127.0.0.1", port))
    await nursery.start(made.reactor.run)
    yield made
    nursery.cancel_scope.cancel()


async def test_addresses_in_the_order_they_were_answered_and_ipv6_only_where_there_is_no_ipv4(looking, zone):
    assert await looking.ask("a.test") == ("192.0.2.2", "192.0.2.1")
    assert zone.asked == [("a.test", "A")]
    assert await looking.ask("six.test") == ("2001:db8::6",)


async def test_an_answer_is_kept_as_long_as_its_ttl_says(looking, zone):
    await looking.ask("a.test")
    zone.records[("a.test", "A")] = ["192.0.2.9"]
    looking.pass_time(59)
    assert await looking.ask("a.test") == ("192.0.2.2", "192.0.2.1")
    looking.pass_time(2)
    assert await looking.ask("a.test") == ("192.0.2.9",)
    assert len(zone.asked) == 2


async def test_one_look_up_serves_all_who_wait(looking, zone, nursery):
    zone.hold = trio.Event()
    found = []

    async def one():
        found.append(await looking.ask("a.test"))

    async with trio.open_nursery() as asking:
        for _ in range(5):
            asking.start_soon(one)
        await zone.wait(lambda: zone.waiting)
        zone.hold.set()
    assert found == [("192.0.2.2", "192.0.2.1")] * 5
    assert zone.asked == [("a.test", "A")]


async def test_who_leaves_takes_nothing_from_the_others(looking, zone):
    zone.hold = trio.Event()
    assert isinstance(await looking.ask("a.test", within=0.05), DeadlineExceeded)
    with trio.move_on_after(0.05):
        await looking.ask("a.test")
    zone.hold.set()
    assert await looking.ask("a.test") == ("192.0.2.2", "192.0.2.1")
    assert zone.asked == [("a.test", "A")]


@pytest.mark.parametrize(("name", "word"), [("none.test", "no_address"), ("gone.test", "no_address"), ("a..test", "no_name")])
async def test_what_has_no_address(looking, zone, name, word):
    for _ in range(2):
        assert str(await looking.ask(name)) == word
    assert len(zone.asked) in (0, 2)  # A and AAAA, once


async def test_none_and_failures_hold_for_a_moment_only(looking, zone):
    zone.broken["a.test"] = dns.rcode.SERVFAIL
    assert str(await looking.ask("a.test")) == "dns_rcode_2"
    asked = len(zone.asked)
    del zone.broken["a.test"]
    assert str(await looking.ask("a.test")) == "dns_rcode_2"
    assert len(zone.asked) == asked
    looking.pass_time(resolving.NONE_S + 0.1)
    assert await looking.ask("a.test") == ("192.0.2.2", "192.0.2.1")


async def test_the_last_good_answer_goes_on_when_nobody_answers_well_but_not_for_ever(looking, zone):
    await looking.ask("a.test")
    zone.broken["a.test"] = dns.rcode.SERVFAIL
    looking.pass_time(61)
    assert await looking.ask("a.test") == ("192.0.2.2", "192.0.2.1")
    looking.pass_time(resolving.STALE_S)
    assert str(await looking.ask("a.test")) == "dns_rcode_2"


async def test_a_name_that_is_no_more_is_no_more(looking, zone):
    await looking.ask("a.test")
    zone.records = {("b.test", "A"): ["192.0.2.1"]}
    looking.pass_time(61)
    assert str(await looking.ask("a.test")) == "no_address"


@pytest.mark.slow
async def test_another_server_is_asked_when_one_is_silent_or_gone(nursery, zone):
    port = await nursery.start(zone.serve)
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            gone = closed.getsockname()
        looking = Looking(silent.getsockname(), ("127.0.0.1", port))
        await nursery.start(looking.reactor.run)
        assert await looking.ask("a.test") == ("192.0.2.2", "192.0.2.1")
        looking.resolver.configure((gone, ("127.0.0.1", port)))
        assert await looking.ask("a.test") == ("192.0.2.2", "192.0.2.1")
        looking.resolver.configure((gone,))
        assert str(await looking.ask("a.test")) == "nameserver_unreachable:_111"
    nursery.cancel_scope.cancel()


async def test_names_and_look_ups_are_bounded(looking, zone, monkeypatch):
    monkeypatch.setattr(resolving, "KEPT", 4)
    for number in range(10):
        zone.records[(f"n{number}.test", "A")] = ["192.0.2.1"]
        await looking.ask(f"n{number}.test")
    assert len(looking.resolver._known) == 4
    monkeypatch.setattr(resolving, "AT_ONCE", 1)
    zone.hold = trio.Event()
    assert isinstance(await looking.ask("a.test", within=0.05), DeadlineExceeded)
    assert str(await looking.ask("b.test")) == "too_many_look-ups"
    zone.hold.set()


class Scripted:
    """A nameserver whose datagrams are forged, then truncated; the truth is to be had by TCP."""

    def __init__(self):
        self.over_tcp = 0

    async def serve(self, task_status=trio.TASK_STATUS_IGNORED):
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = listener.socket.getsockname()
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as udp:
            await udp.bind(address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._stream, [listener])
                task_status.started(address)
                while True:
                    data, client = await udp.recvfrom(4096)
                    for reply in self._datagrams(dns.message.from_wire(data)):
                        await udp.sendto(reply, client)

    def _datagrams(self, query):
        forged = answered(query, "198.51.100.66")
        forged.id ^= 1
        yield forged.to_wire()
        other = answered(dns.message.make_query("other.test", "A", id=query.id), "198.51.100.66")
        yield other.to_wire()
        yield b"\0"
        truncated = dns.message.make_response(query)
        truncated.flags |= dns.flags.TC
        yield truncated.to_wire()

    async def _stream(self, stream):
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            data += await stream.receive_some()
        self.over_tcp += 1
        wire = answered(dns.message.from_wire(data[2:]), "192.0.2.53").to_wire()
        for byte in len(wire).to_bytes(2, "big") + wire:
            await stream.send_all(bytes([byte]))


def answered(query, address):
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 30, "IN", "CNAME", "real.test."))
    response.answer.append(dns.rrset.from_text("real.test.", 30, "IN", "A", address))
    return response


async def test_forged_answers_are_passed_over_and_truncated_ones_asked_for_by_tcp(nursery):
    server = Scripted()
    looking = Looking(await nursery.start(server.serve))
    await nursery.start(looking.reactor.run)
    assert await looking.ask("a.test") == ("192.0.2.53",)
    assert server.over_tcp == 1
    nursery.cancel_scope.cancel()


def test_nameservers_of_the_system():
    text = (
        "# local\nsearch a.test\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver x\nnameserver\n"
    )
    assert nameservers(text + "nameserver 192.0.2.3\nnameserver 192.0.2.4\n") == (
        ("192.0.2.1", 53),
        ("2001:db8::1", 53),
        ("192.0.2.3", 53),
    )
    assert nameservers("") == ()


def test_the_systems_file_is_read_again_when_it_changes(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    now = [0.0]
    reactor = Reactor(lambda: now[0])
    made = Resolver(reactor, system=str(file))
    assert made._known_servers() == (("192.0.2.1", 53),)
    file.write_text("nameserver 192.0.2.22\n")
    assert made._known_servers() == (("192.0.2.1", 53),)
    reactor.now = 10.0
    assert made._known_servers() == (("192.0.2.22", 53),)
    file.unlink()
    reactor.now = 20.0
    assert made._known_servers() == (("192.0.2.22", 53),)
    assert Resolver(reactor, system=str(file))._known_servers() == (("127.0.0.1", 53),)
    reactor.close()
