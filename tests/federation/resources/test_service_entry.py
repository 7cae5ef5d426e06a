"""ServiceEntry and WorkloadEntry documents."""

import pytest
from written import assert_one_error, spec, warnings

from discovery.model import Locality, Protocol, Resolution
from federation.resources.service_entry import Location

PORTS = "ports: [{number: 80, name: http, protocol: HTTP}]"
STATIC = f"hosts: [a.example]\nresolution: STATIC\n{PORTS}\n"


def test_a_static_service():
    said = spec(
        "ServiceEntry",
        """
        hosts: [a.example, '*.b.example']
        addresses: [240.0.0.7, 10.1.0.0/16]
        location: MESH_INTERNAL
        resolution: STATIC
        exportTo: ['.']
        subjectAltNames: [x]
        ports:
        - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
        - {number: 443, name: https, protocol: HTTPS}
        endpoints:
        - {address: 10.0.0.1, ports: {http: 8081}, labels: {v: v1}, locality: us/us-a, weight: 3, network: n, serviceAccount: sa}
        - {address: '::1'}
        """,
    )
    assert said.resolution is Resolution.STATIC
    assert said.location is Location.MESH_INTERNAL
    assert said.ports[1].protocol is Protocol.HTTPS
    assert said.endpoints[0].locality == Locality("us", "us-a")
    assert said.endpoints[0].ports == {"http": 8081}


def test_dns_and_selected_and_unix():
    assert spec("ServiceEntry", f"hosts: [a.example]\nresolution: DNS\n{PORTS}").location is Location.MESH_EXTERNAL
    assert spec("ServiceEntry", f"hosts: ['*.a.example']\nresolution: DNS\n{PORTS}\nendpoints: [{{address: b.example}}]").endpoints
    assert spec("ServiceEntry", f"{STATIC}workloadSelector: {{labels: {{app: a}}}}").workload_selector.labels == {"app": "a"}
    assert spec("ServiceEntry", f"{STATIC}endpoints: [{{address: unix:///run/a.sock}}]").endpoints[0].is_unix


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        (f"hosts: [a.b]\nresolution: LOGICAL\n{PORTS}", "resolution", "must be one of STATIC, DNS"),
        (f"hosts: [a.b]\nresolution: NONE\n{PORTS}\nendpoints: [{{address: 10.0.0.1}}]", "endpoints", "nothing to list"),
        (f"hosts: ['*.b']\nresolution: DYNAMIC_DNS\n{PORTS}\nendpoints: [{{address: 10.0.0.1}}]", "endpoints", "nothing to list"),
        (f"hosts: ['*.b']\nresolution: DYNAMIC_DNS\n{PORTS}\naddresses: [10.0.0.1]", "addresses", "addresses mean nothing"),
        (f"hosts: [a.b]\nresolution: DYNAMIC_DNS\n{PORTS}", "hosts[0]", "is a full name"),
        (f"hosts: ['*.b']\nresolution: DNS_ROUND_ROBIN\n{PORTS}", "hosts[0]", "cannot be resolved"),
        (
            f"hosts: [a.b]\nresolution: DNS_ROUND_ROBIN\n{PORTS}\nendpoints: [{{address: a.c}}, {{address: b.c}}]",
            "endpoints",
            "there are 2",
        ),
        (f"hosts: [a.b]\nresolution: DNS_ROUND_ROBIN\n{PORTS}\naddresses: [10.0.0.0/8]", "addresses[0]", "only for NONE/STATIC"),
        (
            "hosts: ['*.b']\nresolution: DYNAMIC_DNS\nports: [{number: 1, name: a, protocol: TCP}]",
            "ports[0].protocol",
            "says no name",
        ),
        (f"resolution: DNS\n{PORTS}", "hosts", "is required"),
        (f"hosts: []\nresolution: DNS\n{PORTS}", "hosts", "1 to 256"),
        (f"hosts: ['*']\nresolution: STATIC\n{PORTS}\nendpoints: [{{address: 10.0.0.1}}]", "hosts[0]", "every host"),
        (f"hosts: ['*.b']\nresolution: DNS\n{PORTS}", "hosts[0]", "cannot be resolved"),
        (f"hosts: [a.b, A.b]\nresolution: DNS\n{PORTS}", "hosts[1]", "written twice"),
        (f"hosts: [a.b]\nresolution: DNS\n{PORTS}\naddresses: [10.0.0.0/8]", "addresses[0]", "only for NONE/STATIC"),
        (f"hosts: [a.b]\nresolution: DNS\n{PORTS}\naddresses: [a]", "addresses[0]", "no IP and no CIDR"),
        (f"hosts: [a.b]\nresolution: DNS\n{PORTS}\nlocation: INSIDE", "location", "must be one of MESH_EXTERNAL"),
        (
            f"hosts: [a.b]\nresolution: DNS\n{PORTS}\nendpoints: [{{address: unix:///a}}]",
            "endpoints[0].address",
            "needs resolution STATIC",
        ),
        (f"hosts: [a.b]\nresolution: DNS\n{PORTS}\nendpoints: [{{address: 'a b'}}]", "endpoints[0].address", "no host"),
        (f"{STATIC}endpoints: [{{address: a.example}}]", "endpoints[0].address", "resolution DNS"),
        (f"{STATIC}endpoints: [{{}}]", "endpoints[0].address", "is empty"),
        (f"{STATIC}endpoints: [{{address: 10.0.0.1, ports: {{htp: 1}}}}]", "endpoints[0].ports.htp", "has no port `htp`"),
        (f"{STATIC}endpoints: [{{address: 10.0.0.1, ports: {{http: 0}}}}]", "endpoints[0].ports.http", "1..65535"),
        (f"{STATIC}endpoints: [{{address: 10.0.0.1, weight: -1}}]", "endpoints[0].weight", "0 or more"),
        (f"{STATIC}endpoints: [{{address: 10.0.0.1, locality: a//b}}]", "endpoints[0].locality", "empty part"),
        (f"{STATIC}endpoints: [{{address: 'unix://a'}}]", "endpoints[0].address", "absolute path"),
        (f"{STATIC}endpoints: [{{address: 'unix://@'}}]", "endpoints[0].address", "unix://@name"),
        (f"{STATIC}endpoints: [{{address: 'unix:///{'a' * 107}'}}]", "endpoints[0].address", "107 bytes"),
        (f"{STATIC}endpoints: [{{address: 'unix:///a', ports: {{http: 1}}}}]", "endpoints[0].ports", "has no ports"),
        (
            f"{STATIC}endpoints: [{{address: 10.0.0.1}}]\nworkloadSelector: {{labels: {{a: b}}}}",
            "workloadSelector",
            "exclude each other",
        ),
        (f"{STATIC}workloadSelector: {{labels: {{a: '*'}}}}", "workloadSelector.labels.a", "no wildcards"),
        (f"{STATIC}endpoints: [{{address: 10.0.0.1}}]\nexportTo: [a_b]", "exportTo[0]", "no namespace"),
        (
            "hosts: [a.b]\nresolution: DNS\nports: [{number: 1, name: a, protocol: UDP}]",
            "ports[0].protocol",
            "`UDP` is not carried",
        ),
        ("hosts: [a.b]\nresolution: DNS\nports: [{number: 0, name: a, protocol: HTTP}]", "ports[0].number", "1..65535"),
        ("hosts: [a.b]\nresolution: DNS\nports: [{number: 1, name: a_b, protocol: HTTP}]", "ports[0].name", "no port name"),
        (
            "hosts: [a.b]\nresolution: DNS\nports: [{number: 1, name: a, protocol: HTTP}, {number: 2, name: a, protocol: HTTP}]",
            "ports[1].name",
            "used twice",
        ),
        (
            "hosts: [a.b]\nresolution: DNS\nports: [{number: 1, name: a, protocol: HTTP}, {number: 1, name: b, protocol: HTTP}]",
            "ports[1].number",
            "written twice",
        ),
        (
            "hosts: [a.b]\nresolution: STATIC\nports: [{number: 1, name: a, protocol: HTTP}, {number: 2, name: b, protocol: HTTP}]\n"
            "endpoints: [{address: 'unix:///a'}]",
            "endpoints[0].address",
            "exactly one port",
        ),
    ],
)
def test_mistakes_of_a_service_entry(body, path, part):
    assert_one_error("ServiceEntry", body, f"spec.{path}", part)


