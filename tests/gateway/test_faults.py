"""Checking only what changed finds what checking everything finds (what is found: test_snapshot)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.faults import validate, validating
from gateway.snapshot import (
    Backend,
    EndpointSet,
    FilterChain,
    Forward,
    Inbound,
    Listener,
    ListenerKind,
    Node,
    Part,
    Route,
    RouteMatch,
    Snapshot,
    Split,
    VirtualHost,
)

names = st.sampled_from(["a", "b", "c"])


def host(name: str, backend: str) -> VirtualHost:
    return VirtualHost(f"t{name}", name, ("*",), (Route("r", RouteMatch(), Forward((Split(backend),))),))


def listener(name: str) -> Listener:
    return Listener("0.0.0.0", 80, ListenerKind.GATEWAY, (FilterChain("c", table=f"t{name}"),))


parts = st.one_of(
    st.builds(lambda name: Backend(name=name, host=name, port=80), names),
    st.builds(lambda name: EndpointSet(backend=name, endpoints=()), names),
    st.builds(lambda name, backend: Inbound(name, backend, (), ()), names, names),
    st.builds(host, names, names),
    st.builds(listener, names),
)
removed = st.sampled_from(
    [f"backend/{name}" for name in "abc"] + [f"host/t{name}/{name}" for name in "abc"] + ["endpoints/a", "node"]
)
EVERYTHING: list[Part] = [
    Node(name="n", cluster="c"),
    *(Backend(name=name, host=name, port=80) for name in "abc"),
    *(host(name, name) for name in "abc"),
    listener("a"),
]


@given(st.lists(st.tuples(st.lists(parts, max_size=2), st.lists(removed, max_size=1)), min_size=1, max_size=5))
def test_a_change_of_a_good_snapshot_is_judged_as_the_whole_is(steps: list[tuple[list[Part], list[str]]]) -> None:
    good = Snapshot.of(EVERYTHING)
    for update, remove in steps:
        new = good.changed(update, remove)
        found = [fault for faults in validating(new, good) for fault in faults]
        assert sorted(found) == sorted(validate(new))
        if not found:
            good = new


def test_it_is_done_in_steps() -> None:
    many = Snapshot.of([Node(name="n", cluster="c"), *(Backend(name=str(number), host="a", port=80) for number in range(1000))])
    assert len(list(validating(many, None))) >= 10
    assert len(list(validating(many.changed([Backend(name="1", host="b", port=80)]), many))) <= 2
