"""Chains of addresses joined with the listeners that there are already."""

from __future__ import annotations

import pytest
from compiling import compiled

from federation.vips import Assigned
from gateway.faults import validate
from gateway.snapshot import Listener, ListenerKind

NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate, labels: {istio: ingressgateway}}
spec: {cluster: east, trustDomain: east.example.com, listen: {%s}, gatewayTopology: {%s}}
"""
GATEWAY = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, bind: %s, hosts: ['*']}]}
"""
SERVICE = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec: {hosts: [web.example.com], resolution: STATIC, ports: [{number: 8080, name: p, protocol: %s}]}
"""
VIPS = Assigned({"web.example.com": ("240.240.0.7",)}, local=frozenset({"240.240.0.0/16"}))


def listeners(text: str, assigned: Assigned = VIPS) -> tuple[dict[str, Listener], list[str]]:
    of = compiled(text, assigned=assigned)
    assert validate(of.snapshot) == []
    found = {part.key: part for part in of.snapshot.parts.values() if isinstance(part, Listener) and part.port == 8080}
    return found, [each.reason for each in of.findings]


def names(listener: Listener) -> list[str]:
    return [chain.name for chain in listener.chains]


def test_a_listener_of_their_own() -> None:
    found, wrong = listeners(NODE % ("", "") + SERVICE % "TCP")
    assert (found.keys(), wrong) == ({"0.0.0.0:8080"}, [])
    assert found["0.0.0.0:8080"].kind is ListenerKind.MESH
    assert names(found["0.0.0.0:8080"]) == ["vip.8080.web.example.com"]


@pytest.mark.parametrize("protocol", ["TCP", "HTTP"])
def test_a_gateway_on_every_address_takes_them_in(protocol: str) -> None:
    found, wrong = listeners(NODE % ("", "") + GATEWAY % "0.0.0.0" + SERVICE % protocol)
    assert (found.keys(), wrong) == ({"0.0.0.0:8080"}, [])
    listener = found["0.0.0.0:8080"]
    assert listener.kind is ListenerKind.GATEWAY
    assert names(listener) == ["http.8080", "vip.8080.web.example.com" if protocol == "TCP" else "vip.http"]
    assert [bool(chain.destinations) for chain in listener.chains] == [False, True]


def test_a_gateway_on_one_address_stays_as_it_is() -> None:
    found, wrong = listeners(NODE % ("", "") + GATEWAY % "127.0.0.9" + SERVICE % "TCP")
    assert (found.keys(), wrong) == ({"0.0.0.0:8080", "127.0.0.9:8080"}, [])
    assert [names(each) for _, each in sorted(found.items())] == [["vip.8080.web.example.com"], ["http.8080.127.0.0.9"]]


def test_the_http_port_on_every_address_takes_them_in() -> None:
    found, wrong = listeners(NODE % ("http: '0.0.0.0:8080'", "") + SERVICE % "TCP")
    assert (names(found["0.0.0.0:8080"]), wrong) == (["mesh", "vip.8080.web.example.com"], [])


@pytest.mark.parametrize(
    ("node", "gateway", "says"),
    [
        (("health: '0.0.0.0:8080'", ""), "", "is this node's own health port"),
        (("eastWest: '0.0.0.0:8080'", ""), "", "is this node's own east-west port"),
        (("", "proxyProtocol: {}"), GATEWAY % "0.0.0.0", "expects the PROXY header"),
    ],
)
def test_a_port_that_is_for_something_else_is_said(node: tuple[str, str], gateway: str, says: str) -> None:
    of = compiled(NODE % node + gateway + SERVICE % "TCP", assigned=VIPS)
    (finding,) = of.findings
    assert (finding.reason, finding.path) == ("PortConflict", "spec.vips")
    assert says in finding.message
    found = [part for part in of.snapshot.parts.values() if isinstance(part, Listener) and part.key == "0.0.0.0:8080"]
    assert [chain.destinations for each in found for chain in each.chains if chain.destinations] == []
