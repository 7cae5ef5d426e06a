"""Which names tables know: mesh names and ports, the narrower of two hosts, what nobody knows (trap 1, FIELD e1)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from compiling import compiled

from discovery.model import Port, Protocol, Service
from federation.compile.hosts import short_forms
from federation.compile.whole import Compiled
from gateway.snapshot import DirectResponse, Forward, VirtualHost

WEB = "web.shop.svc.cluster.local"


def service(hostname: str, *ports: tuple[int, Protocol]) -> Service:
    return Service(hostname, ports=tuple(Port(number, f"p{number}", protocol) for number, protocol in ports))


def domains(of: Compiled, table: str = "mesh") -> Mapping[str, tuple[str, ...]]:
    hosts = [part for part in of.snapshot.parts.values() if isinstance(part, VirtualHost) and part.table == table]
    names = [domain for host in hosts for domain in host.domains]
    assert len(names) == len(set(names)), "one name twice in one table"
    return {host.name: host.domains for host in hosts}


def mesh(*services: Service, text: str = "") -> Mapping[str, tuple[str, ...]]:
    of = compiled(text or "# nothing", services={each.hostname: each for each in services})
    return {name: found for name, found in domains(of).items() if name != "block_all"}


HTTP, TCP, UNKNOWN = Protocol.HTTP, Protocol.TCP, Protocol.UNKNOWN


@pytest.mark.parametrize(
    ("ports", "main"),
    [([(80, HTTP), (8080, HTTP)], 80), ([(9080, HTTP)], 9080), ([(9090, HTTP), (8080, UNKNOWN), (80, TCP)], 8080)],
)
def test_a_name_without_a_port_is_port_80_else_the_lowest_http_port(ports: list[tuple[int, Protocol]], main: int) -> None:
    found = mesh(service("api.example.com", *ports))
    http = [number for number, protocol in ports if protocol is not TCP]
    assert set(found) == {f"api.example.com:{number}" for number in http}
    for number in http:
        expected = {f"api.example.com:{number}", *(["api.example.com"] if number == main else [])}
        assert set(found[f"api.example.com:{number}"]) == expected


def test_kubernetes_short_forms() -> None:
    assert short_forms(WEB, "cluster.local") == ("web.shop", "web.shop.svc")
    assert short_forms("a.b.c.svc.cluster.local", "cluster.local") == ()
    assert short_forms("api.example.com", "cluster.local") == ()
    found = mesh(service(WEB, (80, HTTP)))
    assert set(found[f"{WEB}:80"]) == {f"{n}{p}" for n in (WEB, "web.shop", "web.shop.svc") for p in ("", ":80")}


def test_a_service_that_has_a_short_name_of_another_keeps_it() -> None:
    found = mesh(service(WEB, (80, HTTP)), service("web.shop", (80, HTTP)))
    assert found["web.shop:80"] == ("web.shop", "web.shop:80")
    assert "web.shop" not in found[f"{WEB}:80"]


def test_services_without_http_have_no_name_here() -> None:
    assert mesh(service(WEB, (5432, TCP))) == {}


def test_a_wildcard_service_has_its_ports_too() -> None:
    assert mesh(service("*.example.com", (80, HTTP), (8080, HTTP))) == {
        "*.example.com:80": ("*.example.com", "*.example.com:80"),
        "*.example.com:8080": ("*.example.com:8080",),
    }


VIRTUAL = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec:
  hosts: [%s]
  http: [{route: [{destination: {host: api.example.com, port: {number: 80}}}]}]
"""


def test_a_name_that_only_a_virtual_service_knows_is_port_80() -> None:
    assert mesh(text=VIRTUAL % "made.up") == {"made.up:80": ("made.up", "made.up:80")}


def test_a_wildcard_virtual_service_covers_each_service_under_it() -> None:
    of = compiled(VIRTUAL % "'*.shop.svc.cluster.local'", services={WEB: service(WEB, (80, HTTP))})
    host = of.snapshot.parts[f"host/mesh/{WEB}:80"]
    assert isinstance(host, VirtualHost)
    action = host.routes[0].action
    assert isinstance(action, Forward)
    assert action.splits[0].backend == "outbound|80||api.example.com"


def test_what_nobody_knows_is_502_on_mesh() -> None:
    host = compiled("# nothing").snapshot.parts["host/mesh/block_all"]
    assert isinstance(host, VirtualHost)
    assert host.domains == ("*",)
    assert host.routes[0].action == DirectResponse(502)


GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec: {selector: {}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [%s]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec:
  hosts: [%s]
  gateways: [edge/edge]
  http: [{directResponse: {status: 200}}]
"""


@pytest.mark.parametrize(
    ("server", "host", "served"),
    [
        ("'*.example.com'", "a.example.com", "a.example.com"),
        ("'*.example.com'", "example.com", None),  # trap 1
        ("a.example.com", "'*.example.com'", "a.example.com"),
        ("a.example.com", "b.example.com", None),
        ("'*'", "'*'", "*"),
        ("shop/a.example.com", "a.example.com", "a.example.com"),
        ("other/a.example.com", "a.example.com", None),
        ("./a.example.com", "a.example.com", None),
        ("'*/a.example.com'", "a.example.com", "a.example.com"),
    ],
)
def test_a_host_is_served_as_far_as_a_server_covers_it(server: str, host: str, served: str | None) -> None:
    of = compiled(GATEWAY % (server, host))
    found = {domain for names in domains(of, "http.80").values() for domain in names}
    assert found == {"*", served} - {None}
    unknown = of.snapshot.parts.get("host/http.80/unknown:80")
    assert (unknown is None) == (served == "*")
    assert [each.reason for each in of.findings] == ([] if served else ["HostNotInGateway"])


def test_two_gateways_on_one_port_share_a_table() -> None:
    second = (GATEWAY % ("b.example.com", "b.example.com")).replace("name: edge,", "name: two,").replace("name: v,", "name: w,")
    of = compiled(GATEWAY % ("a.example.com", "a.example.com, b.example.com") + "---" + second.replace("edge/edge", "edge/two"))
    assert set(domains(of, "http.80")) == {"a.example.com:80", "b.example.com:80", "unknown:80"}
    assert [each.reason for each in of.findings] == ["HostNotInGateway"]  # v's b is not in v's own gateway


def test_a_name_that_only_relays_know_has_no_http_on_mesh() -> None:
    of = compiled("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec: {hosts: [db.example.com], tcp: [{route: [{destination: {host: db.example.com}}]}]}
""")
    assert not [name for name in of.snapshot.parts if "db.example.com" in name]
    assert not of.findings
