"""ExternalService documents: what they may say, and the documents they stand for."""

import itertools

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from written import assert_one_error, load, raw_documents, spec, warnings

from discovery.model import Resolution
from federation.resources.expansion import expanded
from federation.resources.read import judge_all

SECURE = "ports: [{number: 443, protocol: HTTPS}]"
TLS = "tls: {mode: SIMPLE}"


def made(body, name="x"):
    """What an ExternalService stands for: {kind: [spec, …]}."""
    head = (
        f"apiVersion: fedgate.io/v1\nkind: ExternalService\nmetadata: {{name: {name}, namespace: shop, labels: {{a: b}}}}\nspec:\n"
    )
    (raw,) = raw_documents(head + "\n".join(f"  {line}" for line in body.strip().splitlines()) + "\n")
    (judged,) = judge_all([raw])
    assert not judged.errors, judged.errors
    found = {}
    for document in expanded(raw, judged.document.spec):
        assert document.content["metadata"]["name"].startswith(f"external-{name}")
        assert document.content["metadata"]["labels"] == {"a": "b"}
        found.setdefault(document.content["kind"], []).append(document.content["spec"])
    return found


def test_https_that_the_gateway_speaks_is_http_for_clients():
    found = made(f"hosts: [API.a.example]\n{SECURE}\n{TLS}")
    assert found == {
        "ServiceEntry": [
            {
                "hosts": ["api.a.example"],
                "location": "MESH_EXTERNAL",
                "resolution": "DNS",
                "ports": [{"number": 80, "name": "http-80", "protocol": "HTTP", "targetPort": 443}],
            }
        ],
        "DestinationRule": [{"host": "api.a.example", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}],
    }


@pytest.mark.parametrize(
    ("ports", "tls", "expected"),
    [
        ("{number: 443, protocol: HTTPS}", False, [(443, "HTTPS", None)]),
        ("{number: 8443, protocol: HTTPS, targetPort: 9443}", True, [(80, "HTTP", 9443)]),
        ("{number: 443, protocol: HTTPS}, {number: 8443, protocol: HTTPS}", True, [(80, "HTTP", 443), (8443, "HTTP", None)]),
        ("{number: 80, protocol: HTTP}, {number: 443, protocol: HTTPS}", True, [(80, "HTTP", None), (443, "HTTP", None)]),
        ("{number: 443, protocol: TLS}", True, [(443, "TCP", None)]),
        ("{number: 443, protocol: GRPC}", True, [(443, "GRPC", None)]),
        ("{number: 80, protocol: HTTP, targetPort: 443}", True, [(80, "HTTP", 443)]),
    ],
)
def test_ports(ports, tls, expected):
    (entry,) = made(f"hosts: [a.example]\nports: [{ports}]\n{TLS if tls else ''}")["ServiceEntry"]
    assert [(port["number"], port["protocol"], port.get("targetPort")) for port in entry["ports"]] == expected


def test_tls_is_for_the_ports_of_https_where_there_are_any():
    found = made(
        f"hosts: [a.example]\nports: [{{number: 80, protocol: HTTP}}, {{number: 443, protocol: HTTPS}}]\n{TLS}\nconnectTimeout: 1s"
    )
    pool = {"connectionPool": {"tcp": {"connectTimeout": "1s"}}}
    assert found["DestinationRule"] == [
        {
            "host": "a.example",
            "trafficPolicy": {**pool, "portLevelSettings": [{"port": {"number": 443}, **pool, "tls": {"mode": "SIMPLE"}}]},
        }
    ]


def test_no_tls_is_said_where_it_is_written():
    found = made("hosts: [a.example]\nports: [{number: 443, protocol: HTTPS}]\ntls: {mode: DISABLE}")
    assert found["DestinationRule"] == [{"host": "a.example", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}]
    assert [port["protocol"] for port in found["ServiceEntry"][0]["ports"]] == ["HTTPS"]


