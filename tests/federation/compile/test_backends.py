"""One hostname's parts: endpoints of subsets, peers, exports, TLS that cannot be had."""

from __future__ import annotations

from compiling import compiled

from federation.compile.whole import Compiled
from gateway.faults import validate
from gateway.snapshot import Backend, Http2, Inbound, UpstreamTlsMode

WEB = "web.shop.svc.cluster.local"
SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop.svc.cluster.local]
  resolution: STATIC
  subjectAltNames: [spiffe://x/ns/shop/sa/web]
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
    - {address: 10.0.0.1, labels: {version: v1}}
    - {address: 10.0.0.2, labels: {version: v2}}
"""
PEER = """
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: west.example.com, addresses: ['192.0.2.1:15443'], bundle: {path: west.pem}, imports: ['%s']}
"""
EXPORT = "apiVersion: fedgate.io/v1\nkind: Export\nmetadata: {name: e}\nspec: {services: ['%s'], peers: ['%s']}"
FAR = """
apiVersion: test
kind: Elsewhere
endpoints:
  - {host: web.shop.svc.cluster.local, peer: west, address: 192.0.2.1, labels: {version: v1}}
  - {host: web.shop.svc.cluster.local, peer: west, address: 192.0.2.1, labels: {version: v2}}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web
  subsets: [{name: v1, labels: {version: v1}}]
