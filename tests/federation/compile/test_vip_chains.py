"""A service's addresses → filter chains: for which addresses, and where connections to them go."""

from __future__ import annotations

from typing import Any

import pytest
from compiling import compiled, inputs_of

from discovery.model import Port, Protocol, Service
from federation.compile.vip_chains import closed_to_all
from federation.compile.whole import Compiled
from federation.vips import Assigned
from gateway.faults import validate
from gateway.snapshot import FilterChain, Listener

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %(name)s, namespace: shop}
spec:
  hosts: [%(host)s]
  resolution: %(resolution)s
  addresses: [%(addresses)s]
  ports: [%(ports)s]
"""
ROUTES = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes, namespace: shop}
spec:
  hosts: [db.example.com]
  %s
"""
HTTP = "{number: 80, name: http, protocol: HTTP}"
ALT = "{number: 8080, name: alt, protocol: GRPC}"
TCP = "{number: 5432, name: db, protocol: TCP}"
TLS = "{number: 443, name: tls, protocol: TLS}"
RANGES = frozenset({"240.240.0.0/16", "2001:2::/48"})
VIPS = Assigned({"db.example.com": ("240.240.0.7", "2001:2::7")}, local=RANGES)
FOUR = Assigned({"db.example.com": ("240.240.0.7", "2001:2::7")}, local=frozenset({"240.240.0.0/16"}))


def service(*ports: str, host: str = "db.example.com", addresses: str = "", resolution: str = "STATIC") -> str:
    name = host.replace(".", "-").strip("*-")
    return SERVICE % {
        "name": name,
        "host": f"'{host}'",
        "addresses": addresses,
        "ports": ", ".join(ports),
        "resolution": resolution,
    }


def chains(of: Compiled) -> dict[str, tuple[FilterChain, ...]]:
    """By listener, those that are for some addresses."""
    found = {part.key: part.chains for part in of.snapshot.parts.values() if isinstance(part, Listener)}
    own = {key: tuple(chain for chain in each if chain.destinations) for key, each in found.items()}
    assert validate(of.snapshot) == []
    return {key: each for key, each in own.items() if each}


def made(text: str, assigned: Assigned = VIPS, **changes: Any) -> dict[str, tuple[FilterChain, ...]]:
    return chains(compiled(text, assigned=assigned, **changes))


def test_nothing_is_listened_on_where_the_range_does_not_come_to_this_machine() -> None:
    assert made(service(HTTP, TCP), Assigned(VIPS.addresses)) == {}
    assert made(service(HTTP, TCP), Assigned(local=RANGES)) == {}


def test_http_is_one_chain_for_the_range_and_tcp_one_for_the_address() -> None:
    found = made(service(HTTP, TCP), FOUR)
    assert found.keys() == {"0.0.0.0:80", "0.0.0.0:5432"}
    (http,) = found["0.0.0.0:80"]
    assert (http.name, http.table, http.destinations) == ("vip.http", "mesh", ("240.240.0.0/16",))
    (tcp,) = found["0.0.0.0:5432"]
    assert (tcp.name, tcp.table, tcp.destinations) == ("vip.5432.db.example.com", "", ("240.240.0.7/32",))
    assert [split.backend for route in tcp.tcp for split in route.splits] == ["outbound|5432||db.example.com"]


def test_each_family_has_a_listener() -> None:
    found = made(service(HTTP, TCP))
    assert {key: [chain.destinations for chain in each] for key, each in found.items()} == {
        "0.0.0.0:80": [("240.240.0.0/16",)],
        "[::]:80": [("2001:2::/48",)],
        "0.0.0.0:5432": [("240.240.0.7/32",)],
        "[::]:5432": [("2001:2::7/128",)],
    }


def test_datagrams_are_not_relayed() -> None:
    udp = Service("db.example.com", "shop", (Port(53, "dns", Protocol.UDP), Port(5432, "db", Protocol.TCP)))
    assert made("", services={udp.hostname: udp}).keys() == {"0.0.0.0:5432", "[::]:5432"}


def test_services_share_a_port() -> None:
    assigned = Assigned({f"{name}.example.com": (f"240.240.0.{n}",) for n, name in enumerate("abcd", 1)}, local=FOUR.local)
    text = "---".join(
        [service(TCP, host="b.example.com"), service(TCP, host="a.example.com")]
        + [service("{number: 5432, name: http, protocol: HTTP}", host=f"{name}.example.com") for name in "cd"]
    )
    (found,) = made(text, assigned).values()
    assert [(chain.name, chain.destinations) for chain in found] == [
        ("vip.5432.a.example.com", ("240.240.0.1/32",)),
        ("vip.5432.b.example.com", ("240.240.0.2/32",)),
        ("vip.http", ("240.240.0.0/16",)),
    ]


