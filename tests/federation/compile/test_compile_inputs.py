"""Files that documents name: where they are, and which."""

from __future__ import annotations

import pytest
from compiling import resources_of

from discovery.document import Origin
from federation.compile.inputs import files_named, located

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
    assert files_named(resources_of(DOCUMENTS)[0]) == {"a.pem", "/k/a.key", "b.pem", "c.pem", "c.key", "p.pem"}
