"""Node documents, as DESIGN shows them."""

import pytest
from written import assert_one_error, spec

from discovery.model import Locality, Protocol
from federation.resources.node import Defaults, LogFormat, OutboundMode
from federation.resources.scalars import HostPort


def test_only_the_cluster_is_required():
    node = spec("Node", "cluster: east")
    assert (node.cluster, node.workers, node.defaults) == ("east", None, Defaults.FEDGATE)
    assert node.listen.east_west == HostPort("0.0.0.0", 15443)
    assert node.outbound_traffic_policy is OutboundMode.REGISTRY_ONLY
    assert node.trust_domain == node.cluster_domain == "cluster.local"


def test_a_whole_node():
    node = spec(
        "Node",
        """
        cluster: east
        network: net-1
        locality: us-east-1/us-east-1a
        trustDomain: east.example.com
        clusterDomain: corp.local
        workers: 2
        defaults: istio
        stateDir: /var/lib/fedgate
        listen: {admin: 127.0.0.1:0, health: 127.0.0.1:15021, eastWest: '[::1]:15443', http: 127.0.0.1:0}
        advertise: {eastWest: gw-east.example.com:15443}
        outboundTrafficPolicy: REGISTRY_ONLY
        accessLog: {path: /dev/stdout, format: json}
        sources:
        - name: legacy
          dns:
            services:
            - {host: billing.corp, srv: _billing._tcp.corp.example}
            - {host: shop.corp, names: [a.corp], ports: [{number: 80, name: http, protocol: HTTP}], locality: us}
        """,
    )
    assert node.locality == Locality("us-east-1", "us-east-1a")
    assert node.access_log.format is LogFormat.JSON
    assert node.listen.admin.port == 0
    billing, shop = node.sources[0].dns.services
    assert (billing.srv, billing.ports[0].number, billing.ports[0].protocol) == ("_billing._tcp.corp.example", 80, Protocol.HTTP)
    assert shop.names == ("a.corp",)


@pytest.mark.parametrize(
    ("rest", "path", "part"),
    [
        ("clutser: east", "clutser", "did you mean `cluster`"),
        ("locality: a/b/c/d", "locality", "4 parts"),
        ("locality: [a]", "locality", "must be text"),
        ("trustDomain: 'a b'", "trustDomain", "no host"),
        ("clusterDomain: ''", "clusterDomain", "empty"),
        ("network: a_b", "network", "no name"),
        ("workers: 0", "workers", "1..256"),
        ("workers: many", "workers", "or auto"),
        ("defaults: envoy", "defaults", "one of fedgate, istio"),
        ("stateDir: ''", "stateDir", "is empty"),
        ("listen: {admin: localhost:15000}", "listen.admin", "needs an IP"),
        ("listen: {admin: 15000}", "listen.admin", "write HOST:PORT"),
        ("listen: {http: 127.0.0.1:15000}", "listen.http", "taken by another listener"),
        ("listen: {eastwest: 127.0.0.1:1}", "listen.eastwest", "did you mean `eastWest`"),
        ("advertise: {eastWest: gw.example.com:0}", "advertise.eastWest", "cannot be dialled"),
        ("accessLog: {format: xml}", "accessLog.format", "one of text, json"),
        ("vips: {range: 240.0.0.0/30}", "vips.range", "256 at least"),
        ("vips: {range: nonsense}", "vips.range", "no network"),
        ("resources: [{}]", "resources[0]", "one of consul and kubernetes"),
        ("publish: [{}]", "publish[0]", "one of consul and designate"),
        ("shared: {}", "shared.consul", "is required"),
        ("defaultTrafficPolicy: {}", "defaultTrafficPolicy", "is empty"),
        ("defaultTrafficPolicy: {connectionPool: {}}", "defaultTrafficPolicy.connectionPool", "is empty"),
    ],
)
def test_mistakes_of_a_node(rest, path, part):
    body = rest if rest.startswith("clutser") else f"cluster: east\n{rest}"
    assert_one_error("Node", body, f"spec.{path}", part)


