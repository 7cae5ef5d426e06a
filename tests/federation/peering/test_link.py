"""Links and server joined: real TLS over memory streams, on a clock that jumps."""

import certs
import pytest
import trio
from gateways import Net, Site
from sessions import service

from discovery.source import SourceLost
from discovery.update import Remove, Reset, Upsert
from federation.peering.status import LinkState
from gateway.engine import Confirmed
from gateway.verdicts import AddressState

GW = "192.0.2.7"
KEY = f"{GW}:15443"


class Pair:
    """East imports from west, whose gateway is at GW."""

    def __init__(self, net, east=None, west=None, **terms):
        self.net, self.east, self.west = net, east or Site("east"), west or Site("west")
        net.sites[GW] = self.west
        self.west.knows(self.east)
        self.link = net.link(self.east, self.west.terms(*terms.pop("addresses", [KEY]), **terms))

    async def state(self, state, key=KEY):
        """Wait until an address is in that state."""
        return await self.status(lambda s: any(a.address == key and a.state is state for a in s.addresses))

    async def status(self, condition):
        seen = -1
        while True:
            seen, status = await self.link.status.newer_than(seen)
            if condition(status):
                return status

    async def reach(self, wanted):
        seen = -1
        while True:
            seen, states = await self.link.addresses.newer_than(seen)
            if states == wanted:
                return trio.current_time()


@pytest.fixture
def join(nursery):
    async def begin(**options):
        pair = Pair(Net(nursery), **options)
        await nursery.start(pair.link.run)
        return pair

    return begin


async def test_learns_what_is_offered_and_follows_changes(autojump_clock, join):
    pair = await join()
    pair.west.offers.set((service("a", 2, 3), service("b")))
    async with pair.link.watch() as updates:
        first = await updates.receive()
        assert isinstance(first, Reset)
        assert [each.hostname for each in first.services] == ["a", "b"]
        [endpoint] = first.services[0].endpoints
        assert (endpoint.address, endpoint.port("http"), endpoint.peer) == (GW, 15443, "west")
        assert (endpoint.healthy, endpoint.total, str(endpoint.locality)) == (2, 3, "r2/z2")
        pair.west.offers.set((service("a", 0, 3), service("c")))
        changes = [await updates.receive() for _ in range(3)]
        assert Remove("b") in changes
        assert {each.service.hostname for each in changes if isinstance(each, Upsert)} == {"a", "c"}
    status = await pair.status(lambda s: s.imported == 2)
    assert (status.state, status.cluster, status.error) == (LinkState.CONNECTED, "west", "")
    assert pair.west.server.status.value["east"].sessions == 1
    assert pair.west.server.status.value["east"].offered == 2


@pytest.mark.slow
async def test_stays_connected(autojump_clock, join):
    pair = await join()
    pair.west.offers.set((service("a"),))
    await pair.state(LinkState.CONNECTED)
    with trio.move_on_after(120):
        await pair.state(LinkState.LOST)
        pytest.fail("the session was lost")
    assert len(pair.net.dials) == 1


async def test_a_cut_cable_is_suspected_within_a_second_and_heals(autojump_clock, join):
    pair = await join()
    pair.west.offers.set((service("a"),))
    await pair.state(LinkState.CONNECTED)
    await trio.sleep(10)
    pair.net.wires[GW].cut = True
    cut = trio.current_time()
    assert await pair.reach({KEY: AddressState.SUSPECT}) - cut <= 1.0
    status = await pair.state(LinkState.LOST)
    assert "no answer to 3 keepalives" in status.error
    assert status.imported == 1  # what was learned stands
    await trio.sleep(30)
    pair.net.wires[GW].cut = False
    await pair.state(LinkState.CONNECTED)
    assert pair.link.addresses.value == {}


