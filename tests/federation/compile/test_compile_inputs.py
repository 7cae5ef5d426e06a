"""Files that documents name: where they are, and which."""

from __future__ import annotations

import dataclasses

import pytest
from compiling import inputs_of, resources_of

from discovery.document import Origin
from federation.compile.inputs import RESOLV_CONF, files_named, located
from federation.compile.whole import compile_all

DOCUMENTS = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {}
  servers:
    - {port: {number: 443, name: s, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, serverCertificate: a.pem, privateKey: /k/a.key}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec:
  host: x.example
  trafficPolicy: {portLevelSettings: [{port: {number: 1}, tls: {mode: SIMPLE, caCertificates: b.pem}}]}
  subsets: [{name: s, labels: {a: b}, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: c.pem, privateKey: c.key}}}]
---
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: p}
spec: {trustDomain: p.example, addresses: ['a:1'], bundle: {path: p.pem}}
"""


@pytest.mark.parametrize(
    ("path", "file", "found"),
    [
        ("/a/b.pem", "/etc/fedgate/x.yaml", "/a/b.pem"),
        ("b.pem", "/etc/fedgate/x.yaml", "/etc/fedgate/b.pem"),
        ("../b.pem", "/etc/fedgate/x.yaml", "/etc/b.pem"),
        ("b.pem", "conf/x.yaml", "conf/b.pem"),
        ("b.pem", "x.yaml", "b.pem"),
        ("b.pem", "consul:fedgate/x", "b.pem"),
        ("", "/etc/x.yaml", ""),
    ],
)
def test_a_relative_path_begins_at_its_document(path: str, file: str, found: str) -> None:
    assert located(path, Origin(file)) == found


def test_every_file_that_is_named() -> None:
    named = {"a.pem", "/k/a.key", "b.pem", "c.pem", "c.key", "p.pem"}
    assert files_named(resources_of(DOCUMENTS)[0]) == named | {RESOLV_CONF}


def test_the_access_log_is_beside_its_node() -> None:
    text = "{apiVersion: fedgate.io/v1, kind: Node, metadata: {name: n}, spec: {cluster: c, accessLog: {path: access.log}}}"
    inputs = inputs_of(text)
    moved = dataclasses.replace(inputs, node=dataclasses.replace(inputs.node, origin=Origin("/etc/fedgate/node.yaml")))
    node = compile_all(moved).snapshot.node
    assert node is not None
    assert node.access_log.path == "/etc/fedgate/access.log"
