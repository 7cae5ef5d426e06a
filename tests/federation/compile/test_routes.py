"""Destinations, ports, gateways and sources of routes: what is decided when a table is made."""

from __future__ import annotations

import pytest
from compiling import compiled

from federation.compile.whole import Compiled
from gateway.snapshot import ClaimMatch, Forward, MatchKind, Mirror, Route, StringMatch, VirtualHost

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 9080, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: many, namespace: shop}
spec: {ports: [{port: 80, name: http}, {port: 8080, name: http-alt}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec: {selector: {}, servers: [{port: {number: %d, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: [front.example.com]
  gateways: [edge/edge, mesh]
  http:
    - %s
"""


def made(http: str, port: int = 80) -> Compiled:
    return compiled(SERVICES % (port, http))


def routes(of: Compiled, table: str = "http.80", name: str = "front.example.com:80") -> tuple[Route, ...]:
    host = of.snapshot.parts[f"host/{table}/{name}"]
    assert isinstance(host, VirtualHost)
    return host.routes


def backends(of: Compiled, **where: str) -> list[tuple[str, int]]:
    (route,) = routes(of, **where)
    assert isinstance(route.action, Forward)
    return [(split.backend, split.weight) for split in route.action.splits]


@pytest.mark.parametrize(
    ("destination", "backend", "reasons"),
    [
        ("{host: web}", "outbound|9080||web.shop.svc.cluster.local", []),  # its only port
        ("{host: many}", "outbound|80||many.shop.svc.cluster.local", ["PortRequired"]),  # the listener's, said so
        ("{host: many, port: {number: 8080}}", "outbound|8080||many.shop.svc.cluster.local", []),
        ("{host: web, port: {number: 1}}", "outbound|1||web.shop.svc.cluster.local", ["PortNotFound"]),
        ("{host: web, subset: v1}", "outbound|9080|v1|web.shop.svc.cluster.local", ["SubsetNotFound"]),
        ("{host: gone}", "outbound|80||gone.shop.svc.cluster.local", ["BackendNotFound"]),
    ],
)
def test_destinations(destination: str, backend: str, reasons: list[str]) -> None:
    of = made(f"route: [{{destination: {destination}}}]")
    assert backends(of) == [(backend, 1)]
    assert f"backend/{backend}" in of.snapshot.parts
    assert sorted({each.reason for each in of.findings}) == reasons


def test_a_port_that_nothing_says_is_an_error_of_reference() -> None:
    of = made("route: [{destination: {host: many}}]", port=8888)
    assert backends(of, table="http.8888", name="front.example.com:8888") == [("outbound|8888||many.shop.svc.cluster.local", 1)]
    assert [each.reason for each in of.findings if not each.warning] == ["PortRequired"]


def test_weights_of_several_and_of_one() -> None:
    of = made("route: [{destination: {host: web}, weight: 90}, {destination: {host: many, port: {number: 80}}, weight: 10}]")
    assert [weight for _, weight in backends(of)] == [90, 10]
    assert [weight for _, weight in backends(made("route: [{destination: {host: web}, weight: 7}]"))] == [1]


def matched(match: str, *, table: str = "http.80") -> int:
    of = made(f"match: [{match}]\n      route: [{{destination: {{host: web}}}}]")
    return len(routes(of, table=table))


def test_gateways_ports_and_sources_are_decided_by_the_table() -> None:
    assert matched("{gateways: [edge/edge]}") == 1
    assert matched("{gateways: [edge/edge]}", table="mesh") == 0
    assert matched("{gateways: [mesh]}") == 0
    assert matched("{gateways: [mesh]}", table="mesh") == 1
    assert matched("{port: 80}") == 1
    assert matched("{port: 81}") == 0
    assert matched("{sourceLabels: {app: web}}") == 1  # ignored at gateways (FIELD b8)
    assert matched("{sourceLabels: {app: web}}", table="mesh") == 0
    assert matched("{sourceLabels: {istio: ingressgateway}}", table="mesh") == 1
    assert matched("{sourceNamespace: shop}", table="mesh") == 0


def test_names_for_the_log() -> None:
    of = made("name: api\n      match: [{name: v1}, {uri: {prefix: /x}}]\n      route: [{destination: {host: web}}]")
    assert [route.name for route in routes(of)] == ["api.v1", "api"]


def only(of: Compiled) -> tuple[Route, Forward]:
    (route,) = routes(of)
    assert isinstance(route.action, Forward)
    return route, route.action


@pytest.mark.parametrize("fault", ["abort: {httpStatus: 500, percentage: {value: 1}}", "abort: {httpStatus: 500}"])
def test_with_a_fault_neither_timeout_nor_retries_hold(fault: str) -> None:
    """Trap 5."""
    body = "route: [{destination: {host: web}}]\n      timeout: 1s\n      retries: {attempts: 5}"
    plain, faulty = only(made(body))[1], only(made(f"{body}\n      fault: {{{fault}}}"))[1]
    assert plain.retry is not None
    assert (plain.timeout_ms, plain.retry.attempts) == (1000, 5)
    assert (faulty.timeout_ms, faulty.retry) == (0, None)


def test_mirrors_have_backends_of_their_own() -> None:
    of = made(
        "route: [{destination: {host: web}}]\n      mirror: {host: many, port: {number: 8080}}\n      mirrorPercentage: {value: 10}"
    )
    (mirror,) = only(of)[1].mirrors
    assert mirror == Mirror("outbound|8080||many.shop.svc.cluster.local", 100_000)
    assert f"backend/{mirror.backend}" in of.snapshot.parts
    lost = made("route: [{destination: {host: web}}]\n      mirror: {host: gone}")
    assert [each.path for each in lost.findings if not each.warning] == ["spec.http[0].mirror.host"]
    assert "copies are thrown away" in str(lost.findings[0])


def test_a_single_destinations_headers_are_the_routes() -> None:
    of = made(
        "route: [{destination: {host: web}, headers: {request: {set: {x: d}}}}]\n      headers: {request: {set: {x: r, y: r}}}"
    )
    route, forward = only(of)
    assert route.request_headers.set == (("x", "d"), ("y", "r"))
    assert not forward.splits[0].request_headers


def test_filters_stay_with_routes_that_send_on() -> None:
    cors = "corsPolicy: {allowOrigins: [{exact: a}]}"
    assert only(made(f"route: [{{destination: {{host: web}}}}]\n      {cors}"))[0].cors is not None
    (moved,) = routes(made(f"redirect: {{uri: /x}}\n      {cors}"))
    assert moved.cors is None


def test_claims_are_warned_about_until_somebody_verifies_them() -> None:
    head, _, tail = SERVICES.partition("gateways: [edge/edge, mesh]")
    text = (head + "gateways: [edge/edge]" + tail) % (
        80,
        "match: [{headers: {'@request.auth.claims.sub': {}}}]\n      redirect: {uri: /x}",
    )
    of = compiled(text)
    assert [(each.reason, each.warning) for each in of.findings] == [("NoVerifiedClaims", True)]
    assert routes(of)[0].match.claims == (ClaimMatch(("sub",), StringMatch(MatchKind.PRESENT)),)
