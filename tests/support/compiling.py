"""Compile from YAML text, for tests: documents as users write them, and a catalog made of them.

Beside ordinary documents the text may hold one `kind: Elsewhere` (apiVersion: test): what peers say, as a list of
`{host, peer, address, port, locality, cluster, healthy, total, labels}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from certs import NOW, Authority

from discovery.document import RawDocument, parse
from discovery.model import Endpoint, Health, Locality, Port, Protocol, Service
from federation.compile.credentials import FileContent, Identity
from federation.compile.inputs import Inputs
from federation.compile.services import described
from federation.compile.whole import Compiled, compile_all
from federation.resources.read import read
from federation.resources.resources import Resources
from gateway.secret import Secret

IDENTITY = Identity("the gateway's chain", Secret(b"the gateway's key"), "the gateway's roots")
WEB = Authority("public ca").leaf("web.example.com")
OLD = Authority("public ca").expired("web.example.com")
FILES = {
    "/certs/web.pem": FileContent(WEB.chain.encode()),
    "/certs/web.key": FileContent(WEB.key.reveal()),
    "/certs/ca.pem": FileContent(Authority("public ca").pem.encode()),
    "/certs/old.pem": FileContent(OLD.chain.encode()),
    "/certs/old.key": FileContent(OLD.key.reveal()),
    "/certs/gone.pem": FileContent(fault="no such file"),
}
NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate, labels: {istio: ingressgateway}}
spec: {cluster: east, locality: r1/z1, trustDomain: east.example.com, defaults: %s}
"""


def resources_of(text: str) -> tuple[Resources, list[dict[str, Any]]]:
    """The documents, which must all be good, and what peers say."""
    raw, errors = parse(text, "in.yaml")
    assert not errors, errors
    real: list[RawDocument] = [each for each in raw if each.content.get("kind") != "Elsewhere"]
    elsewhere = [entry for each in raw if each.content.get("kind") == "Elsewhere" for entry in each.content["endpoints"]]
    resources = read(real)
    assert not resources.problems, [str(each) for each in resources.problems]
    return resources, elsewhere


def inputs_of(text: str, *, defaults: str = "fedgate", **changes: Any) -> Inputs:
    """A Node is added when the text has none. changes: fields of Inputs."""
    if "kind: Node" not in text:
        text = NODE % defaults + "\n---\n" + text
    resources, elsewhere = resources_of(text)
    node = resources.nodes[0]
    services = catalog(described(resources, node).static, elsewhere)
    bundles = {peer.spec.trust_domain: f"roots of {peer.spec.trust_domain}" for peer in resources.peers}
    given: dict[str, Any] = {"services": services, "identity": IDENTITY, "bundles": bundles, "files": FILES, **changes}
    return Inputs(node, NOW, resources, **given)


def compiled(text: str, *, defaults: str = "fedgate", **changes: Any) -> Compiled:
    return compile_all(inputs_of(text, defaults=defaults, **changes))


def catalog(services: Iterable[Service], elsewhere: Iterable[Mapping[str, Any]] = ()) -> dict[str, Service]:
    """The services by hostname, with the peers' endpoints joined to them."""
    found = {service.hostname: service for service in services}
    for entry in elsewhere:
        port = entry.get("service_port", 80)
        known = found.get(entry["host"]) or Service(entry["host"], ports=(Port(port, "http", Protocol.HTTP),))
        endpoint = remote(entry, known)
        found[entry["host"]] = msgspec.structs.replace(known, endpoints=(*known.endpoints, endpoint))
    return found


def remote(entry: Mapping[str, Any], service: Service) -> Endpoint:
    return Endpoint(
        entry["address"],
        ports=tuple((port.name, entry.get("port", 15443)) for port in service.ports),
        labels=tuple(sorted(entry.get("labels", {}).items())),
        cluster=entry.get("cluster", entry["peer"]),
        locality=Locality.parse(entry.get("locality", "")),
        health=Health.HEALTHY,
        peer=entry["peer"],
        healthy=entry.get("healthy", 1),
        total=entry.get("total", 1),
    )
