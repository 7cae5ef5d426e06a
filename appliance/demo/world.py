"""The demo's world as data: three clusters in two regions, who runs what where, and the documents each gateway is given.

Everything is on loopback, one address a gateway and one for each cluster's workloads, so that a cluster can be told from its address.
The timers in these documents are short so that a drill fits into seconds; what each would be otherwise stands beside it.
"""

from __future__ import annotations

import msgspec

DOMAIN = "shop.svc.cluster.local"
HOST = "bookshop.example.com"
INGRESS_PORT = 8080
ADMIN_PORT = 15000
HEALTH_PORT = 15021
DNS_PORT = 15053
MESH_PORT = 15080
EAST_WEST_PORT = 15443
VERSIONS = {"reviews": ("v1", "v2", "v3")}
PORTS = {"productpage": 9080, "details": 9180, "reviews": 9280, "ratings": 9380}  # version i of a service: port + i


class Cluster(msgspec.Struct, frozen=True):
    """A cluster of the demo: its gateway's address, its workloads' address, what it runs."""

    name: str
    locality: str
    gateway: str
    workloads: str
    services: tuple[str, ...]

    @property
    def region(self) -> str:
        return self.locality.split("/")[0]

    @property
    def trust_domain(self) -> str:
        return f"{self.name}.example.com"


CLUSTERS = (
    Cluster("east-1", "us-east/us-east-1a", "127.0.0.11", "127.0.0.111", ("productpage", "details", "reviews")),
    Cluster("east-2", "us-east/us-east-1b", "127.0.0.12", "127.0.0.112", ("ratings",)),
    Cluster("west-1", "us-west/us-west-2a", "127.0.0.21", "127.0.0.121", ("productpage", "details", "reviews", "ratings")),
)
INGRESS = CLUSTERS[0]
REGION_DOWN = "us-east"
GATEWAY_DOWN = CLUSTERS[1]


def cluster(name: str) -> Cluster:
    """By name. Raises KeyError."""
    return {known.name: known for known in CLUSTERS}[name]


def hostname(service: str) -> str:
    return f"{service}.{DOMAIN}"


def listens(where: Cluster, service: str) -> dict[str, int]:
    """version → port on the cluster's workload address."""
    return {version: PORTS[service] + i for i, version in enumerate(VERSIONS.get(service, ("v1",)))}


def documents(here: Cluster, state: str, bundles: dict[str, str]) -> str:
    """The YAML that one gateway runs. bundles: other cluster's name → path of its bundle file."""
    parts = [_node(here, state), _EXPORT.format(domain=DOMAIN, peers=", ".join(c.name for c in CLUSTERS if c is not here))]
    parts += [_peer(other, bundles[other.name]) for other in CLUSTERS if other is not here]
    parts += [_service(here, service) for service in here.services]
    parts += [_POLICY.format(domain=DOMAIN, services=", ".join(map(hostname, PORTS)))]
    if here is INGRESS:
        parts.append(_INGRESS.format(host=HOST, port=INGRESS_PORT, bind=here.gateway, domain=DOMAIN))
    return "---\n".join(parts)


def _node(here: Cluster, state: str) -> str:
    return f"""apiVersion: fedgate.io/v1
kind: Node
metadata: {{name: gw-{here.name}, namespace: fedgate, labels: {{istio: ingressgateway}}}}
spec:
  cluster: {here.name}
  network: {here.name}
  locality: {here.locality}
  trustDomain: {here.trust_domain}
  workers: 1                      # auto otherwise: one a core
  stateDir: {state}
  listen:
    admin: {here.gateway}:{ADMIN_PORT}
    health: {here.gateway}:{HEALTH_PORT}
    eastWest: {here.gateway}:{EAST_WEST_PORT}
    http: {here.gateway}:{MESH_PORT}
    dns: {here.gateway}:{DNS_PORT}
  accessLog: {{path: {state}/access.log, format: text}}
"""


_EXPORT = """apiVersion: fedgate.io/v1
kind: Export
metadata: {{name: shop}}
spec: {{services: ['*.{domain}'], peers: [{peers}], tls: terminate}}
"""


def _peer(other: Cluster, bundle: str) -> str:
    return f"""apiVersion: fedgate.io/v1
kind: Peer
metadata: {{name: {other.name}}}
spec:
  kind: fedgate
  trustDomain: {other.trust_domain}
  addresses: ['{other.gateway}:{EAST_WEST_PORT}']
  bundle: {{path: {bundle}}}
  imports: ['*.{DOMAIN}']
"""


def _service(here: Cluster, service: str) -> str:
    endpoints = "\n".join(
        f"  - {{address: {here.workloads}, ports: {{http: {port}}}, locality: {here.locality},"
        f" labels: {{app: {service}, version: {version}}}}}"
        for version, port in listens(here, service).items()
    )
    return f"""apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {service}, namespace: shop}}
spec:
  hosts: [{hostname(service)}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
{endpoints}
"""


_POLICY = """apiVersion: fedgate.io/v1
kind: ServicePolicy
metadata: {{name: shop}}
spec:
  hosts: [{services}]
  healthCheck: {{http: {{path: /healthz}}, interval: 250ms, timeout: 200ms, unhealthyThreshold: 2, healthyThreshold: 2}}   # 1s, 500ms
  failback: {{holdDown: 1s, ramp: 1s}}                                                     # 30s, 30s when not written
"""

_INGRESS = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bookshop, namespace: fedgate}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    bind: {bind}
    hosts: ['{host}']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bookshop, namespace: fedgate}}
spec:
  hosts: ['{host}']
  gateways: [bookshop]
  http:
  - match: [{{uri: {{prefix: /details}}}}]
    route: [{{destination: {{host: details.{domain}}}}}]
  - match: [{{uri: {{prefix: /reviews}}}}]
    route: [{{destination: {{host: reviews.{domain}}}}}]
  - match: [{{uri: {{prefix: /ratings}}}}]
    route: [{{destination: {{host: ratings.{domain}}}}}]
  - route: [{{destination: {{host: productpage.{domain}}}}}]
"""
