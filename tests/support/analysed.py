"""Findings about documents written in a test; the catalog is what the documents themselves describe."""

from datetime import UTC, datetime

from written import load

from federation.analyze.analyze import analyze
from federation.analyze.finding import Finding, View
from federation.compile.inputs import Inputs
from federation.compile.services import described

NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate, labels: {istio: ingressgateway}}
spec: {cluster: east, locality: us-east/a, defaults: DEFAULTS}
---
"""


def inputs(text: str, defaults: str = "fedgate") -> Inputs:
    resources = load(NODE.replace("DEFAULTS", defaults) + text)
    assert not resources.problems, [str(problem) for problem in resources.problems]
    (node,) = resources.nodes
    services = {service.hostname: service for service in described(resources, node).static}
    return Inputs(node, datetime(2026, 1, 1, tzinfo=UTC), resources, services)


def view(text: str, defaults: str = "fedgate") -> View:
    return View.of(inputs(text, defaults))


def findings(text: str, defaults: str = "fedgate") -> tuple[Finding, ...]:
    return analyze(inputs(text, defaults))


SHOP = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: many, namespace: shop}
spec: {ports: [{name: http, port: 80}, {name: other, port: 81}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*.shop.example', ./own.example, other/foreign.example]
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ['*.shop.example']
    tls: {mode: SIMPLE, credentialName: CREDENTIAL}
---
apiVersion: v1
kind: Secret
metadata: {name: beside-node, namespace: fedgate}
---
apiVersion: v1
kind: Secret
metadata: {name: beside-gateway, namespace: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: elsewhere, namespace: other}
---
"""


def shop(
    *, hosts="[a.shop.example]", gateways="[web]", destination="{host: reviews}", match="", credential="beside-gateway", more=""
):
    virtual = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: vs, namespace: shop}}
spec:
  hosts: {hosts}
  gateways: {gateways}
  http:
  - match: [{{uri: {{prefix: /}}{match}}}]
    route: [{{destination: {destination}}}]
"""
    return SHOP.replace("CREDENTIAL", credential) + virtual + more