@pytest.mark.parametrize(
    ("body", "resolutions"),
    [
        ("hosts: [a.example]", ["DNS"]),
        ("hosts: ['*.a.example']", ["DYNAMIC_DNS"]),
        ("hosts: [a.example, '*.a.example', b.example]", ["DNS", "DYNAMIC_DNS"]),
        ("hosts: [a.example]\nendpoints: [{address: 192.0.2.1}]", ["STATIC"]),
        ("hosts: ['*.a.example']\nendpoints: [{address: b.example}]", ["DNS"]),
        ("hosts: [a.example]\naddresses: [10.0.0.0/8]", ["NONE"]),
        ("hosts: [a.example]\nresolution: DNS_ROUND_ROBIN", ["DNS_ROUND_ROBIN"]),
    ],
)
def test_resolutions(body, resolutions):
    assert [entry["resolution"] for entry in made(f"{body}\n{SECURE}")["ServiceEntry"]] == resolutions


def test_what_istio_has_no_field_for_is_a_service_policy_with_patient_checks():
    found = made(f"""
hosts: [a.example]
{SECURE}
from: []
rateLimit: {{requests: 5}}
healthCheck: {{http: {{}}, timeout: 1s}}
sourceAddress: 192.0.2.7
privateAddresses: [10.0.0.0/8]
""")
    assert found["ServicePolicy"] == [
        {
            "hosts": ["a.example"],
            "from": [],
            "sourceAddress": "192.0.2.7",
            "privateAddresses": ["10.0.0.0/8"],
            "rateLimits": [{"requests": 5}],
            "healthCheck": {"interval": "10s", "timeout": "1s", "unhealthyThreshold": 3, "healthyThreshold": 2, "http": {}},
        }
    ]


def test_an_entrance_is_a_gateway_with_routes():
    found = made("""
hosts: [a.example]
ports: [{number: 80, protocol: HTTP}, {number: 443, protocol: HTTPS}]
gateway: {selector: {istio: egress}, httpPort: 8080, tlsPort: 8443, bind: 192.0.2.1}
""")
    (gateway,) = found["Gateway"]
    assert [(each["port"]["number"], each["port"]["protocol"], each.get("tls")) for each in gateway["servers"]] == [
        (8080, "HTTP", None),
        (8443, "TLS", {"mode": "PASSTHROUGH"}),
    ]
    (routes,) = found["VirtualService"]
    assert routes["gateways"] == ["mesh", "external-x"]
    assert [each["route"][0]["destination"]["port"]["number"] for each in routes["http"]] == [80, 80]
    assert routes["tls"][0]["match"] == [{"gateways": ["external-x"], "port": 8443, "sniHosts": ["a.example"]}]


def test_times_are_routes():
    (routes,) = made(f"hosts: [a.example]\n{SECURE}\n{TLS}\ntimeout: 3s\nretries: {{attempts: 2}}")["VirtualService"]
    assert [(each["timeout"], each["retries"]) for each in routes["http"]] == [("3s", {"attempts": 2})]
    assert "VirtualService" not in made(f"hosts: [a.example]\n{SECURE}\n{TLS}")


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        (SECURE, "hosts", "is required"),
        (f"hosts: []\n{SECURE}", "hosts", "1 to 256"),
        (f"hosts: ['*']\n{SECURE}", "hosts[0]", "every host"),
        (f"hosts: [short]\n{SECURE}", "hosts[0]", "short name"),
        (f"hosts: [a.b, A.b]\n{SECURE}", "hosts[1]", "written twice"),
        ("hosts: [a.b]\nports: []", "ports", "at least one"),
        ("hosts: [a.b]\nports: [{number: 1, protocol: HTTP}, {number: 1, protocol: TCP}]", "ports[1].number", "written twice"),
        ("hosts: [a.b]\nports: [{number: 0, protocol: HTTP}]", "ports[0].number", "1..65535"),
        (f"hosts: [a.b]\n{SECURE}\nresolution: LATER", "resolution", "must be one of"),
        (f"hosts: [a.b]\n{SECURE}\ntimeout: 0s", "timeout", "at least 1ms"),
        (f"hosts: [a.b]\n{SECURE}\nsourceAddress: here", "sourceAddress", "no IP"),
        (f"hosts: [a.b]\n{SECURE}\nfrom: [{{}}]", "from[0]", "says nothing of who"),
        (f"hosts: [a.b]\n{SECURE}\ngateway: {{}}", "gateway", "has no port"),
        (f"hosts: [a.b]\n{SECURE}\ngateway: {{httpPort: 8080}}", "gateway.httpPort", "no port is of HTTP"),
        (f"hosts: [a.b]\n{SECURE}\n{TLS}\ngateway: {{tlsPort: 8080}}", "gateway.tlsPort", "no port is left"),
        (f"hosts: [a.b]\n{SECURE}\ntls: {{mode: MUTUAL}}", "tls", "MUTUAL needs"),
        ("hosts: ['*.b']\nports: [{number: 9, protocol: TCP}]", "", "its ServiceEntry would be wrong: spec.ports[0].protocol"),
    ],
)
def test_mistakes(body, path, part):
    if "MUTUAL" in body:
        body = body.replace("{mode: MUTUAL}", "{mode: MUTUAL, clientCertificate: /a}")
    assert_one_error("ExternalService", body, f"spec.{path}".rstrip("."), part)


