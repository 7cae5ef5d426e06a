"""Servers of Gateways on sockets: merging, conflicts, certificates that cannot be had; the node's own ports."""

from __future__ import annotations

import pytest
from compiling import compiled

from federation.compile.whole import Compiled
from gateway.faults import validate
from gateway.snapshot import Listener, ListenerKind, TlsMode

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: %s, namespace: edge, creationTimestamp: '%s'}
spec:
  selector: {}
  servers:
    %s
"""
PLAIN = "- {port: {number: %d, name: http%d, protocol: HTTP}, hosts: ['%s']%s}"
SECURE = "- {port: {number: 443, name: %s, protocol: HTTPS}, hosts: [%s], tls: {mode: SIMPLE, %s}}"
FILES = "serverCertificate: /certs/web.pem, privateKey: /certs/web.key"


def gateway(*servers: str, name: str = "a", created: str = "2026-01-01T00:00:00Z") -> str:
    return GATEWAY % (name, created, "\n    ".join(servers))


def made(*documents: str, **changes: object) -> Compiled:
    of = compiled("\n---\n".join(documents) or "# nothing", **changes)
    assert validate(of.snapshot) == []
    return of


def listener(of: Compiled, key: str) -> Listener:
    part = of.snapshot.parts[f"listener/{key}"]
    assert isinstance(part, Listener)
    return part


def reasons(of: Compiled) -> list[tuple[str, str]]:
    return [(each.path, each.reason) for each in of.findings]


def test_the_nodes_own_ports() -> None:
    kinds = {each.key: each.kind for each in made().snapshot.listeners()}
    assert kinds == {
        "127.0.0.1:15000": ListenerKind.ADMIN,
        "0.0.0.0:15021": ListenerKind.HEALTH,
        "127.0.0.1:15053": ListenerKind.DNS,
        "127.0.0.1:15080": ListenerKind.MESH,
        "0.0.0.0:15443": ListenerKind.EAST_WEST,
    }


def test_the_east_west_port_knows_the_peers_and_its_peering_name() -> None:
    peer = """
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: west.example.com, addresses: ['192.0.2.1:15443'], bundle: {path: west.pem}}
"""
    part = listener(made(peer), "0.0.0.0:15443")
    tls = part.chains[0].tls
    assert tls is not None
    assert part.peering_name == "peering.east.example.com"
    assert (tls.mode, tls.min_version) == (TlsMode.ISTIO_MUTUAL, "TLSv1_3")
    assert tls.bundles == (("west.example.com", "roots of west.example.com"),)
    alone = made(peer, identity=None)
    assert "listener/0.0.0.0:15443" not in alone.snapshot.parts
    assert [each.reason for each in alone.findings] == ["NoIdentity"]
    assert made(identity=None).findings == ()  # nobody asked for peers


def test_plain_servers_of_a_port_are_one_chain_and_secure_ones_one_each() -> None:
    of = made(
        gateway(
            PLAIN % (80, 1, "a.example", ""), PLAIN % (80, 2, "b.example", ""), SECURE % ("x", "'*.x.example', x.example", FILES)
        ),
        gateway(PLAIN % (80, 1, "c.example", ""), SECURE % ("x", "'*'", FILES), name="b"),
    )
    assert [chain.table for chain in listener(of, "0.0.0.0:80").chains] == ["http.80"]
    secure = listener(of, "0.0.0.0:443").chains
    assert [(chain.name, chain.server_names) for chain in secure] == [
        ("https.443.x.a.edge", ("*.x.example", "x.example")),
        ("https.443.x.b.edge", ()),
    ]
    assert not of.findings


@pytest.mark.parametrize(
    ("server", "path", "reason"),
    [
        (PLAIN % (443, 9, "a.example", ""), "spec.servers[0].port", "PortConflict"),
        (SECURE % ("y", "x.example", FILES), "spec.servers[0].hosts", "HostConflict"),
        (PLAIN % (15443, 9, "a.example", ""), "spec.servers[0].port", "PortConflict"),
        (PLAIN % (15080, 9, "a.example", ", bind: 127.0.0.1"), "spec.servers[0].port", "PortConflict"),
        (SECURE % ("y", "y.example", "credentialName: none"), "spec.servers[0].tls", "InvalidCertificateRef"),
        (
            SECURE % ("y", "y.example", "serverCertificate: /certs/gone.pem, privateKey: /certs/web.key"),
            "spec.servers[0].tls",
            "InvalidCertificateRef",
        ),
        (
            SECURE % ("y", "y.example", "serverCertificate: /certs/old.pem, privateKey: /certs/web.key"),
            "spec.servers[0].tls",
            "InvalidCertificateRef",
        ),
    ],
)
def test_a_server_that_cannot_be_is_left_out_and_the_rest_runs(server: str, path: str, reason: str) -> None:
    of = made(
        gateway(SECURE % ("x", "x.example", FILES)),
        gateway(server, PLAIN % (81, 8, "ok.example", ""), name="b", created="2026-02-01T00:00:00Z"),
    )
    assert reasons(of) == [(path, reason)]
    assert [chain.server_names for chain in listener(of, "0.0.0.0:443").chains] == [("x.example",)]
    assert listener(of, "0.0.0.0:81").kind is ListenerKind.GATEWAY


def test_an_expired_certificate_is_served_with_a_warning() -> None:
    of = made(gateway(SECURE % ("x", "x.example", "serverCertificate: /certs/old.pem, privateKey: /certs/old.key")))
    assert listener(of, "0.0.0.0:443").chains
    assert [(each.reason, each.warning) for each in of.findings] == [("CertificateExpired", True)]
    assert all(status.good for status in of.statuses.values())


def test_simple_and_mutual_on_one_port_are_chains_of_their_own() -> None:
    mutual = SECURE.replace("SIMPLE", "MUTUAL") % (
        "m",
        "m.example",
        FILES + ", caCertificates: /certs/ca.pem, subjectAltNames: [c.example]",
    )
    chains = listener(made(gateway(SECURE % ("x", "x.example", FILES), mutual)), "0.0.0.0:443").chains
    first, second = (chain.tls for chain in chains)
    assert first is not None
    assert second is not None
    assert (first.mode, first.ca, first.subject_alt_names) == (TlsMode.SIMPLE, "", ())
    assert (second.mode, second.subject_alt_names) == (TlsMode.MUTUAL, ("c.example",))
    assert "BEGIN CERTIFICATE" in second.ca


def test_port_0_is_left_out_and_said() -> None:
    node = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw}
spec: {cluster: east, listen: {http: '127.0.0.1:0'}}
"""
    of = made(node)
    assert ListenerKind.MESH not in {each.kind for each in of.snapshot.listeners()}
    assert reasons(of) == [("spec.listen", "PortNotUsable")]
