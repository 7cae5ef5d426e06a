"""Peer, Export and ServicePolicy documents."""

import pytest
from written import assert_one_error, spec

from federation.resources.fedgate import ExportTls, PeerKind
from federation.resources.scalars import HostPort

PEER = "trustDomain: west.example.com\naddresses: ['gw-west.example.com:15443']\nbundle: {path: west.pem}\n"


def test_a_peer():
    peer = spec("Peer", PEER)
    assert (peer.kind, peer.imports) == (PeerKind.FEDGATE, ("*",))
    assert peer.addresses == (HostPort("gw-west.example.com", 15443),)
    assert spec("Peer", PEER + "kind: fedgate\nimports: ['*.shop.svc.cluster.local']").imports == ("*.shop.svc.cluster.local",)


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        (PEER + "kind: istio", "kind", "`istio` is not supported yet"),
        (PEER + "imports: []", "imports", "is empty"),
        (PEER + "imports: [a, a]", "imports[1]", "written twice"),
        (PEER + "imports: [a.*]", "imports[0]", "left-most"),
        (PEER.replace("west.example.com\n", "'*.x'\n", 1), "trustDomain", "wildcard"),
        (PEER.replace("['gw-west.example.com:15443']", "[]"), "addresses", "is empty"),
        (PEER.replace(":15443", ""), "addresses[0]", "write HOST:PORT"),
        (PEER.replace(":15443", ":0"), "addresses[0]", "cannot be dialled"),
        (PEER.replace("gw-west.example.com:15443", "gw_west:15443"), "addresses[0]", "no host"),
        (PEER.replace("['gw-west.example.com:15443']", "['a:1', 'a:1']"), "addresses[1]", "written twice"),
        (PEER.replace("west.pem", "''"), "bundle.path", "is empty"),
        ("addresses: ['a:1']\nbundle: {path: a}", "trustDomain", "is required"),
    ],
)
def test_mistakes_of_a_peer(body, path, part):
    assert_one_error("Peer", body, f"spec.{path}", part)


def test_an_export():
    export = spec("Export", "services: ['*.shop.svc.cluster.local']\npeers: [west, '*']\ntls: terminate")
    assert (export.peers, export.tls) == (("west", "*"), ExportTls.TERMINATE)


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("services: [a]", "peers", "is required"),
        ("services: [a]\npeers: []", "peers", "is empty"),
        ("services: []\npeers: [a]", "services", "is empty"),
        ("services: [a.*.b]\npeers: [a]", "services[0]", "left-most"),
        ("services: [a]\npeers: [A]", "peers[0]", "no name"),
        ("services: [a]\npeers: [a, a]", "peers[1]", "written twice"),
        ("services: [a]\npeers: [a]\ntls: passthrough", "tls", "`passthrough` is not supported yet"),
    ],
)
def test_mistakes_of_an_export(body, path, part):
    assert_one_error("Export", body, f"spec.{path}", part)


def test_a_service_policy():
    policy = spec(
        "ServicePolicy",
        """
        hosts: [reviews.shop.svc.cluster.local]
        healthCheck: {http: {path: /healthz}, interval: 2s, timeout: 250ms, unhealthyThreshold: 3, healthyThreshold: 1}
        failback: {holdDown: 0s, ramp: 5s}
        """,
    )
    assert (policy.health_check.interval, policy.health_check.timeout, policy.health_check.http.path) == (2000, 250, "/healthz")
    assert (policy.failback.hold_down, policy.failback.ramp) == (0, 5000)
    reserved = spec("ServicePolicy", "hosts: [a]\nfrom: []")
    assert reserved.from_ == ()
    assert spec("ServicePolicy", "hosts: [a]\nhealthCheck: {grpc: {service: a.B}}").health_check.grpc.service == "a.B"
    defaults = spec("ServicePolicy", "hosts: [a]\nhealthCheck: {tcp: {}}\nfailback: {}")
    assert (defaults.health_check.interval, defaults.health_check.timeout, defaults.failback.hold_down) == (1000, 500, 30_000)


@pytest.mark.parametrize(
    ("rest", "path", "part"),
    [
        ("", "", "says nothing"),
        ("capacity: {requestsPerSecond: 5}", "capacity", "`capacity` is not supported yet"),
        ("healthCheck: {}", "healthCheck", "one of http, tcp and grpc"),
        ("healthCheck: {http: {}, tcp: {}}", "healthCheck", "one of http, tcp and grpc"),
        ("healthCheck: {grpc: {host: a_b}}", "healthCheck.grpc.host", "no host"),
        ("healthCheck: {http: {statuses: ['2xx']}}", "healthCheck.http.statuses[0]", "is no status"),
        ("healthCheck: {http: {statuses: [299-200]}}", "healthCheck.http.statuses[0]", "is no status"),
        ("from: [{}]", "from[0]", "says nothing of who"),
        ("from: [{ipBlocks: [a]}]", "from[0].ipBlocks[0]", "no IP and no CIDR"),
        ("from: [{principals: ['a*b']}]", "from[0].principals[0]", "no principal"),
        ("from: [{principals: ['*a*']}]", "from[0].principals[0]", "no principal"),
        ("from: [{principals: [a/ns/b/sa/c, a/ns/b/sa/c]}]", "from[0].principals[1]", "written twice"),
        ("sourceAddress: gw.example", "sourceAddress", "is no IP"),
        ("privateAddresses: [10.0.0.0/33]", "privateAddresses[0]", "no IP and no CIDR"),
        ("healthCheck: {http: {path: a}}", "healthCheck.http.path", "no path"),
        ("healthCheck: {http: {path: '/a b'}}", "healthCheck.http.path", "no path"),
        ("healthCheck: {http: {host: a_b}}", "healthCheck.http.host", "no host"),
        ("healthCheck: {http: {port: 70000}}", "healthCheck.http.port", "1..65535"),
        ("healthCheck: {tcp: {port: 70000}}", "healthCheck.tcp.port", "1..65535"),
        ("healthCheck: {tcp: {}, interval: 0s}", "healthCheck.interval", "at least 1ms"),
        ("healthCheck: {tcp: {}, timeout: 0s}", "healthCheck.timeout", "at least 1ms"),
        ("healthCheck: {tcp: {}, unhealthyThreshold: 0}", "healthCheck.unhealthyThreshold", "1 or more"),
        ("healthCheck: {tcp: {}, healthyThreshold: 0}", "healthCheck.healthyThreshold", "1 or more"),
        ("failback: {holdDown: 30}", "failback.holdDown", 'write "30s"'),
        ("failback: {ramp: -1s}", "failback.ramp", "is negative"),
    ],
)
def test_mistakes_of_a_service_policy(rest, path, part):
    assert_one_error("ServicePolicy", f"hosts: [a]\n{rest}", f"spec.{path}".rstrip("."), part)
