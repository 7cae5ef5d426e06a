"""Documents → Services: ServiceEntry, WorkloadEntry, duplicates, DNS."""

from __future__ import annotations

from compiling import NODE, resources_of

from discovery.model import Endpoint, Locality, Resolution
from federation.compile.services import Described, described

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: shop%s}
spec:
  hosts: [API.example.com]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 81, name: alt, protocol: HTTP}]
%s
"""


def made(*documents: str, node: str = NODE % "fedgate") -> Described:
    resources, _ = resources_of("\n---\n".join([node, *documents]))
    return described(resources, resources.nodes[0])


def entry(body: str, name: str = "api", more: str = "") -> str:
    return ENTRY % (name, more, "\n".join(f"  {line}" for line in body.strip().splitlines()))


def test_inline_endpoints_with_their_ports_and_places() -> None:
    (service,) = made(
        entry("""
resolution: STATIC
location: MESH_INTERNAL
subjectAltNames: [spiffe://x/ns/a/sa/b]
endpoints:
  - {address: 10.0.0.1, ports: {http: 9000}, locality: r2/z2, weight: 3, serviceAccount: api, labels: {version: v1}}
  - {address: 10.0.0.2}
  - {address: 10.0.0.3, labels: {topology.istio.io/locality: r3.z3}, network: far}
""")
    ).static
    assert (service.hostname, service.namespace, service.external) == ("api.example.com", "shop", False)
    assert service.subject_alt_names == ("spiffe://x/ns/a/sa/b",)
    first, second, third = service.endpoints
    assert first == Endpoint(
        "10.0.0.1",
        ports=(("http", 9000), ("alt", 81)),
        labels=(("version", "v1"),),
        cluster="east",
        network="east",
        locality=Locality("r2", "z2"),
        weight=3,
        identity="shop/api",
    )
    assert (second.ports, second.locality, second.weight) == ((("http", 8080), ("alt", 81)), Locality("r1", "z1"), 1)
    assert (third.locality, third.network) == (Locality("r3", "z3"), "far")


def test_a_unix_socket_has_no_ports() -> None:
    text = entry("resolution: STATIC\nendpoints: [{address: 'unix:///run/app.sock'}]").replace(
        ", {number: 81, name: alt, protocol: HTTP}", ""
    )
    (service,) = made(text.replace(", targetPort: 8080", "")).static
    assert (service.endpoints[0].address, service.endpoints[0].ports) == ("/run/app.sock", (("http", 0),))


def test_a_selector_picks_workload_entries_of_its_namespace_by_either_labels() -> None:
    head = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
    workload = head + "metadata: {name: %s, namespace: %s, labels: {app: api}}\nspec: {address: %s}"
    (service,) = made(
        entry("resolution: STATIC\nworkloadSelector: {labels: {app: api}}"),
        workload % ("one", "shop", "10.0.0.1"),
        workload % ("two", "other", "10.0.0.2"),
        (workload % ("three", "shop", "10.0.0.3")).replace("{app: api}", "{app: web}"),
    ).static
    assert [each.address for each in service.endpoints] == ["10.0.0.1"]


def test_dns_entries_are_described_for_the_source_that_resolves() -> None:
    found = made(
        entry("resolution: DNS"),
        entry("resolution: DNS\nendpoints: [{address: a.example.net, locality: r9}, {address: b.example.net}]", "two").replace(
            "API.example.com", "other.example.com"
        ),
    )
    assert not found.static
    first, second = found.dns
    assert [target.name for target in first.targets] == ["api.example.com"]
    assert first.service.resolution is Resolution.DNS
    assert first.targets[0].endpoint.ports == (("http", 8080), ("alt", 81))
    assert [(target.name, target.endpoint.locality.region) for target in second.targets] == [
        ("a.example.net", "r9"),
        ("b.example.net", "r1"),
    ]


def test_dns_services_of_the_node() -> None:
    node = (NODE % "fedgate").rstrip().removesuffix("}") + (
        ", sources: [{name: legacy, dns: {services: [{host: Billing.corp, srv: _billing._tcp.corp.example}, {host: plain.corp}]}}]}"
    )
    billing, plain = made(node=node).dns
    assert (billing.service.hostname, [(t.name, t.srv) for t in billing.targets]) == (
        "billing.corp",
        [("_billing._tcp.corp.example", True)],
    )
    assert [(t.name, t.srv) for t in plain.targets] == [("plain.corp", False)]


def test_of_two_entries_for_one_host_the_oldest_says_the_ports_and_both_the_endpoints() -> None:
    old = entry("resolution: STATIC\nendpoints: [{address: 10.0.0.1}]", "old", ", creationTimestamp: '2026-01-01T00:00:00Z'")
    new = entry(
        "resolution: STATIC\nendpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}]",
        "a-new",
        ", creationTimestamp: '2026-02-01T00:00:00Z'",
    )
    found = made(new.replace("number: 81", "number: 82"), old)
    (service,) = found.static
    assert [port.number for port in service.ports] == [80, 81]
    assert [each.address for each in service.endpoints] == ["10.0.0.1", "10.0.0.2"]
    assert [(each.subject.name, each.reason) for each in found.problems] == [("a-new", "DuplicateHost")]


def test_an_entry_that_is_not_exported_here_is_left_out_and_says_so() -> None:
    found = made(entry("resolution: STATIC\nexportTo: ['.']\nendpoints: [{address: 10.0.0.1}]"))
    assert not found.static
    assert found.problems[0].reason == "NotExported"