def test_warnings():
    assert "there are none to see" in str(warnings("ExternalService", f"hosts: [a.b]\n{SECURE}\ntimeout: 1s"))
    assert "by its own" in str(warnings("ExternalService", f"hosts: ['*.b']\n{SECURE}\ntls: {{mode: SIMPLE, sni: x.b}}"))
    assert spec("ExternalService", f"hosts: [a.b]\n{SECURE}").resolution is None


def test_what_is_read_stands_among_the_others():
    found = load(
        f"apiVersion: fedgate.io/v1\nkind: ExternalService\nmetadata: {{name: x}}\nspec:\n  hosts: [a.example]\n  {SECURE}\n  {TLS}\n"
    )
    assert not found.problems
    assert [each.name for each in found.external_services] == ["x"]
    (entry,) = found.service_entries
    assert (entry.name, entry.owner, entry.spec.resolution) == ("external-x", ("ExternalService", "x"), Resolution.DNS)
    assert len(found.destination_rules) == 1
    assert [(each.kind, each.name) for each in found.every()] == [("ExternalService", "x")]


PROTOCOLS = ("HTTP", "HTTPS", "TLS", "TCP", "GRPC")
OPTIONS = (
    "tls: {mode: SIMPLE}",
    "from: [{ipBlocks: [10.0.0.0/8]}]",
    "rateLimit: {requests: 5}",
    "healthCheck: {tcp: {}}",
    "timeout: 3s",
    "retries: {attempts: 1}",
    "connectTimeout: 1s",
    "sourceAddress: 192.0.2.1",
    "exportTo: ['*']",
)


@given(
    st.lists(st.sampled_from(PROTOCOLS), min_size=1, max_size=3),
    st.lists(st.sampled_from(OPTIONS), unique=True),
    st.sampled_from(["[a.example]", "[a.example, b.example]"]),
)
def test_whatever_is_good_stands_for_good_documents(protocols, options, hosts):
    numbers = itertools.chain([443, 80], itertools.count(9000))
    ports = ", ".join(f"{{number: {number}, protocol: {each}}}" for number, each in zip(numbers, protocols, strict=False))
    found = made(f"hosts: {hosts}\nports: [{ports}]\n" + "\n".join(options))
    kinds = {
        "ServiceEntry": "networking.istio.io/v1",
        "DestinationRule": "networking.istio.io/v1",
        "VirtualService": "networking.istio.io/v1",
        "ServicePolicy": "fedgate.io/v1",
    }
    for kind, specs in found.items():
        for number, each in enumerate(specs):
            text = yaml.safe_dump({"apiVersion": kinds[kind], "kind": kind, "metadata": {"name": f"x{number}"}, "spec": each})
            assert not load(text).problems
