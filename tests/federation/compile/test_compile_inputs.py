"""Files that documents name: where they are, and which."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from compiling import inputs_of, resources_of

from discovery.document import Origin
from federation.compile.inputs import RESOLV_CONF, Inputs, files_named, located
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
        ("b.pem", "conf/a:b.yaml", "conf/b.pem"),
        ("/etc/key", "consul:fedgate/x", "/etc/key (named in consul:fedgate/x)"),
        ("../key", "kubernetes:shop/web", "../key (named in kubernetes:shop/web)"),
        ("", "consul:fedgate/x", ""),
        ("", "/etc/x.yaml", ""),
    ],
)
def test_a_relative_path_begins_at_its_document(path: str, file: str, found: str) -> None:
    assert located(path, Origin(file)) == found


@pytest.mark.parametrize(
    ("listen", "address", "number", "found"),
    [
        ("127.0.0.1:15000", "127.0.0.1", 15000, True),
        ("127.0.0.1:15000", "::ffff:127.0.0.1", 15000, True),
        ("127.0.0.1:15000", "127.0.0.1", 15001, False),
        ("127.0.0.1:15000", "10.0.0.1", 15000, False),
        ("0.0.0.0:15000", "127.9.9.9", 15000, True),
        ("0.0.0.0:15000", "10.0.0.1", 15000, False),
        ("127.0.0.1:0", "127.0.0.1", 0, False),
        ("127.0.0.1:15000", "/run/admin.sock", 15000, False),
    ],
)
def test_the_gateways_own_admin_api_is_known(listen: str, address: str, number: int, found: bool) -> None:
    text = f"{{apiVersion: fedgate.io/v1, kind: Node, metadata: {{name: n}}, spec: {{cluster: c, listen: {{admin: '{listen}'}}}}}}"
    (node,) = resources_of(text)[0].nodes
    assert Inputs(node, datetime.now(UTC)).is_admin(address, number) is found


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