def test_too_many_endpoints_and_hosts():
    many = ", ".join(["{address: 10.0.0.1}"] * 4097)
    assert_one_error("ServiceEntry", f"{STATIC}endpoints: [{many}]", "spec.endpoints", "4096 at most")
    hosts = ", ".join(f"h{number}.b" for number in range(257))
    assert_one_error("ServiceEntry", f"hosts: [{hosts}]\nresolution: DNS\n{PORTS}", "spec.hosts", "this one 257")


def test_other_resolutions():
    assert spec("ServiceEntry", f"hosts: [a.example]\n{PORTS}").resolution is Resolution.NONE
    none = spec("ServiceEntry", f"hosts: ['*.a.example']\nresolution: NONE\naddresses: [10.1.0.0/16]\n{PORTS}")
    assert none.addresses == ("10.1.0.0/16",)
    assert spec("ServiceEntry", f"hosts: ['*.a.example']\nresolution: DYNAMIC_DNS\n{PORTS}").resolution is Resolution.DYNAMIC_DNS
    one = spec("ServiceEntry", f"hosts: [a.example]\nresolution: DNS_ROUND_ROBIN\n{PORTS}\nendpoints: [{{address: b.example}}]")
    assert one.endpoints[0].address == "b.example"
    assert spec("ServiceEntry", f"{STATIC}endpoints: [{{address: 'unix://@a'}}]").endpoints[0].is_unix


def test_warnings():
    tcp = "hosts: [a.b]\nports: [{number: 9000, name: tcp, protocol: TCP}]"
    assert "port 9000 of every address" in str(warnings("ServiceEntry", tcp))
    assert "a Peer brings" in str(warnings("ServiceEntry", f"{STATIC}endpoints: [{{network: n}}]"))
    assert "nothing to list" in str(warnings("ServiceEntry", f"hosts: [a.b]\n{PORTS}\nworkloadSelector: {{labels: {{a: b}}}}"))
    assert "503" in str(warnings("ServiceEntry", STATIC))
    assert "nothing can be routed" in str(warnings("ServiceEntry", "hosts: [a.b]\nresolution: DNS"))
    assert "every WorkloadEntry" in str(warnings("ServiceEntry", f"{STATIC}workloadSelector: {{}}"))


def test_a_workload_entry():
    said = spec("WorkloadEntry", "address: vm-1.example\nports: {http: 8080}\nlabels: {app: a}\nlocality: us\nweight: 2")
    assert (said.address, said.weight, said.locality.region) == ("vm-1.example", 2, "us")
    assert_one_error("WorkloadEntry", "address: 10.0.0.1\nlabels: {a: 'b c'}", "spec.labels.a", "no label value")
    assert_one_error("WorkloadEntry", "address: 10.0.0.1\nports: {'@': 80}", "spec.ports.@", "no port name")
    assert_one_error("WorkloadEntry", "ports: {a: 1}", "spec.address", "is empty")