async def test_a_lost_peer_is_a_lost_source_and_after_a_reconnect_a_reset_comes_first(autojump_clock, join):
    pair = await join()
    pair.west.offers.set((service("a"),))
    with pytest.RaisesGroup(SourceLost, flatten_subgroups=True, allow_unwrapped=True):
        async with pair.link.watch() as updates:
            assert isinstance(await updates.receive(), Reset)
            await pair.net.stop(GW)
            async for update in updates:
                pytest.fail(f"{update} came of nobody")
    async with pair.link.watch() as updates:
        with trio.move_on_after(60):
            pytest.fail(f"{await updates.receive()} came of nobody")
        pair.west.offers.set((service("b"),))
        pair.net.down.clear()
        again = await updates.receive()
        assert isinstance(again, Reset)
        assert [each.hostname for each in again.services] == ["b"]


async def test_a_lost_peer_whose_name_moves_is_not_up_again_where_it_was(autojump_clock, join):
    """The catalog goes on with the old address, and what is not named among the addresses is up."""
    pair = await join(addresses=["west.example.com:15443"])
    pair.net.names["west.example.com"] = [GW]
    pair.west.offers.set((service("a"),))
    await pair.state(LinkState.CONNECTED)
    await pair.net.stop(GW)
    await pair.reach({KEY: AddressState.SUSPECT})
    other, there = "192.0.2.8", "192.0.2.8:15443"
    pair.net.sites[other] = pair.west
    pair.net.down.add(other)
    pair.net.names["west.example.com"] = [other]
    await pair.status(lambda s: [a.address for a in s.addresses] == [there])
    assert pair.link.addresses.value[KEY] is AddressState.SUSPECT
    pair.link.confirmed(Confirmed(KEY, alive=False, took_ms=1))
    assert pair.link.addresses.value[KEY] is AddressState.DOWN
    pair.net.down.clear()
    pair.net.down.add(GW)
    await pair.state(LinkState.CONNECTED, there)
    assert pair.link.addresses.value == {}


@pytest.mark.slow
async def test_a_gateway_that_comes_back_is_found_within_a_second_however_long_it_was_away(autojump_clock, join):
    pair = await join()
    pair.west.offers.set((service("a"),))
    await pair.state(LinkState.CONNECTED)
    await pair.net.stop(GW)
    await trio.sleep(300)
    assert 300 / len(pair.net.dials) > 0.5
    pair.net.down.clear()
    back = trio.current_time()
    await pair.state(LinkState.CONNECTED)
    assert trio.current_time() - back <= 1.0


async def test_workers_say_whether_a_suspect_is_alive(autojump_clock, join):
    pair = await join()
    pair.west.offers.set((service("a"),))
    await pair.state(LinkState.CONNECTED)
    pair.link.confirmed(Confirmed(KEY, alive=False, took_ms=1))  # late news about a session that is there
    assert pair.link.addresses.value == {}
    await pair.net.stop(GW)
    await pair.reach({KEY: AddressState.SUSPECT})
    pair.link.confirmed(Confirmed("203.0.113.9:15443", alive=False, took_ms=1))
    assert pair.link.addresses.value == {KEY: AddressState.SUSPECT}
    pair.link.confirmed(Confirmed(KEY, alive=False, took_ms=1))
    assert pair.link.addresses.value == {KEY: AddressState.DOWN}
    await trio.sleep(60)
    assert pair.link.addresses.value == {KEY: AddressState.DOWN}  # refused dials do not bring it back
    pair.net.down.clear()
    await pair.reach({})


async def test_alive_keeps_the_last_counts_while_control_is_away(autojump_clock, join):
    pair = await join()
    pair.west.offers.set((service("a", 2, 3),))
    await pair.state(LinkState.CONNECTED)
    await pair.net.stop(GW)
    await pair.reach({KEY: AddressState.SUSPECT})
    pair.link.confirmed(Confirmed(KEY, alive=True, took_ms=1))
    assert pair.link.addresses.value == {}
    assert (await pair.state(LinkState.LOST)).imported == 1


