"""The dns source against a real nameserver on 127.0.0.1."""

import dns.rcode
import msgspec
import pytest
import trio
import trio.testing
from conformance import check_source
from zone import Zone

from discovery.model import Endpoint, Resolution, Service
from discovery.resolving import DnsService, DnsTarget, Nameservers, Question, of_host
from discovery.source import SourceLost
from discovery.sources.dns import DnsSource
from discovery.update import Remove, Reset, Upsert
from discovery.watch import Watchable


async def source_of(nursery, zone, *services, timeout=2.0, kinds=("A", "AAAA")):
    port = await nursery.start(zone.serve)
    nameservers = Nameservers(("127.0.0.1",), port, timeout)
    wanted = Watchable(tuple(services))
    return DnsSource("legacy", "east", wanted, Watchable(nameservers), kinds=kinds), wanted


def addresses(service):
    return [endpoint.address for endpoint in service.endpoints]


ZONE = {("a.test", "A"): ["10.0.0.2", "10.0.0.1"], ("a.test", "AAAA"): ["fd00::1"], ("b.test", "A"): ["10.0.0.3"]}


async def test_it_conforms(nursery):
    source, wanted = await source_of(nursery, Zone(ZONE), of_host("a.test"), of_host("gone.test"))

    async def change():
        wanted.set((of_host("a.test"), of_host("b.test")))

    found = await check_source(source, change=change)
    assert {name: addresses(service) for name, service in found.items()} == {
        "a.test": ["10.0.0.1", "10.0.0.2", "fd00::1"],
        "b.test": ["10.0.0.3"],
    }
    nursery.cancel_scope.cancel()


async def test_srv_is_followed_to_its_addresses(nursery):
    zone = Zone({("_x._tcp.test", "SRV"): ["1 10 8001 a.test.", "2 0 8002 b.test."], **ZONE})
    source, _ = await source_of(nursery, zone, of_host("x.corp", srv="_x._tcp.test"), kinds=("A",))
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
    assert [(endpoint.address, endpoint.port("http"), endpoint.weight) for endpoint in service.endpoints] == [
        ("10.0.0.1", 8001, 10),
        ("10.0.0.2", 8001, 10),
        ("10.0.0.3", 8002, 1),
    ]
    nursery.cancel_scope.cancel()


async def test_names_wanted_later_are_said_when_resolved_and_unwanted_ones_are_removed(nursery):
    zone = Zone(ZONE)
    source, wanted = await source_of(nursery, zone, of_host("a.test"))
    async with source.watch() as updates:
        await updates.receive()
        wanted.set((of_host("b.test"),))
        said = [await updates.receive() for _ in range(2)]
        assert Remove("a.test") in said
        (upsert,) = [update for update in said if isinstance(update, Upsert)]
        assert addresses(upsert.service) == ["10.0.0.3"]
        assert set(source.answers()) == {Question("b.test", "A"), Question("b.test", "AAAA")}
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_one_at_a_time_follows_the_address_that_the_nameserver_puts_first(nursery):
    zone = Zone({("a.test", "A"): ["10.0.0.2", "10.0.0.1"]}, ttl=1)
    service = of_host("a.test")
    logical = msgspec.structs.replace(
        service, service=msgspec.structs.replace(service.service, resolution=Resolution.DNS_ROUND_ROBIN)
    )
    source, _ = await source_of(nursery, zone, logical, kinds=("A",))
    async with source.watch() as updates:
        assert addresses((await updates.receive()).services[0]) == ["10.0.0.2"]
        zone.records[("a.test", "A")] = ["10.0.0.1", "10.0.0.2"]
        assert addresses((await updates.receive()).service) == ["10.0.0.1"]
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_answers_are_asked_again_when_their_ttl_is_over_and_an_empty_one_removes(nursery):
    zone = Zone(dict(ZONE), ttl=0)
    source, _ = await source_of(nursery, zone, of_host("a.test"), kinds=("A",))
    with trio.fail_after(10):
        async with source.watch() as updates:
            assert addresses((await updates.receive()).services[0]) == ["10.0.0.1", "10.0.0.2"]
            zone.records["a.test", "A"] = ["10.0.0.9"]
            assert addresses((await updates.receive()).service) == ["10.0.0.9"]
            zone.records["a.test", "A"] = []
            assert addresses((await updates.receive()).service) == []
    nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("failure", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, None])
