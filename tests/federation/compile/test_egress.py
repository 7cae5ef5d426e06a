"""Backends that lead outside: resolution, who may use them, ALLOW_ANY; and that ExternalServices are what they expand to."""

import msgspec
import pytest
import yaml
from compiling import compiled, inputs_of
from written import raw_documents

from discovery.model import Endpoint, Health, Resolution
from federation.compile.egress import logical_id
from federation.compile.services import described
from federation.resources.expansion import expanded
from federation.resources.read import judge_all
from federation.verdicts import of_backend
from gateway.faults import validate
from gateway.parts.access import Allowed
from gateway.snapshot import Balance
from gateway.verdicts import Verdict

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: shop}
spec:
  hosts: [%s]
  resolution: %s
  ports: [%s]
  %s
"""
HTTP = "{number: 80, name: http, protocol: HTTP, targetPort: 8080}"
TCP = "{number: 9000, name: tcp, protocol: TCP}"
POLICY = """
apiVersion: fedgate.io/v1
kind: ServicePolicy
metadata: {name: %s}
spec: {hosts: [%s], %s}
"""


def entry(host, resolution, ports=HTTP, more=""):
    return ENTRY % (host, resolution, ports, more)


def backend(text, name, **changes):
    made = compiled(text, **changes)
    assert validate(made.snapshot) == []
    return made.snapshot.parts[f"backend/{name}"]


def test_none_goes_where_the_client_meant_within_its_addresses():
    found = backend(entry("a.example", "NONE", more="addresses: [10.7.0.0/16]"), "outbound|80||a.example")
    assert (found.balance, found.dynamic_dns, found.dynamic_hosts) == (Balance.PASSTHROUGH, True, ("a.example",))
    assert (found.dynamic_networks, found.dynamic_port) == (("10.7.0.0/16",), 8080)


@pytest.mark.parametrize(("addresses", "networks"), [("", ("0.0.0.0/0", "::/0")), ("addresses: [10.7.0.0/16]", ("10.7.0.0/16",))])
def test_tcp_of_none_has_no_names(addresses, networks):
    route = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec: {hosts: [a.example], gateways: [g], tcp: [{route: [{destination: {host: a.example, port: {number: 9000}}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: shop}
spec: {servers: [{port: {number: 9000, name: tcp, protocol: TCP}, hosts: [a.example]}]}
"""
    found = backend(entry("a.example", "NONE", TCP, addresses) + route, "outbound|9000||a.example")
    assert (found.dynamic_hosts, found.dynamic_networks) == ((), networks)


def test_names_below_a_wildcard_and_the_private_networks_they_may_lead_to():
    private = POLICY % ("p", "'*.a.example'", "privateAddresses: [10.0.0.0/8]")
    found = backend(entry("'*.a.example'", "DYNAMIC_DNS") + "---" + private, "outbound|80||*.a.example")
    assert (found.dynamic_hosts, found.dynamic_networks, found.hash) == (("*.a.example",), ("10.0.0.0/8",), None)


def test_a_subset_or_port_that_is_not_there_leads_nowhere():
    route = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec:
  hosts: ['*.a.example']
  http:
  - match: [{uri: {prefix: /v2}}]
    route: [{destination: {host: '*.a.example', subset: v2}}]
  - route: [{destination: {host: '*.a.example', port: {number: 81}}}]
"""
    made = compiled(entry("'*.a.example'", "DYNAMIC_DNS") + route).snapshot.parts
    for name in ("outbound|80|v2|*.a.example", "outbound|81||*.a.example"):
        assert not made[f"backend/{name}"].dynamic_dns
        assert made[f"endpoints/{name}"].endpoints == ()


@pytest.mark.parametrize("resolution", ["DYNAMIC_DNS", "NONE"])
def test_without_the_tls_it_asks_for_nothing_is_sent_in_plain_text(resolution):
    rule = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: out, namespace: shop}
spec: {host: '*.a.example', trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /certs/gone.pem}}}
"""
    found = backend(entry("'*.a.example'", resolution) + rule, "outbound|80||*.a.example")
    assert (found.dynamic_dns, found.balance, found.tls) == (False, Balance.LEAST_REQUEST, None)


def test_nor_where_a_rule_asks_for_passthrough():
    text = (
        entry("a.example", "STATIC", more="endpoints: [{address: 192.0.2.1}]")
        + """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: out, namespace: shop}
spec:
  host: a.example
  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, tls: {mode: SIMPLE, caCertificates: /certs/gone.pem}}
"""
    )
    assert backend(text, "outbound|80||a.example").balance is Balance.LEAST_REQUEST


def test_one_address_at_a_time_has_one_id_and_is_judged_by_it():
    text = entry("a.example", "DNS_ROUND_ROBIN")
    inputs = inputs_of(text)
    (service,) = [each.service for each in described(inputs.resources, inputs.node).dns]
    assert service.resolution is Resolution.DNS_ROUND_ROBIN

    def at(*addresses):
        endpoints = tuple(Endpoint(each, ports=(("http", 8080),), cluster="east") for each in addresses)
        resolved = msgspec.structs.replace(service, endpoints=endpoints)
        parts = compiled(text, services={"a.example": resolved}).snapshot.parts
        return parts["backend/outbound|80||a.example"], parts["endpoints/outbound|80||a.example"], resolved

    made, endpoints, _ = at("192.0.2.1", "192.0.2.2")
    assert made.logical
    assert [(each.id, each.address) for each in endpoints.endpoints] == [(logical_id("a.example", 8080), "192.0.2.1")]
    _, endpoints, resolved = at("192.0.2.9")
    assert [(each.id, each.address) for each in endpoints.endpoints] == [("a.example:8080", "192.0.2.9")]
    failed = {"a.example:8080": Verdict(Health.UNHEALTHY, 0, 1, "no")}
    assert of_backend(made, endpoints, resolved, checks=failed) == failed


