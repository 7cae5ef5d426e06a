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


WORKLOAD = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: %s, namespace: shop, labels: {app: api}}
spec: {address: '%s', ports: {http: 9000}}
"""
SELECTED = "resolution: %s\nworkloadSelector: {labels: {app: api}}"


def test_names_are_selected_too() -> None:
    several = [
        WORKLOAD % ("a", "a.example.net"),
        WORKLOAD % ("b", "10.0.0.2"),
        (WORKLOAD % ("c", "unix:///run/c")).replace(", ports: {http: 9000}", ""),
    ]
    found = made(entry(SELECTED % "DNS"), *several)
    (service,) = found.dns
    assert [(each.name, each.endpoint.port("http")) for each in service.targets] == [("a.example.net", 9000), ("10.0.0.2", 9000)]
    assert [(each.subject.name, each.reason) for each in found.problems] == [("c", "NotAName")]


def test_a_static_entry_does_not_get_a_name_that_a_worker_would_have_to_look_up() -> None:
    found = made(entry(SELECTED % "STATIC"), WORKLOAD % ("a", "a.example.net"), WORKLOAD % ("b", "10.0.0.2"))
    assert [each.address for each in found.static[0].endpoints] == ["10.0.0.2"]
    assert [(each.subject.name, each.reason) for each in found.problems] == [("a", "NotAnAddress")]


def test_one_at_a_time_takes_one_workload() -> None:
    found = made(entry(SELECTED % "DNS_ROUND_ROBIN"), WORKLOAD % ("a", "a.example.net"), WORKLOAD % ("b", "b.example.net"))
    assert [each.name for each in found.dns[0].targets] == ["a.example.net"]
    assert found.dns[0].service.resolution is Resolution.DNS_ROUND_ROBIN
    assert [(each.subject.name, each.reason) for each in found.problems] == [("b", "OneEndpointOnly")]


def test_what_nobody_lists_keeps_its_target_port() -> None:
    (none,) = made(entry("resolution: NONE\naddresses: [10.1.0.0/16]")).static
    assert (none.resolution, none.endpoints, none.addresses) == (Resolution.NONE, (), ("10.1.0.0/16",))
    assert [(port.number, port.target) for port in none.ports] == [(80, 8080), (81, 0)]
    (dynamic,) = made(entry("resolution: DYNAMIC_DNS").replace("API.example.com", "'*.example.com'")).static
    assert (dynamic.hostname, dynamic.resolution) == ("*.example.com", Resolution.DYNAMIC_DNS)
    (static,) = made(entry("resolution: STATIC\nendpoints: [{address: 10.0.0.1}, {network: far}]")).static
    assert [port.target for port in static.ports] == [0, 0]
    assert len(static.endpoints) == 1


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