async def test_a_failure_keeps_the_last_good_answer_also_over_a_restart(nursery, failure):
    zone = Zone(dict(ZONE), ttl=0)
    source, _ = await source_of(nursery, zone, of_host("a.test"), of_host("b.test"), kinds=("A",), timeout=0.3)
    with trio.fail_after(10):
        async with source.watch() as updates:
            await updates.receive()
            zone.broken["a.test"] = failure
            zone.records["b.test", "A"] = ["10.0.0.4"]
            said = await updates.receive()
            assert addresses(said.service) == ["10.0.0.4"]
        async with source.watch() as updates:
            services = {service.hostname: addresses(service) for service in (await updates.receive()).services}
    assert services == {"a.test": ["10.0.0.1", "10.0.0.2"], "b.test": ["10.0.0.4"]}
    assert source.answers()[Question("a.test", "A")].error
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_nobody_answering_is_a_lost_source_and_never_an_empty_reset(nursery):
    zone = Zone(ZONE)
    zone.broken = {"a.test": None, "b.test": dns.rcode.SERVFAIL}
    source, wanted = await source_of(nursery, zone, of_host("a.test"), of_host("b.test"), timeout=0.2)

    async def first():
        async with source.watch() as updates:
            async for update in updates:
                return update

    with pytest.RaisesGroup(pytest.RaisesExc(SourceLost, match=r"127\.0\.0\.1 answered none of 4 DNS questions")):
        await first()
    wanted.set((of_host("a.test"), of_host("gone.test")))
    assert [addresses(service) for service in (await first()).services] == [[], []]
    wanted.set(())
    assert await first() == Reset(())
    nursery.cancel_scope.cancel()


async def test_questions_at_once_are_bounded(nursery):
    zone = Zone({})
    zone.hold = trio.Event()
    names = tuple(DnsTarget(f"n{number}.test") for number in range(100))
    source, _ = await source_of(nursery, zone, DnsService(Service("x"), names), kinds=("A",))

    async def release():
        await zone.wait(lambda: zone.waiting >= 32)
        await trio.testing.wait_all_tasks_blocked()
        zone.hold.set()

    nursery.start_soon(release)
    async with source.watch() as updates:
        assert await updates.receive() == Reset((Service("x"),))
    assert len(zone.asked) == 100
    assert zone.most_waiting == 32
    nursery.cancel_scope.cancel()


async def test_other_nameservers_are_asked_everything_at_once(nursery):
    """Also of what they say again no sooner than in a minute, and of what the last ones did not answer."""
    source, _ = await source_of(nursery, Zone(ZONE), of_host("a.test"), of_host("c.test"), kinds=("A",))
    other = Zone({("a.test", "A"): ["10.0.0.9"], ("c.test", "A"): ["10.0.0.8"]})
    port = await nursery.start(other.serve)
    async with source.watch() as updates:
        first = (await updates.receive()).services
        assert {each.hostname: addresses(each) for each in first} == {"a.test": ["10.0.0.1", "10.0.0.2"], "c.test": []}
        source._nameservers.set(Nameservers(("127.0.0.1",), port, 2.0))
        with trio.fail_after(5):
            changed = [(await updates.receive()).service for _ in range(2)]
    assert {each.hostname: addresses(each) for each in changed} == {"a.test": ["10.0.0.9"], "c.test": ["10.0.0.8"]}
    assert source._resolver_of is source._nameservers.value
    nursery.cancel_scope.cancel()


async def test_literals_need_no_nameserver():
    service = DnsService(Service("x"), (DnsTarget("192.0.2.1", endpoint=Endpoint("", (("http", 80),))),))
    source = DnsSource("legacy", "east", Watchable((service,)))
    async with source.watch() as updates:
        assert await updates.receive() == Reset((Service("x", endpoints=(Endpoint("192.0.2.1", (("http", 80),)),)),))
    assert repr(source) == "<DnsSource east/legacy services=1 questions=0>"