def test_who_may_use_it_and_from_where():
    text = (
        entry("a.example", "STATIC")
        + "---"
        + POLICY
        % (
            "p",
            "a.example",
            "from: [{principals: [x/ns/y/sa/z]}, {ipBlocks: [10.0.0.0/8]}], sourceAddress: 10.0.0.7",
        )
    )
    found = backend(text, "outbound|80||a.example")
    assert found.allowed == (Allowed(principals=("x/ns/y/sa/z",)), Allowed(ip_blocks=("10.0.0.0/8",)))
    assert found.source_address == "10.0.0.7"
    nobody = backend(entry("a.example", "STATIC") + "---" + POLICY % ("p", "a.example", "from: []"), "outbound|80||a.example")
    assert nobody.allowed == ()


def test_a_rule_for_all_does_not_end_where_a_host_has_one_of_its_own():
    text = "---".join(
        [
            entry("a.b.example", "STATIC"),
            POLICY % ("all", "'*'", "from: [{ipBlocks: [10.0.0.0/8]}], rateLimits: [{requests: 9}]"),
            POLICY % ("closer", "'*.b.example'", "healthCheck: {tcp: {}}, rateLimits: [{requests: 3}]"),
            POLICY % ("own", "a.b.example", "sourceAddress: 10.0.0.7"),
        ]
    )
    found = backend(text, "outbound|80||a.b.example")
    assert found.allowed == (Allowed(ip_blocks=("10.0.0.0/8",)),)
    assert [limit.tokens for limit in found.rate_limits] == [3]
    assert found.health_check is not None
    assert found.source_address == "10.0.0.7"


def test_workloads_that_say_who_they_run_as_are_held_to_it():
    rule = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: out, namespace: shop}
spec: {host: a.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""
    both = "endpoints: [{address: 192.0.2.1, serviceAccount: a}, {address: 192.0.2.2, serviceAccount: b}]"
    names = backend(entry("a.example", "STATIC", more=both) + rule, "outbound|80||a.example").tls.subject_alt_names
    assert names == ("spiffe://east.example.com/ns/shop/sa/a", "spiffe://east.example.com/ns/shop/sa/b")
    one = both.replace(", serviceAccount: b", "")
    assert backend(entry("a.example", "STATIC", more=one) + rule, "outbound|80||a.example").tls.subject_alt_names == ()


NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate}
spec: {cluster: east, outboundTrafficPolicy: %s}
"""


def test_what_nobody_knows():
    blocked = compiled(NODE % "REGISTRY_ONLY").snapshot.parts
    assert blocked["host/mesh/block_all"].routes[0].action.status == 502
    assert "backend/PassthroughCluster" not in blocked
    reserved = POLICY % ("p", "a.example", "from: []")
    every = POLICY % ("q", "'*'", "from: [{ipBlocks: [10.0.0.0/8]}], privateAddresses: [10.0.0.0/8]")
    made = compiled("---".join([NODE % "ALLOW_ANY", reserved, every])).snapshot.parts
    found = made["backend/PassthroughCluster"]
    assert "host/mesh/block_all" not in made
    assert (found.dynamic_hosts, found.dynamic_except, found.dynamic_port) == (("*",), ("a.example",), -1)
    assert (found.allowed, found.dynamic_networks) == ((Allowed(ip_blocks=("10.0.0.0/8",)),), ("10.0.0.0/8",))
    assert made["host/mesh/allow_any"].routes[0].action.splits[0].backend == "PassthroughCluster"


EXTERNAL = """
apiVersion: fedgate.io/v1
kind: ExternalService
metadata: {name: payments, namespace: shop}
spec:
  hosts: [api.example, '*.cdn.example']
  ports: [{number: 443, protocol: HTTPS}, {number: 8443, protocol: TLS}]
  tls: {mode: SIMPLE, caCertificates: /certs/ca.pem}
  from: [{ipBlocks: [10.0.0.0/8]}]
  rateLimit: {requests: 5}
  healthCheck: {http: {path: /x}}
  timeout: 2s
  connectTimeout: 1s
  gateway: {httpPort: 8080}
"""


def test_what_it_expands_to_is_what_it_is():
    text = EXTERNAL.replace(", {number: 8443, protocol: TLS}", "")
    (raw,) = raw_documents(text)
    (judged,) = judge_all([raw])
    documents = [dict(each.content) for each in expanded(raw, judged.document.spec)]
    assert [each["kind"] for each in documents] == [
        *["ServiceEntry"] * 2,
        *["DestinationRule"] * 2,
        *["VirtualService"] * 2,
        "Gateway",
        "ServicePolicy",
    ]
    direct, by_hand = compiled(text), compiled("---\n".join(yaml.safe_dump(each) for each in documents))
    assert direct.snapshot == by_hand.snapshot
    assert {(each.subject.kind, each.subject.name) for each in direct.findings} <= {("ExternalService", "payments")}


def test_a_rule_beside_it_does_not_take_its_tls_away():
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: own, namespace: shop, creationTimestamp: '2020-01-01T00:00:00Z'}
spec: {host: api.example, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 9s}}}}
"""
    external = EXTERNAL.replace(", {number: 8443, protocol: TLS}", "").replace(
        ", '*.cdn.example']", "]\n  endpoints: [{address: 192.0.2.1}]"
    )
    made = compiled(external + "---" + rule)
    assert made.snapshot.parts["backend/outbound|80||api.example"].tls is not None
    assert [(each.subject.name, each.reason) for each in made.findings if each.reason == "Overruled"] == [("own", "Overruled")]