%s
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web, subset: v1}, weight: 1}, {destination: {host: web}, weight: 1}]}]
"""


def made(*documents: str, **changes: object) -> Compiled:
    of = compiled("\n---\n".join(documents), **changes)
    assert validate(of.snapshot) == []
    return of


def backend(of: Compiled, subset: str = "", direction: str = "outbound") -> Backend:
    part = of.snapshot.parts[f"backend/{direction}|80|{subset}|{WEB}"]
    assert isinstance(part, Backend)
    return part


def addresses(of: Compiled, subset: str = "", direction: str = "outbound") -> list[str]:
    return [each.address for each in of.snapshot.endpoints(f"{direction}|80|{subset}|{WEB}")]


def inbound(of: Compiled) -> dict[str, Inbound]:
    return {part.sni: part for part in of.snapshot.parts.values() if isinstance(part, Inbound)}


def test_subsets_have_the_endpoints_with_their_labels() -> None:
    of = made(SERVICE, RULE % "", ROUTE, PEER % "*", FAR)
    assert addresses(of, "v1") == ["10.0.0.1", "192.0.2.1"]
    assert addresses(of) == ["10.0.0.1", "10.0.0.2", "192.0.2.1"]


def test_the_gateways_own_admin_api_is_nobodys_endpoint() -> None:
    of = made(
        SERVICE.replace("10.0.0.1", "127.0.0.1").replace("version: v1}", "version: v1}, ports: {http: 15000}"), ROUTE, RULE % ""
    )
    assert addresses(of) == ["10.0.0.2"]
    assert [each.reason for each in of.findings if each.reason == "AdminAsEndpoint"]


def test_a_peers_gateway_is_one_endpoint_with_the_weight_of_all_labels() -> None:
    of = made(SERVICE, RULE % "", ROUTE, PEER % "*", FAR)
    (whole,) = (each for each in of.snapshot.endpoints(f"outbound|80||{WEB}") if each.peer)
    (part,) = (each for each in of.snapshot.endpoints(f"outbound|80|v1|{WEB}") if each.peer)
    assert (whole.weight, part.weight, whole.group, whole.labels) == (2, 1, "west/", ())
    assert of.subset_labels(backend(of, "v1")) == {("version", "v1")}


def test_tls_towards_a_peer_carries_the_services_name_and_its_bundle_only() -> None:
    ((peer, tls),) = backend(made(SERVICE, RULE % "", ROUTE, PEER % "*", FAR), "v1").peer_tls
    assert (peer, tls.sni, tls.peer) == ("west", f"outbound_.80_.v1_.{WEB}", True)
    assert tls.bundles == (("west.example.com", "roots of west.example.com"),)
    assert tls.subject_alt_names == ("spiffe://west.example.com/ns/fedgate/sa/gateway",)


def test_a_peers_endpoints_are_used_only_as_far_as_it_may_and_can_be_trusted() -> None:
    assert addresses(made(SERVICE, FAR)) == ["10.0.0.1", "10.0.0.2"]  # no such Peer
    assert addresses(made(SERVICE, PEER % "*.other", FAR)) == ["10.0.0.1", "10.0.0.2"]  # may not claim it
    assert addresses(made(SERVICE, PEER % "*", FAR, bundles={})) == ["10.0.0.1", "10.0.0.2"]  # no roots
    assert addresses(made(SERVICE, PEER % "*", FAR, identity=None)) == ["10.0.0.1", "10.0.0.2"]  # no certificate of our own


def test_an_export_opens_the_service_and_its_subsets_to_that_peer_with_own_endpoints_only() -> None:
    of = made(SERVICE, RULE % "", PEER % "*", FAR, EXPORT % ("*.shop.svc.cluster.local", "west"))
    assert set(inbound(of)) == {f"outbound_.80_._.{WEB}", f"outbound_.80_.v1_.{WEB}"}
    opened = inbound(of)[f"outbound_.80_.v1_.{WEB}"]
    assert (opened.backend, opened.trust_domains) == (f"inbound|80|v1|{WEB}", ("west.example.com",))
    assert opened.identities == ("spiffe://west.example.com/ns/fedgate/sa/gateway",)
    assert addresses(of, "v1", "inbound") == ["10.0.0.1"]
    assert backend(of, "v1", "inbound").peer_tls == ()


def test_what_is_not_exported_is_not_opened() -> None:
    assert not inbound(made(SERVICE, PEER % "*", FAR))
    assert not inbound(made(SERVICE, PEER % "*", FAR, EXPORT % ("other", "west")))
    assert not inbound(made(SERVICE, PEER % "*", FAR, EXPORT % ("*", "south")))
    assert not inbound(made(PEER % "*", FAR, EXPORT % ("*", "*")))  # the service is the peer's own
    assert not inbound(made(SERVICE, PEER % "*", EXPORT % ("*", "*"), bundles={}))


TLS = "  trafficPolicy: {tls: {%s}}"


def test_tls_that_cannot_be_had_leaves_no_endpoints_rather_than_plain_text() -> None:
    of = made(SERVICE, RULE % (TLS % "mode: MUTUAL, credentialName: none"))
    assert addresses(of) == []
    assert backend(of).tls is None
    assert [(each.subject.name, each.reason) for each in of.findings] == [("web", "InvalidCredential")]


def test_tls_of_each_mode() -> None:
    simple = backend(made(SERVICE, RULE % (TLS % "mode: SIMPLE, sni: x.example"))).tls
    assert simple is not None
    assert (simple.mode, simple.sni, simple.ca, simple.certificate) == (UpstreamTlsMode.SIMPLE, "x.example", "", None)
    assert simple.subject_alt_names == ("spiffe://x/ns/shop/sa/web",)  # the ServiceEntry's, as the rule has none
    own = backend(made(SERVICE, RULE % (TLS % "mode: SIMPLE, subjectAltNames: [y.example]"))).tls
    assert own is not None
    assert own.subject_alt_names == ("y.example",)
    files = "mode: MUTUAL, clientCertificate: /certs/web.pem, privateKey: /certs/web.key, caCertificates: /certs/ca.pem"
    of = made(SERVICE, RULE % (TLS % files))
    mutual = backend(of).tls
    assert mutual is not None
    assert mutual.certificate is not None
    assert mutual.certificate.key in of.secrets
    istio = backend(made(SERVICE, RULE % (TLS % "mode: ISTIO_MUTUAL"))).tls
    assert istio is not None
    assert istio.bundles == (("east.example.com", "the gateway's roots"),)
    assert backend(made(SERVICE, RULE % (TLS % "mode: DISABLE"))).tls is None


PLACES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: grpc, protocol: GRPC}]
  endpoints:
    - {address: 10.0.0.1, locality: r1/z1}
    - {address: 10.0.0.2, locality: r1/z2}
    - {address: 10.0.0.3, locality: r2/z1}
"""


