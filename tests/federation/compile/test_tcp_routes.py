"""tcp and tls routes of one server: what applies, what is in front of what, what is needed."""

from __future__ import annotations

import pytest
from compiling import inputs_of

from federation.compile.scope import scope
from federation.compile.tcp_routes import Streams, TcpServer, tcp_routes, tls_routes

DOCUMENTS = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {ports: [{port: 3306, name: tcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: many, namespace: shop}
spec: {ports: [{port: 443, name: tls}, {port: 8443, name: tls-alt}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec: {selector: {}, servers: [{port: {number: 9, name: tcp, protocol: TCP}, hosts: ['*']}]}
"""
SERVICE = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v%d, namespace: shop, creationTimestamp: '2026-01-0%dT00:00:00Z'}
spec: {hosts: ['*.example.com', b.test], gateways: [edge/edge], %s}
"""
TO_DB = "route: [{destination: {host: db}}]"
TO_MANY = "route: [{destination: {host: many, port: {number: 8443}}}]"
DB, MANY = "outbound|3306||db.shop.svc.cluster.local", "outbound|8443||many.shop.svc.cluster.local"


def made(*routes: str, hosts: tuple[str, ...] = ("*",), port: int = 443) -> Streams:
    """The last document is the oldest."""
    documents = [SERVICE % (len(routes) - n, len(routes) - n, each) for n, each in enumerate(routes)]
    inputs = inputs_of(DOCUMENTS + "".join(documents))
    server = TcpServer("edge/edge", "edge", hosts, port)
    make = tls_routes if "tls:" in routes[0] else tcp_routes
    return make(server, scope(inputs), inputs)


def tcp(of: Streams) -> list[tuple[str, tuple[str, ...]]]:
    return [("+".join(split.backend for split in route.splits), route.destination_subnets) for route in of.routes]


def tls(of: Streams) -> dict[tuple[str, ...], list[str]]:
    return {
        chain.server_names: ["+".join(split.backend for split in route.splits) for route in chain.routes] for chain in of.chains
    }


@pytest.mark.parametrize(
    ("match", "applies"),
    [
        ("", True),
        ("match: [{port: 443}], ", True),
        ("match: [{port: 444}], ", False),
        ("match: [{port: 444}, {gateways: [edge/edge]}], ", True),
        ("match: [{gateways: [edge]}], ", False),  # of the VirtualService's own namespace
        ("match: [{sourceLabels: {a: b}, sourceNamespace: c}], ", True),
    ],
)
def test_which_tcp_routes_apply(match: str, applies: bool) -> None:
    assert tcp(made(f"tcp: [{{{match}{TO_DB}}}]")) == ([(DB, ())] if applies else [])


@pytest.mark.parametrize(
    ("hosts", "applies"),
    [
        (("*",), True),
        (("edge/*",), False),
        (("shop/*",), True),
        (("x.example.com",), True),
        (("other.test",), False),
        (("./*",), False),
    ],
)
def test_a_server_serves_only_who_shares_a_host_with_it(hosts: tuple[str, ...], applies: bool) -> None:
    assert bool(made(f"tcp: [{{{TO_DB}}}]", hosts=hosts).routes) is applies


def test_what_is_behind_a_route_for_all_is_left_out_and_said() -> None:
    narrow = "match: [{destinationSubnets: [10.0.0.7/8]}, {destinationSubnets: ['::1']}], "
    of = made(f"tcp: [{{{TO_MANY}}}]", f"tcp: [{{{narrow}{TO_DB}}}, {{{TO_DB}}}, {{{narrow}{TO_MANY}}}]")
    assert tcp(of) == [(DB, ("10.0.0.0/8", "::1/128")), (DB, ())]
    assert [(each.subject.name, each.path, each.reason) for each in of.problems] == [
        ("v1", "spec.tcp[2]", "Unreachable"),
        ("v2", "spec.tcp[0]", "Unreachable"),
    ]
    assert {each.backend for each in of.references} == {DB}


def test_one_match_without_subnets_is_every_address() -> None:
    assert tcp(made(f"tcp: [{{match: [{{destinationSubnets: [10.0.0.0/8]}}, {{port: 443}}], {TO_DB}}}]")) == [(DB, ())]


def test_weights_and_what_depends_on_the_catalog() -> None:
    of = made(
        "tcp: [{route: [{destination: {host: db}, weight: 3}, {destination: {host: many, port: {number: 8443}}, weight: 1}]}]"
    )
    assert [(split.backend, split.weight) for split in of.routes[0].splits] == [(DB, 3), (MANY, 1)]
    assert of.depends == {"db.shop.svc.cluster.local", "many.shop.svc.cluster.local"}
    assert {each.backend for each in of.references} == {DB, MANY}


def test_a_port_that_nobody_wrote() -> None:
    of = made("tcp: [{route: [{destination: {host: many}}]}]")
    assert [each.reason for each in of.problems] == ["PortRequired"]
    assert of.routes[0].splits[0].backend == "outbound|443||many.shop.svc.cluster.local"  # the listener's
    lost = made("tcp: [{route: [{destination: {host: gone}}]}]")
    assert "connections are closed" in lost.problems[0].message


def sni(*names: str, more: str = "") -> str:
    return f"match: [{{sniHosts: [{', '.join(names)}]{more}}}], "


def test_server_names_lead_to_the_first_that_has_them() -> None:
    of = made(
        f"tls: [{{{sni('a.example.com', 'c.example.com')}{TO_MANY}}}]",
        f"tls: [{{{sni('A.example.com', 'b.example.com')}{TO_DB}}}]",
    )
    assert tls(of) == {("a.example.com", "b.example.com"): [DB], ("c.example.com",): [MANY]}
    assert of.problems == ()


def test_addresses_narrow_a_server_name() -> None:
    narrow = sni("a.example.com", more=", destinationSubnets: [10.0.0.0/8]")
    of = made(f"tls: [{{{narrow}{TO_DB}}}, {{{sni('a.example.com')}{TO_MANY}}}, {{{sni('a.example.com')}{TO_DB}}}]")
    assert tls(of) == {("a.example.com",): [DB, MANY]}
    assert [each.path for each in of.problems] == ["spec.tls[2].match[0]"]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (("*",), ("*.example.com", "b.test")),
        (("x.example.com",), ("x.example.com",)),  # the narrower of the two
        (("*.test",), ("b.test",)),
        (("shop/b.test",), ("b.test",)),
        (("edge/b.test",), None),
        (("c.test",), None),
    ],
)
def test_only_names_that_the_gateway_has_are_served(hosts: tuple[str, ...], expected: tuple[str, ...] | None) -> None:
    of = made(f"tls: [{{{sni(chr(39) + '*.example.com' + chr(39), 'b.test')}{TO_DB}}}]", hosts=hosts)
    assert tls(of) == ({expected: [DB]} if expected else {})


def test_every_name_is_a_chain_of_its_own_beside_closer_ones() -> None:
    documents = DOCUMENTS + (SERVICE % (1, 1, f"tls: [{{{sni(chr(39) + '*' + chr(39), 'b.test')}{TO_DB}}}]")).replace(
        "['*.example.com', b.test]", "['*']"
    )
    inputs = inputs_of(documents)
    of = tls_routes(TcpServer("edge/edge", "edge", ("*",), 443), scope(inputs), inputs)
    assert tls(of) == {(): [DB], ("b.test",): [DB]}


def test_tls_routes_are_none_of_a_tcp_server_and_the_other_way_round() -> None:
    inputs = inputs_of(DOCUMENTS + SERVICE % (1, 1, f"tls: [{{{sni('b.test')}{TO_DB}}}]"))
    server = TcpServer("edge/edge", "edge", ("*",), 443)
    assert tcp_routes(server, scope(inputs), inputs) == Streams()
    inputs = inputs_of(DOCUMENTS + SERVICE % (1, 1, f"tcp: [{{{TO_DB}}}]"))
    assert tls_routes(server, scope(inputs), inputs) == Streams()