async def test_several_addresses_are_one_shard_and_not_summed(autojump_clock, nursery):
    net = Net(nursery)
    second = "192.0.2.8"
    pair = Pair(net, addresses=["west.example.com:15443"])
    net.sites[second] = Site("west", root=pair.west.authority)
    net.sites[second].knows(pair.east)
    for site in (pair.west, net.sites[second]):
        site.offers.set((service("a", 2, 3),))
    net.names["west.example.com"] = [GW, second]
    await nursery.start(pair.link.run)
    await pair.state(LinkState.CONNECTED)
    await pair.state(LinkState.CONNECTED, f"{second}:15443")
    async with pair.link.watch() as updates:
        [found] = (await updates.receive()).services
        assert [(e.address, e.healthy, e.total) for e in found.endpoints] == [(GW, 2, 3), (second, 2, 3)]
        await net.stop(GW)
        net.sites[second].offers.set((service("a", 1, 3),))
        while True:  # the second one is believed now
            update = await updates.receive()
            services = update.services if isinstance(update, Reset) else (update.service,)
            if {e.healthy for e in services[0].endpoints} == {1}:
                break
    status = await pair.state(LinkState.LOST)
    assert status.state is LinkState.CONNECTED  # a peer is as well as its best address
    net.names["west.example.com"] = [second]
    await pair.status(lambda s: [a.address for a in s.addresses] == [f"{second}:15443"])
    assert pair.link.addresses.value == {}


async def test_a_name_that_cannot_be_looked_up(autojump_clock, join):
    pair = await join(addresses=["west.example.com:15443"])
    status = await pair.status(lambda s: s.error)
    assert "west.example.com: cannot be looked up: no such name" in status.error
    pair.net.names["west.example.com"] = [GW]
    await pair.state(LinkState.CONNECTED)


async def test_unreachable_is_a_sentence(autojump_clock, nursery):
    net = Net(nursery)
    net.down.add(GW)
    pair = Pair(net)
    await nursery.start(pair.link.run)
    status = await pair.state(LinkState.FAILING)
    assert status.error == "cannot connect: Connection refused"


async def failing(join, **options):
    pair = await join(**options)
    return (await pair.state(LinkState.FAILING)).error


async def test_a_wrong_ca(autojump_clock, join):
    error = await failing(join, bundle=certs.spiffe("other.example.com").bundle)
    assert "the peer's certificate does not verify" in error
    assert "fedgate ca bundle" in error


async def test_an_expired_certificate_over_there(autojump_clock, join):
    authority = certs.spiffe("west.example.com")
    west = Site("west", root=authority, leaf=authority.expired(certs.gateway_id("west.example.com")))
    error = await failing(join, west=west)
    assert "certificate has expired" in error
    assert "renew" in error


async def test_an_expired_certificate_here(autojump_clock, join):
    authority = certs.spiffe("east.example.com")
    east = Site("east", root=authority, leaf=authority.expired(certs.gateway_id("east.example.com")))
    error = await failing(join, east=east)
    assert "the peer refused our certificate" in error
    assert "expired" in error


async def test_a_peer_that_does_not_know_us(autojump_clock, nursery):
    net = Net(nursery)
    pair = Pair(net)
    pair.west.knows(Site("north"))
    await nursery.start(pair.link.run)
    assert "the peer refused our certificate" in (await pair.state(LinkState.FAILING)).error


async def test_another_identity_of_the_peers_trust_domain_is_no_gateway(autojump_clock, join):
    authority = certs.spiffe("west.example.com")
    west = Site("west", root=authority, leaf=authority.leaf("spiffe://west.example.com/ns/shop/sa/web"))
    error = await failing(join, west=west)
    assert "did not prove to be spiffe://west.example.com/ns/fedgate/sa/gateway" in error