@pytest.mark.parametrize(
    ("source", "path", "part"),
    [
        ("name: k8s, kubernetes: {namespaces: []}", ".kubernetes.namespaces", "nothing would be read"),
        ("name: c, consul: {address: '127.0.0.1'}", ".consul.address", "no URL"),
        ("name: c, consul: {}, nomad: {}", "", "two registries"),
        ("name: n, nomad: {certFile: a}", ".nomad", "go together"),
        ("name: o, openstack: {}", ".openstack.cloud", "is required"),
        ("name: d, onLoss: {keep: 10m, degrade: 1m}, dns: {services: [{host: a}]}", ".onLoss", "one of keep and degrade"),
        ("name: d", "", "write one of dns, consul"),
        ("name: a_b, dns: {services: [{host: a}]}", ".name", "no source name"),
        ("name: d, dns: {}", ".dns.services", "is required"),
        ("name: d, dns: {services: []}", ".dns.services", "finds nothing"),
        ("name: d, dns: {services: [{host: '*.a'}]}", ".dns.services[0].host", "wildcard"),
        ("name: d, dns: {services: [{host: a}, {host: A}]}", ".dns.services[1].host", "written twice"),
        ("name: d, dns: {services: [{host: a, srv: 'x y'}]}", ".dns.services[0].srv", "no SRV name"),
        ("name: d, dns: {services: [{host: a, names: ['']}]}", ".dns.services[0].names[0]", "empty"),
        ("name: d, dns: {services: [{host: a, ports: []}]}", ".dns.services[0].ports", "needs a port"),
        ("name: d, dns: {services: [{host: a, srv: _a._tcp.b, names: [c]}]}", ".dns.services[0]", "exclude each other"),
    ],
)
def test_mistakes_of_a_source(source, path, part):
    assert_one_error("Node", f"cluster: east\nsources: [{{{source}}}]", f"spec.sources[0]{path}", part)


def test_names_of_sources_are_unique():
    source = "{name: d, dns: {services: [{host: a}]}}"
    assert_one_error("Node", f"cluster: east\nsources: [{source}, {source}]", "spec.sources[1].name", "written twice")


def test_what_stands_before_the_gateway_and_when_it_sheds():
    said = spec("Node", "{cluster: east}")
    assert (said.gateway_topology.num_trusted_proxies, said.gateway_topology.proxy_protocol) == (0, None)
    assert (said.drain_duration, said.overload.max_connections, said.overload.max_lag) == (45_000, None, None)
    said = spec(
        "Node",
        """
        cluster: east
        gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: ALWAYS_FORWARD_ONLY, proxyProtocol: {}}
        overload: {maxConnections: 10, maxMemoryMb: never, maxLag: 1.5s}
        drainDuration: 5s
        """,
    )
    assert said.gateway_topology.proxy_protocol is not None
    assert said.gateway_topology.forward_client_cert_details.value == "ALWAYS_FORWARD_ONLY"
    assert (said.overload.max_connections, said.overload.max_memory_mb, said.overload.max_lag) == (10, -1, 1500)
    assert said.drain_duration == 5000


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("gatewayTopology: {numTrustedProxies: -1}", "gatewayTopology.numTrustedProxies", "not in the range"),
        ("gatewayTopology: {forwardClientCertDetails: SANITISE}", "gatewayTopology.forwardClientCertDetails", "did you mean"),
        ("gatewayTopology: {proxyProtocol: {version: 1}}", "gatewayTopology.proxyProtocol.version", "unknown field"),
        ("overload: {maxConnections: 0}", "overload.maxConnections", "1 or more, or `never`"),
        ("overload: {maxMemoryMb: always}", "overload.maxMemoryMb", "whole number"),
        ("overload: {maxLag: 5}", "overload.maxLag", "unit"),
        ("drainDuration: 5", "drainDuration", "unit"),
    ],
)
def test_mistakes_of_topology_and_limits(text, path, part):
    assert_one_error("Node", f"cluster: east\n{text}", f"spec.{path}", part)


@pytest.mark.parametrize("text", ["dns.corp", "10.0.0.2:", "10.0.0.2:dns", "10.0.0.2:70000", "[::1"])
def test_an_upstream_is_an_address_with_or_without_a_port(text):
    assert_one_error("Node", f"cluster: east\ndns: {{upstreams: ['{text}']}}", "spec.dns.upstreams[0]", "is no IP")
