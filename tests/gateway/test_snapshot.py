"""Parts, versions and deltas of gateway/snapshot.py."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.faults import validate
from gateway.snapshot import (
    Backend,
    Delta,
    DirectResponse,
    EndpointSet,
    FilterChain,
    Forward,
    Inbound,
    LbEndpoint,
    Listener,
    ListenerKind,
    Mirror,
    Node,
    Part,
    Route,
    RouteMatch,
    Snapshot,
    Split,
    TcpRoute,
    TcpSplit,
    VirtualHost,
    part_name,
)

names = st.sampled_from(["a", "b", "c", "d"])
backends = st.builds(Backend, name=names, host=names, port=st.integers(1, 3))
endpoint_sets = st.builds(
    EndpointSet,
    backend=names,
    endpoints=st.lists(st.sampled_from(["10.0.0.1:80", "10.0.0.2:80"]), unique=True).map(
        lambda keys: tuple(LbEndpoint(id=key, address=key[:-3], port=80) for key in keys)
    ),
)
some_parts = st.one_of(st.builds(Node, name=names, cluster=names), backends, endpoint_sets)
changes = st.lists(st.tuples(st.lists(some_parts, max_size=3), st.lists(names.map("backend/{}".format), max_size=2)), max_size=6)


@given(changes)
def test_a_chain_of_deltas_ends_in_the_version_of_the_whole(steps: list[tuple[list[Part], list[str]]]) -> None:
    control = worker = Snapshot()
    for update, remove in steps:
        after = control.changed(update, remove)
        delta = msgspec.msgpack.decode(msgspec.msgpack.encode(after.delta_from(control)), type=Delta)
        worker = worker.apply(delta)
        control = after
    whole = Snapshot(control.parts)
    assert whole.version == control.version == worker.version
    assert Snapshot().apply(control.delta_from(None)).json() == whole.json()


def test_an_unchanged_part_stays_the_same_object() -> None:
    old = Snapshot.of([Backend(name="a", host="a", port=80), Backend(name="b", host="b", port=80)])
    new = old.changed([Backend(name="a", host="a", port=80), Backend(name="b", host="b", port=81)])
    assert new.parts["backend/a"] is old.parts["backend/a"]
    assert new.delta_from(old).set == (Backend(name="b", host="b", port=81),)


def test_order_of_parts_does_not_matter() -> None:
    a, b = Backend(name="a", host="a", port=80), Node(name="n", cluster="c")
    assert Snapshot.of([a, b]) == Snapshot.of([b, a])
    assert Snapshot.of([a, b]).json() == Snapshot.of([b, a]).json()


def test_a_delta_from_another_version_is_refused() -> None:
    one, two = Snapshot.of([Node(name="n", cluster="c")]), Snapshot.of([Node(name="m", cluster="c")])
    delta = two.delta_from(one)
    with pytest.raises(ValueError, match="is running"):
        two.apply(delta)


def test_a_delta_that_does_not_give_what_it_promised_is_refused() -> None:
    one = Snapshot.of([Node(name="n", cluster="c")])
    delta = msgspec.structs.replace(one.changed([Node(name="m", cluster="c")]).delta_from(one), set=())
    with pytest.raises(ValueError, match="promised"):
        one.apply(delta)


def test_two_parts_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="backend/a"):
        Snapshot.of([Backend(name="a", host="a", port=80), Backend(name="a", host="b", port=80)])


GOOD: list[Part] = [
    Node(name="n", cluster="c"),
    Listener(address="127.0.0.1", port=80, kind=ListenerKind.MESH, chains=(FilterChain(name="x", table="t"),)),
    VirtualHost(
        table="t",
        name="v",
        domains=("*",),
        routes=(Route(name="r", match=RouteMatch(), action=Forward(splits=(Split(backend="a"),))),),
    ),
    Backend(name="a", host="a", port=80),
    EndpointSet(backend="a", endpoints=(LbEndpoint(id="1", address="10.0.0.1", port=80),)),
    Inbound(sni="s", backend="a", trust_domains=(), identities=()),
]


def test_a_good_snapshot_has_no_faults() -> None:
    assert validate(Snapshot.of(GOOD)) == []


def relaying(*splits: TcpSplit) -> Listener:
    return Listener("0.0.0.0", 9, ListenerKind.GATEWAY, (FilterChain("c", tcp=(TcpRoute("r", splits),)),))


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (
            Listener(address="127.0.0.1", port=80, kind=ListenerKind.MESH, chains=(FilterChain(name="x", table="nope"),)),
            "no virtual host",
        ),
        (Listener(address="127.0.0.1", port=0, kind=ListenerKind.MESH), "port 0"),
        (Inbound(sni="s", backend="nope", trust_domains=(), identities=()), "does not exist"),
        (
            VirtualHost(table="t", name="v", domains=("*",), routes=(Route("r", RouteMatch(), Forward(splits=(Split("nope"),))),)),
            "does not exist",
        ),
        (
            VirtualHost(table="t", name="v", domains=("*",), routes=(Route("r", RouteMatch(), Forward(splits=(Split("a", 0),))),)),
            "sum to 0",
        ),
        (
            VirtualHost("t", "h", ("*",), (Route("r", RouteMatch(), Forward((Split("a"),), mirrors=(Mirror("nope"),))),)),
            "backend 'nope' does not exist",
        ),
        (relaying(TcpSplit("nope")), "chain c relays to backend 'nope', which does not exist"),
        (relaying(TcpSplit("a", 0)), "weights of route 'r' of chain c sum to 0"),
        (EndpointSet(backend="nope", endpoints=()), "does not exist"),
        (EndpointSet(backend="a", endpoints=(LbEndpoint("1", "a", 1), LbEndpoint("1", "b", 1))), "one id"),
        (Backend(name="a", host="a", port=80, overprovisioning=99), "under 100"),
    ],
)
def test_each_fault_is_named(bad: Part, fault: str) -> None:
    faults = validate(Snapshot.of(GOOD).changed([bad]))
    assert len(faults) == 1
    assert faults[0].startswith(part_name(bad))
    assert fault in faults[0]


def test_a_snapshot_without_a_node_is_faulty() -> None:
    assert validate(Snapshot()) == ["node: missing"]


def test_the_key_of_an_ipv6_listener_has_brackets() -> None:
    assert Listener(address="::1", port=80, kind=ListenerKind.MESH).key == "[::1]:80"
    assert LbEndpoint(id="x", address="::1", port=80).key == "[::1]:80"


def test_parts_survive_the_wire() -> None:
    part = VirtualHost(table="t", name="v", domains=("*",), routes=(Route("r", RouteMatch(), DirectResponse(200, b"hi")),))
    assert msgspec.json.decode(msgspec.json.encode(part), type=Part) == part


@given(changes)
def test_what_differs_from_the_last_few_is_known_and_complete(steps: list[tuple[list[Part], list[str]]]) -> None:
    history = [Snapshot()]
    for update, remove in steps:
        history.append(history[-1].changed(update, remove))
    for old in history:
        for new in history:
            found = new.differing(old)
            different = {name for name in old.parts.keys() | new.parts.keys() if old.parts.get(name) != new.parts.get(name)}
            assert found is None or different <= found
            delta = new.delta_from(old)
            assert {part_name(part) for part in delta.set} | set(delta.remove) >= different
            assert old.apply(delta) == new
    assert history[-1].differing(history[-2] if len(history) > 1 else history[-1]) is not None, "one step is always known"


def test_a_large_difference_is_not_remembered_and_a_long_past_is_forgotten() -> None:
    start = Snapshot.of([Node(name="n", cluster="c")])
    large = start.changed([Backend(name=str(number), host="a", port=80) for number in range(1001)])
    assert large.differing(start) is None
    later = start
    for number in range(9):
        later = later.changed([Backend(name="a", host="a", port=number)])
    assert later.differing(start) is None
    assert later.differing(None) is None
    assert later.differing(later) == frozenset()