def balanced(balancer: str, more: str = "") -> str:
    return (
        RULE.replace("  subsets: [{name: v1, labels: {version: v1}}]", f"  trafficPolicy: {{loadBalancer: {{{balancer}}}{more}}}")
        % ""
    )


def test_distribute_leaves_out_what_it_does_not_name() -> None:
    rule = balanced("localityLbSetting: {distribute: [{from: '*', to: {r1/z1: 90, r1/z2: 10}}]}")
    of = made(PLACES, rule, ROUTE.replace(", subset: v1", ""))
    backend = of.snapshot.parts[f"backend/outbound|80||{WEB}"]
    assert isinstance(backend, Backend)
    assert backend.locality_weights == (("r1/z1", 90), ("r1/z2", 10))
    endpoints = of.snapshot.endpoints(f"outbound|80||{WEB}")
    assert [(each.address, each.priority) for each in endpoints] == [("10.0.0.1", 0), ("10.0.0.2", 0)]


def test_zone_aware_knows_its_own_zone() -> None:
    of = made(PLACES, balanced("zoneAwareLbSetting: {minClusterSize: 2}"), ROUTE.replace(", subset: v1", ""))
    backend = of.snapshot.parts[f"backend/outbound|80||{WEB}"]
    assert isinstance(backend, Backend)
    assert (backend.zone_aware, backend.zone) == (2, str(of.setting.place.locality))


def test_ports_of_grpc_are_spoken_to_in_http2_and_offer_it_over_tls() -> None:
    rule = balanced("simple: RANDOM", ", tls: {mode: SIMPLE, sni: x.example}")
    route = ROUTE.replace("host: web, subset: v1", "host: web, port: {number: 80}").replace(
        "{destination: {host: web}", "{destination: {host: web, port: {number: 90}}"
    )
    parts = made(PLACES, rule, route).snapshot.parts
    plain, grpc = parts[f"backend/outbound|80||{WEB}"], parts[f"backend/outbound|90||{WEB}"]
    assert isinstance(plain, Backend)
    assert isinstance(grpc, Backend)
    assert plain.tls is not None
    assert grpc.tls is not None
    assert (plain.http2, plain.tls.alpn) == (None, ("http/1.1",))
    assert (grpc.http2, grpc.tls.alpn) == (Http2(always=True), ("h2",))


def test_a_client_that_decides_is_offered_both() -> None:
    rule = balanced("simple: RANDOM", ", tls: {mode: SIMPLE}, connectionPool: {http: {useClientProtocol: true}}")
    backend = made(PLACES, rule, ROUTE.replace(", subset: v1", "")).snapshot.parts[f"backend/outbound|80||{WEB}"]
    assert isinstance(backend, Backend)
    assert backend.tls is not None
    assert (backend.http2, backend.tls.alpn) == (Http2(client=True), ("h2", "http/1.1"))


def test_an_annotation_that_asks_for_what_is_not_there_is_named() -> None:
    rule = balanced("simple: UNSPECIFIED").replace(
        "namespace: shop}", "namespace: shop, annotations: {fedgate.io/balance: FASTEST}}"
    )
    (told,) = [each for each in made(PLACES, rule).findings if each.reason == "UnknownBalance"]
    assert "'FASTEST'" in told.message
    assert "PEAK_EWMA" in told.message


def test_what_the_node_says_reaches_every_backend() -> None:
    node = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate}
spec: {cluster: east, defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}
"""
    assert [backend.limits.connections for backend in made(node, SERVICE).snapshot.backends()] == [7]