async def test_a_workload_of_ours_cannot_open_a_session(autojump_clock, join):
    authority = certs.spiffe("east.example.com")
    east = Site("east", root=authority, leaf=authority.leaf("spiffe://east.example.com/ns/shop/sa/web"))
    pair = await join(east=east)
    await pair.state(LinkState.FAILING)
    assert pair.west.server.status.value == {}


async def test_pooled_roots_one_peers_ca_cannot_sign_anothers_identity(autojump_clock, nursery):
    """North's CA signs a leaf that says it is east's gateway. West trusts both CAs, each for its own trust domain."""
    net, north = Net(nursery), Site("north")
    forged = certs.gateway_leaf(north.authority, "east.example.com")
    pair = Pair(net, east=Site("east", leaf=forged))
    pair.west.peers.set({"east": Site("east").terms(), "north": north.terms()})
    pair.west.offers.set((service("a"),))
    await nursery.start(pair.link.run)
    await pair.state(LinkState.FAILING)
    assert pair.west.server.status.value == {}
    assert pair.link.status.value.imported == 0


async def test_waits_for_our_certificate_and_uses_new_ones_without_a_break(autojump_clock, nursery):
    net = Net(nursery)
    pair = Pair(net)
    credential = pair.east.credential.value
    pair.east.credential.set(None)
    await nursery.start(pair.link.run)
    assert "no certificate yet" in (await pair.state(LinkState.FAILING)).error
    pair.east.credential.set(credential)
    await pair.state(LinkState.CONNECTED)
    dials = len(net.dials)
    pair.east.credential.set(None)
    pair.west.credential.set(None)
    await trio.sleep(60)
    assert len(net.dials) == dials
    assert pair.link.status.value.state is LinkState.CONNECTED


async def test_a_peer_that_is_taken_out_here_is_told_so(autojump_clock, join):
    pair = await join()
    await pair.state(LinkState.CONNECTED)
    pair.west.peers.set({})
    status = await pair.state(LinkState.LOST)
    assert "Peer document east was removed here" in status.error
    assert pair.west.server.status.value["east"].sessions == 0


async def test_claims_that_are_not_allowed_are_findings(autojump_clock, join):
    pair = await join(imports=("*.shop",))
    pair.west.offers.set((service("a.shop"), service("bank.example.com")))
    status = await pair.status(lambda s: s.imported == 1)
    [finding] = status.findings
    assert finding.subject == "bank.example.com"
    assert "spec.imports of Peer west" in finding.message


async def test_a_failure_is_logged_once_per_change(autojump_clock, nursery, monkeypatch):
    import structlog

    net = Net(nursery)
    net.down.add(GW)
    pair = Pair(net)
    with structlog.testing.capture_logs() as logs:
        await nursery.start(pair.link.run)
        await trio.sleep(300)
        assert [entry["event"] for entry in logs] == ["peer.failing"]
        net.down.clear()
        await pair.state(LinkState.CONNECTED)
        await net.stop(GW)
        await trio.sleep(300)
    assert [entry["event"] for entry in logs if entry["event"].startswith("peer.")][:3] == [
        "peer.failing",
        "peer.connected",
        "peer.lost",
    ]
    assert len(logs) <= 7


async def test_what_is_not_a_peering_session(autojump_clock, nursery):
    """Bytes that are no TLS, and a connection that says nothing: closed, and the next one is served."""
    west = Site("west")
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x02\x01\x00"):
        ours, theirs = trio.testing.memory_stream_pair()
        await west.server.serve(theirs, first)
        assert await ours.receive_some() == b""


async def test_cancelled_everything_is_closed(autojump_clock, nursery):
    net = Net(nursery)
    pair = Pair(net)
    pair.west.offers.set((service("a"),))
    async with trio.open_nursery() as inner:
        await inner.start(pair.link.run)
        await pair.state(LinkState.CONNECTED)
        inner.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert pair.west.server.status.value["east"].sessions == 0