def test_written_addresses_are_served_where_they_come_here() -> None:
    local = Assigned(local=frozenset({"10.9.0.7", "10.9.1.0/24"}))
    found = made(service(TCP, HTTP, addresses="10.9.0.7, 10.9.1.0/24, 10.9.2.1"), local)
    assert {key: each[0].destinations for key, each in found.items()} == {
        "0.0.0.0:5432": ("10.9.0.7/32", "10.9.1.0/24"),
        "0.0.0.0:80": ("10.9.0.7/32", "10.9.1.0/24"),
    }


def test_two_services_at_one_address_and_port_are_told_apart_by_nothing() -> None:
    text = (
        service(TCP, host="b.example.com", addresses="10.9.0.7") + "---" + service(TCP, host="a.example.com", addresses="10.9.0.7")
    )
    of = compiled(text, assigned=Assigned(local=frozenset({"10.9.0.7"})))
    ((chain,),) = chains(of).values()
    assert chain.name == "vip.5432.a.example.com"
    (finding,) = of.findings
    assert (finding.reason, finding.subject.kind, finding.warning) == ("AddressConflict", "Node", True)
    assert "port 5432 of 10.9.0.7/32 belongs to a.example.com already, so b.example.com is not served there" in finding.message


def routed(rest: str, *ports: str) -> dict[str, tuple[FilterChain, ...]]:
    other = service(TCP, host="other.example.com")
    return made(service(*ports) + "---" + other + ROUTES % rest, FOUR)


def targets(chain: FilterChain) -> list[tuple[tuple[str, ...], list[tuple[str, int]]]]:
    return [(route.destination_subnets, [(split.backend, split.weight) for split in route.splits]) for route in chain.tcp]


def test_tcp_routes_of_the_virtual_service_on_mesh_hold() -> None:
    split = "[{destination: {host: db.example.com}, weight: 9}, {destination: {host: other.example.com}, weight: 1}]"
    found = routed(f"tcp: [{{match: [{{port: 5432}}], route: {split}}}]", TCP, "{number: 5433, name: more, protocol: TCP}")
    both = [("outbound|5432||db.example.com", 9), ("outbound|5432||other.example.com", 1)]
    (chain,) = found["0.0.0.0:5432"]
    assert targets(chain) == [((), [("outbound|5432||db.example.com", 9), ("outbound|5432||other.example.com", 1)])] == [((), both)]
    (chain,) = found["0.0.0.0:5433"]
    assert targets(chain) == [((), [("outbound|5433||db.example.com", 1)])]


def test_routes_of_gateways_do_not() -> None:
    found = routed("gateways: [edge]\n  tcp: [{route: [{destination: {host: other.example.com}}]}]", TCP)
    (chain,) = found["0.0.0.0:5432"]
    assert targets(chain) == [((), [("outbound|5432||db.example.com", 1)])]


def test_tls_routes_choose_by_server_name_and_the_rest_goes_to_the_service() -> None:
    route = "route: [{destination: {host: other.example.com, port: {number: 5432}}}]"
    found = routed(f"tls: [{{match: [{{sniHosts: [db.example.com]}}], {route}}}]", TLS)
    named, rest = sorted(found["0.0.0.0:443"], key=lambda chain: chain.server_names, reverse=True)
    assert (named.server_names, named.passthrough, rest.server_names, rest.passthrough) == (("db.example.com",), True, (), True)
    assert named.destinations == rest.destinations == ("240.240.0.7/32",)
    assert targets(named) == [((), [("outbound|5432||other.example.com", 1)])]
    assert targets(rest) == [((), [("outbound|443||db.example.com", 1)])]


def test_tls_without_routes_is_relayed_unread() -> None:
    ((chain,),) = made(service(TLS), FOUR).values()
    assert (chain.passthrough, chain.tls, chain.server_names) == (False, None, ())


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        (service(TCP, resolution="NONE"), True),
        (service(HTTP, resolution="NONE"), False),
        (service(TCP, resolution="NONE", addresses="10.9.0.7"), False),
        (service(TCP), False),
        (service(TCP, host="*.example.com", resolution="NONE"), False),
    ],
)
def test_a_port_is_not_opened_to_everybody(text: str, closed: bool) -> None:
    """FIELD trap 13."""
    (found,) = inputs_of(text).services.values()
    assert closed_to_all(found) is closed
    of = compiled(text, assigned=Assigned(local=RANGES))
    assert ("NoAddress" in {each.reason for each in of.findings}) is closed
    assert not chains(of) or not closed
