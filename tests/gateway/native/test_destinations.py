"""The choice of filter chains by where a connection came to: as a function, and with a running engine on every address."""

import ipaddress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from native_engine import NAME, Workload, backend, endpoint, forward, host, read_all, running

from gateway.native.destinations import Destinations
from gateway.native.greeting import Door
from gateway.native.tls import Contexts
from gateway.snapshot import EndpointSet, FilterChain, Listener, ListenerKind, TcpRoute, TcpSplit

OTHER = "outbound|80||b.test"
ADDRESSES = st.ip_addresses(v=4, network="10.0.0.0/22")
NETWORKS = st.tuples(ADDRESSES, st.integers(20, 32)).map(lambda pair: str(ipaddress.ip_network(pair, strict=False)))


def to(name, *destinations, **more):
    return FilterChain(name, destinations=destinations, **more)


def names(chains, address):
    return [chain.name for chain in Destinations(chains).find(address)]


def test_the_narrowest_network_wins_and_the_rest_is_for_all_others():
    chains = [to("rest"), to("range", "240.240.0.0/16", "2001:2::/48"), to("one", "240.240.0.7/32"), to("six", "2001:2::7")]
    assert names(chains, "240.240.0.7") == ["one"]
    assert names(chains, "240.240.0.8") == ["range"]
    assert names(chains, "240.241.0.7") == ["rest"]
    assert names(chains, "2001:2::7") == ["six"]
    assert names(chains, "2001:2::8") == ["range"]
    assert names(chains, "2001:3::8%eth0") == ["rest"]
    assert names(chains[1:], "10.0.0.1") == []


def test_chains_of_one_network_are_one_group():
    chains = [to("a", "10.0.0.1", server_names=("a",)), to("b", "10.0.0.0/8"), to("c", "10.0.0.1/32", "10.0.0.2")]
    assert names(chains, "10.0.0.1") == ["a", "c"]
    assert names(chains, "10.0.0.2") == ["c"]


def test_what_is_no_network_is_a_fault_and_the_others_stand():
    found = Destinations([to("a", "10.0.0.1", "here"), to("b", "10.0.0.0/33")])
    assert [fault.partition(":")[0] for fault in found.faults] == ["chain a is not for 'here'", "chain b is not for '10.0.0.0/33'"]
    assert [chain.name for chain in found.find("10.0.0.1")] == ["a"]


@given(st.lists(NETWORKS, max_size=8, unique=True), ADDRESSES)
def test_as_looking_at_every_network_would_find(networks, address):
    holding = [ipaddress.ip_network(text) for text in networks if address in ipaddress.ip_network(text)]
    best = [str(max(holding, key=lambda network: network.prefixlen))] if holding else ["rest"]
    assert names([to("rest"), *(to(text, text) for text in networks)], str(address)) == best


def test_what_was_made_of_a_listener_is_used_again_while_it_is_the_same():
    listener = Listener("0.0.0.0", 80, ListenerKind.MESH, (to("one", "10.0.0.1", tcp=(TcpRoute("r", (TcpSplit(NAME),)),)),))
    first = Door(listener, Contexts(), {})
    second = Door(listener, Contexts(), {}, before=first)
    assert second.places.destinations is first.places.destinations
    assert second.at("10.0.0.1") is second.at("10.0.0.1")
    assert second.at("10.0.0.1") is not first.at("10.0.0.1")
    assert second.at("10.0.0.2") is None
    plain = Door(Listener("0.0.0.0", 80, ListenerKind.MESH, (FilterChain("http", "t"),)), Contexts(), {})
    assert plain.places is None
    assert plain.at("10.0.0.2") is plain


def test_what_of_them_does_not_load_is_said():
    bad = to("one", "10.0.0.1", "there", tcp=(TcpRoute("r", (TcpSplit(NAME),), ("not a subnet",)),))
    door = Door(Listener("0.0.0.0", 80, ListenerKind.MESH, (bad,)), Contexts(), {})
    assert len(door.faults) == 2
    assert "chain one is not for 'there'" in door.faults[0]
    assert "chain one is closed" in door.faults[1]


