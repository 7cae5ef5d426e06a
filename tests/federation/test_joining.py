"""Bundles that stay when a file breaks, terms from documents, offers that cost what changed."""

from __future__ import annotations

import pytest
from certs import NOW, Authority, spiffe
from compiling import resources_of

from discovery.loss import LossPolicy, OnLoss
from discovery.model import Endpoint, Health, Port, Protocol, Service
from federation.compile.credentials import FileContent
from federation.joining import Offering, bundles_of, export_terms, peer_terms
from gateway.verdicts import Verdicts

DOCUMENTS = """
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: west.example.com, addresses: ['gw.example:15443'], bundle: {path: west.pem}, imports: ['*.shop']}
---
apiVersion: fedgate.io/v1
kind: Export
metadata: {name: shop}
spec: {services: ['*.shop'], peers: [west]}
"""
RESOURCES = resources_of(DOCUMENTS)[0]
WEST = spiffe("west.example.com")


def file(content: str = "", fault: str = "") -> dict[str, FileContent]:
    return {"west.pem": FileContent(content.encode(), fault)}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", LossPolicy(OnLoss.KEEP)),
        (", onLoss: {keep: 24h}", LossPolicy(OnLoss.EXPIRE, 86_400)),
        (", onLoss: {degrade: 1500ms}", LossPolicy(OnLoss.DEGRADE, 1.5)),
    ],
)
def test_what_becomes_of_what_a_lost_peer_said(written: str, expected: LossPolicy) -> None:
    resources = resources_of(DOCUMENTS.replace("imports: ['*.shop']", "imports: ['*.shop']" + written))[0]
    assert peer_terms(resources, {})["west"].loss == expected


def test_a_good_bundle_is_not_replaced_by_nothing() -> None:
    good, problems = bundles_of(RESOURCES, file(WEST.bundle), {}, NOW)
    assert list(good) == ["west.example.com"]
    assert not problems
    kept, problems = bundles_of(RESOURCES, file(fault="no such file"), good, NOW)
    assert kept == good
    assert "stay in use" in problems[0].message
    none, problems = bundles_of(RESOURCES, file("rubbish"), {}, NOW)
    assert none == {}
    assert problems[0].warning
    fresh, _ = bundles_of(RESOURCES, file(Authority("new root").bundle), good, NOW)
    assert fresh != good


def test_terms() -> None:
    (terms,) = peer_terms(RESOURCES, {"west.example.com": "roots"}).values()
    assert (terms.name, terms.addresses, terms.bundle, terms.imports) == ("west", ("gw.example:15443",), "roots", ("*.shop",))
    assert peer_terms(RESOURCES, {})["west"].bundle == ""
    assert [(each.name, each.services, each.peers) for each in export_terms(RESOURCES)] == [("shop", ("*.shop",), ("west",))]


def service(hostname: str, health: Health = Health.UNKNOWN) -> Service:
    return Service(
        hostname, ports=(Port(80, "http", Protocol.HTTP),), endpoints=(Endpoint("10.0.0.1", (("http", 80),), health=health),)
    )


def test_offers_follow_what_changed_and_nothing_else() -> None:
    offering = Offering("east")
    slot = offering.slot("west")
    assert offering.agree(peer_terms(RESOURCES, {}), export_terms(RESOURCES))
    assert not offering.agree(peer_terms(RESOURCES, {}), export_terms(RESOURCES))
    services = {"a.shop": service("a.shop"), "b.shop": service("b.shop"), "c.bank": service("c.bank")}
    list(offering.offering(services, Verdicts(), services.keys()))
    assert [each.hostname for each in slot.value] == ["a.shop", "b.shop"]
    first, version = slot.value, slot.version
    list(offering.offering(services, Verdicts(), services.keys()))
    assert slot.version == version
    services["b.shop"] = service("b.shop", Health.UNHEALTHY)
    list(offering.offering(services, Verdicts(), ["b.shop"]))
    assert slot.value[0] is first[0]
    assert [count.healthy for count in slot.value[1].localities] == [0]
    del services["a.shop"]
    list(offering.offering(services, Verdicts(), ["a.shop"]))
    assert [each.hostname for each in slot.value] == ["b.shop"]
    assert offering.agree({}, ())
    assert slot.value == ()
