"""Services → names: which a service has, where they lead, and what is wrong with its addresses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from compiling import compiled, inputs_of

from discovery.model import Endpoint, Port, Protocol, Resolution, Service
from federation.compile.whole import Compiled, compile_all
from federation.vips import Assigned
from gateway.faults import validate
from gateway.snapshot import EndpointSet, Name

HOST = "reviews.shop.svc.cluster.local"
HTTP, DNS, RAW = Port(80, "http", Protocol.HTTP), Port(53, "dns", Protocol.UDP), Port(9000, "", Protocol.TCP)
REVIEWS = Service(HOST, "shop", (HTTP, DNS, RAW), (Endpoint("10.0.0.1", (("http", 80), ("dns", 53), ("", 9000)), cluster="east"),))
VIPS = Assigned({HOST: ("240.240.0.7", "2001:2::7")})
NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: %s}
spec: {cluster: east, trustDomain: east.example.com, clusterDomain: %s}
"""
EXPORT = """
---
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: west.example.com, addresses: ['192.0.2.1:15443'], bundle: {path: west.pem}}
---
apiVersion: fedgate.io/v1
kind: Export
metadata: {name: shop}
spec: {services: ['*.shop.svc.cluster.local'], peers: [west]}
"""


def made(
    *services: Service, assigned: Assigned = VIPS, namespace: str = "fedgate", domain: str = "cluster.local", more: str = ""
) -> Compiled:
    inputs = inputs_of(NODE % (namespace, domain) + more, services={each.hostname: each for each in services}, assigned=assigned)
    of = compile_all(inputs)
    assert validate(of.snapshot) == []
    return of


def name(service: Service = REVIEWS, **how: Any) -> Name:
    (found,) = names(made(service, **how))
    return found


def names(of: Compiled) -> list[Name]:
    return [part for part in of.snapshot.parts.values() if isinstance(part, Name)]


def changed(**changes: Any) -> Service:
    return msgspec.structs.replace(REVIEWS, **changes)


def test_a_name_leads_to_the_virtual_addresses() -> None:
    found = name()
    assert (found.name, found.addresses, found.backends, found.headless, found.ttl) == (HOST, VIPS.addresses[HOST], (), False, -1)
    assert found.ports == (("http", "tcp", 80), ("dns", "udp", 53))
    assert found.aliases == ("reviews.shop", "reviews.shop.svc", "reviews.shop.global")


def test_in_its_own_namespace_it_is_known_by_its_first_name() -> None:
    assert name(namespace="shop").aliases == ("reviews.shop", "reviews.shop.svc", "reviews.shop.global", "reviews")


def test_short_forms_are_of_the_clusters_own_domain() -> None:
    assert name(domain="corp.example").aliases == ()
    other = changed(hostname="reviews.shop.svc.corp.example")
    found = name(other, domain="corp.example", assigned=Assigned({other.hostname: ("240.240.0.7",)}))
    assert found.aliases == ("reviews.shop", "reviews.shop.svc", "reviews.shop.global")


@pytest.mark.parametrize(
    ("service", "more"),
    [
        (REVIEWS, EXPORT),
        (changed(endpoints=(Endpoint("192.0.2.1", (("http", 15443),), peer="west"),)), ""),
        (changed(endpoints=(*REVIEWS.endpoints, Endpoint("10.7.0.1", (("http", 80),), cluster="north"))), ""),
    ],
)
def test_a_service_of_several_clusters_is_one_of_the_clusterset(service: Service, more: str) -> None:
    assert "reviews.shop.svc.clusterset.local" in name(service, more=more).aliases


def test_a_headless_services_name_leads_to_its_endpoints() -> None:
    of = made(changed(headless=True), assigned=Assigned())
    (found,) = names(of)
    assert (found.addresses, found.headless) == ((), True)
    assert found.backends == (f"outbound|80||{HOST}", f"outbound|53||{HOST}", f"outbound|9000||{HOST}")
    sets = {part.backend: part.endpoints for part in of.snapshot.parts.values() if isinstance(part, EndpointSet)}
    assert {backend: [each.address for each in sets[backend]] for backend in found.backends} == {
        backend: ["10.0.0.1"] for backend in found.backends
    }


def test_written_addresses_lead_there_a_block_to_nobody() -> None:
    service = changed(hostname="db.example.com", addresses=("10.9.0.7", "10.9.1.0/24"))
    found = name(service, assigned=Assigned())
    assert (found.addresses, found.aliases) == (("10.9.0.7",), ())
    assert name(changed(addresses=("10.96.0.1",))).addresses == VIPS.addresses[HOST]  # a ClusterIP leads past the gateway


@pytest.mark.parametrize(
    "changes",
    [
        {"resolution": Resolution.NONE},
        {"resolution": Resolution.DYNAMIC_DNS},
        {"hostname": "*.example.com"},
        {"labels": (("networking.istio.io/enable-autoallocate-ip", "false"),)},
    ],
)
def test_what_leads_nowhere_here_is_somebody_elses_to_answer(changes: dict[str, Any]) -> None:
    assert names(made(changed(hostname=changes.pop("hostname", "db.example.com"), **changes), assigned=Assigned())) == []


def test_a_wildcard_with_addresses_has_a_name() -> None:
    assert name(changed(hostname="*.example.com", addresses=("10.9.0.7",))).name == "*.example.com"


def test_a_name_that_has_no_address_yet_is_known_and_why_is_said() -> None:
    of = made(REVIEWS, assigned=Assigned(lacking={HOST: "the range is full"}))
    (found,) = names(of)
    assert (found.addresses, found.backends) == ((), ())
    (finding,) = of.findings
    assert (finding.reason, finding.path, finding.warning) == ("NoAddress", "spec.vips", True)
    assert finding.message == (
        f"{HOST} has no virtual address: the range is full; until then it is reached by its name at the `http` port only"
    )


def test_what_lies_in_the_range_is_said() -> None:
    service = changed(
        hostname="db.example.com",
        addresses=("240.240.1.1",),
        endpoints=(Endpoint("240.240.9.9", (("http", 80),)), Endpoint("2001:2::9", (("http", 80),)), Endpoint("240.241.0.1")),
    )
    found = [each.message for each in made(service, assigned=Assigned()).findings if each.reason == "RangeOverlap"]
    assert [message.partition(" lies ")[0] for message in found] == [
        "address 240.240.1.1 of db.example.com",
        "endpoint 2001:2::9 of db.example.com",
        "endpoint 240.240.9.9 of db.example.com",
    ]
    assert all("240.240.0.0/16 and 2001:2::/48" in message and "write a vips.range in the Node" in message for message in found)


def test_http_is_found_by_the_virtual_address_too() -> None:
    text = NODE % ("fedgate", "cluster.local")
    of = compiled(text, services={HOST: changed(ports=(HTTP, Port(8080, "alt", Protocol.HTTP)))}, assigned=VIPS)
    domains = {name: set(part.domains) for name, part in of.snapshot.parts.items() if name.startswith(f"host/mesh/{HOST}")}
    four, six = "240.240.0.7", "[2001:2::7]"
    assert domains[f"host/mesh/{HOST}:80"] >= {four, f"{four}:80", six, f"{six}:80"}
    assert domains[f"host/mesh/{HOST}:8080"] & {four, f"{four}:8080", six, f"{six}:8080"} == {f"{four}:8080", f"{six}:8080"}