def test_only_where_names_choose_the_client_hello_is_read():
    target = (TcpRoute("r", (TcpSplit(NAME),)),)
    named = to("named", "10.0.0.1", server_names=("db.test",), passthrough=True, tcp=target)
    rest, plain = to("rest", "10.0.0.1", passthrough=True, tcp=target), to("plain", "10.0.0.2", tcp=target)
    door = Door(Listener("0.0.0.0", 443, ListenerKind.MESH, (named, rest, plain)), Contexts(), {})
    assert (door.at("10.0.0.1").greets, door.at("10.0.0.2").greets, door.greets) == (True, False, False)
    assert door.at("10.0.0.1").listener is door.listener


def test_a_unix_socket_has_no_addresses():
    listener = Listener("@name", 80, ListenerKind.GATEWAY, (to("one", "10.0.0.1"), FilterChain("http", "t")))
    assert Door(listener, Contexts(), {}).places is None


def two(a, b):
    return (backend(), EndpointSet(NAME, (endpoint(a.port),)), backend(OTHER), EndpointSet(OTHER, (endpoint(b.port),)))


async def ask(address, port, text, size=1 << 24):
    stream = await trio.open_tcp_stream(address, port)
    async with stream:
        await stream.send_all(text)
        return await read_all(stream, size)


def echo(word):
    return Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + word)


async def test_tcp_by_address_and_port():
    a, b = echo(b"a"), echo(b"b")
    chains = tuple(
        to(address, address, tcp=(TcpRoute("r", (TcpSplit(name),)),))
        for address, name in (("127.26.0.1", NAME), ("127.26.0.2", OTHER))
    )
    async with running(*two(a, b), workloads=[a, b], chain=chains, address="0.0.0.0") as gateway:
        request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        assert (await ask("127.26.0.1", gateway.port, request, 39)).endswith(b"\n\r\na")
        assert (await ask("127.26.0.2", gateway.port, request, 39)).endswith(b"\n\r\nb")
        assert await ask("127.26.0.3", gateway.port, b"") == b""
        assert dict(gateway.engine.statistics().refused)["unknown-address"] == 1


@pytest.mark.parametrize("first", ["HTTP/1.1", "HTTP/1.0"])
async def test_http_by_address_whatever_host_says(first):
    a, b = echo(b"a"), echo(b"b")

    def chains(port):
        return (to("vip.http", "127.26.0.0/24", table="t"),)

    async def get(gateway, address, name):
        return await ask(address, gateway.port, f"GET / {first}\r\nhost: {name}\r\nconnection: close\r\n\r\n".encode())

    parts = two(a, b)
    async with running(*parts, host(forward()), workloads=[a, b], chain=chains, address="0.0.0.0") as gateway:
        hosts = (
            host(forward(), name="a", domains=("a.test", f"127.26.0.1:{gateway.port}")),
            host(forward(OTHER), name="b", domains=("b.test", f"127.26.0.2:{gateway.port}")),
        )
        gateway.snapshots.set(gateway.snapshot(*parts, *hosts))
        with trio.fail_after(5):
            while not (await get(gateway, "127.26.0.2", "a.test")).endswith(b"b"):
                pass
        assert (await get(gateway, "127.26.0.1", "b.test")).endswith(b"a")
        assert (await get(gateway, "127.26.0.1", "elsewhere.test")).endswith(b"a")
        assert (await get(gateway, "127.26.0.9", "b.test")).endswith(b"b")  # an address that is no service's: Host tells
        assert b" 404 " in await get(gateway, "127.26.0.9", "elsewhere.test")
        assert await ask("127.0.0.1", gateway.port, b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n") == b""  # nobody's chain
