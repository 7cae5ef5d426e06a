"""Names that lead nowhere, hosts no Gateway serves, ports nobody chose."""

import pytest
from analysed import findings, shop, view

from federation.analyze import references
from federation.analyze.finding import Level


def test_nothing_wrong_finds_nothing():
    assert findings(shop()) == ()
    assert (
        findings(shop(hosts="[reviews]", gateways="[mesh]", destination="{host: reviews.shop.svc.cluster.local, subset: v1}")) == ()
    )
    assert findings(shop(destination="{host: many, port: {number: 81}}", gateways="[shop/web, mesh]")) == ()
    assert findings(shop(credential="beside-node")) == ()


def only(text, code, level, *parts):
    (finding,) = findings(text)
    assert (finding.code, finding.level) == (code, level)
    assert all(part in finding.text for part in parts), finding.text
    return finding


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"match": ", gateways: [nowhere]"}, ["no Gateway shop/nowhere"]),
        ({"gateways": "[web, other/web]"}, ["no Gateway other/web"]),
        ({"destination": "{host: ratings}"}, ["spec.http[0].route[0].destination.host", "ratings.shop.svc.cluster.local"]),
        ({"destination": "{host: reviews, subset: v2}"}, ["has subset v2", "it has v1"]),
        ({"destination": "{host: many, subset: v1, port: {number: 80}}"}, ["has subset v1", "none for this host"]),
        ({"credential": "elsewhere"}, ["no Secret elsewhere in namespace fedgate or shop"]),
    ],
)
def test_references_that_lead_nowhere(change, parts):
    finding = only(shop(**change), "IST0101", Level.ERROR, *parts)
    assert finding.origin.line > 1


def test_a_host_that_a_peer_may_bring_is_not_judged():
    peer = """
---
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: w, addresses: ['a:1'], bundle: {path: x}, imports: ['*.shop.svc.cluster.local']}
"""
    assert findings(shop(destination="{host: ratings}", more=peer)) == ()
    only(shop(destination="{host: x.example}", more=peer), "IST0101", Level.ERROR, "x.example")


@pytest.mark.parametrize(
    ("host", "served"), [("own.example", True), ("foreign.example", False), ("shop.example", False), ("'*'", True)]
)
def test_hosts_and_the_gateways_they_name(host, served):
    text = shop(hosts=f"[{host}]")
    if served:
        assert findings(text) == ()
    else:
        only(text, "IST0132", Level.WARNING, f"host {host}", "shop/web")


def test_several_ports_and_none_chosen():
    only(shop(destination="{host: many}"), "IST0112", Level.ERROR, "several ports (80, 81)")


def test_each_rule_finds_its_own_only():
    seen = view(shop(destination="{host: many, subset: v9}", credential="elsewhere"))
    assert len(list(references.ports_needed(seen))) == 1
    assert len(list(references.subsets_not_found(seen))) == 1
    assert len(list(references.credentials_not_found(seen))) == 1
    assert list(references.hosts_not_found(seen)) == []


ONE = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one, namespace: shop, creationTimestamp: '%s'}
spec:
  hosts: [one.example]
"""


@pytest.mark.parametrize(
    ("routes", "parts"),
    [
        ("http: [{route: [{destination: {host: reviews}}], mirror: {host: gone}}]", ["spec.http[0].mirror.host", "gone.shop"]),
        ("tcp: [{route: [{destination: {host: gone}}]}]", ["spec.tcp[0].route[0].destination.host", "gone.shop"]),
        (
            "tls: [{match: [{sniHosts: [one.example]}], route: [{destination: {host: gone}}]}]",
            ["spec.tls[0].route[0]", "gone.shop"],
        ),
        ("tcp: [{match: [{gateways: [lost]}], route: [{destination: {host: reviews}}]}]", ["no Gateway shop/lost"]),
        ("http: [{delegate: {name: two}}]", ["no VirtualService shop/two"]),
        ("http: [{delegate: {name: two, namespace: other}}]", ["no VirtualService other/two"]),
    ],
)
def test_mirrors_relays_and_delegates_that_lead_nowhere(routes, parts):
    only(shop(more=ONE % "2026-01-01T00:00:00Z" + f"  {routes}\n"), "IST0101", Level.ERROR, *parts)


def test_two_documents_for_one_mesh_host():
    http = "  http: [{route: [{destination: {host: reviews}}]}]\n"
    older, younger = ONE % "2026-01-01T00:00:00Z" + http, (ONE % "2026-02-01T00:00:00Z" + http).replace("name: one,", "name: two,")
    finding = only(shop(more=younger + older), "IST0109", Level.ERROR, "one.example", "shop/one")
    assert finding.name == "two"
