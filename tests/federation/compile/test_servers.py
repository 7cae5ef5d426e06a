"""Servers that are relayed, and servers of every TLS mode: which share a port, and what chains they become."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from certs import Authority
from compiling import FILES, compiled

from federation.compile.credentials import FileContent
from federation.compile.incremental import recompile
from federation.compile.tls import HTTP_ALPN
from federation.compile.whole import Compiled, compile_all
from gateway.faults import validate
from gateway.snapshot import Backend, FilterChain, Listener, TlsMode

CA = Authority("public ca")
RSA = CA.leaf("web.example.com", of_rsa=True)
MORE = {
    **FILES,
    "/certs/rsa.pem": FileContent(RSA.chain.encode()),
    "/certs/rsa.key": FileContent(RSA.key.reveal()),
    "/certs/ca.crl": FileContent(CA.crl(RSA).encode()),
}
PAIR = "serverCertificate: /certs/web.pem, privateKey: /certs/web.key"
DIGEST = hashlib.sha256(b"x")
SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {ports: [{port: 5432, name: tcp}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: kept, namespace: shop}
spec:
  hosts: [kept.shop.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 9000, name: tcp, protocol: TCP}, {number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: kept, namespace: shop}
spec: {host: kept, subsets: [{name: v1, labels: {version: v1}}], trafficPolicy: {tls: {mode: SIMPLE}}}
"""


def gateway(*servers: str, name: str = "a", day: int = 1) -> str:
    lines = "\n".join(f"    - {{{server}}}" for server in servers)
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: edge, creationTimestamp: 2026-01-{day:02}T00:00:00Z}}
spec:
  selector: {{}}
  servers:
{lines}
"""


def port(number: int, protocol: str, name: str = "") -> str:
    return f"port: {{number: {number}, name: {name or protocol.lower()}, protocol: {protocol}}}"


def tls(mode: str, rest: str = "") -> str:
    return f"tls: {{mode: {mode}{', ' + rest if rest else ''}}}"


def routes(text: str, hosts: str = "'*'", gateways: str = "a") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: edge}}
spec:
  hosts: [{hosts}]
  gateways: [{gateways}]
  {text}
"""


DB = "{destination: {host: db.shop.svc.cluster.local}}"
TCP = routes(f"tcp: [{{route: [{DB}]}}]")
BOTH_GATEWAYS = routes(f"tcp: [{{route: [{DB}]}}]", "'*'", "a, b")


def made(*documents: str) -> Compiled:
    of = compiled("\n---\n".join((*documents, SERVICES)), files=MORE)
    assert validate(of.snapshot) == []
    return of


def listener(of: Compiled, key: str) -> Listener:
    part = of.snapshot.parts[f"listener/{key}"]
    assert isinstance(part, Listener)
    return part


def chains(of: Compiled, key: str = "0.0.0.0:443") -> tuple[FilterChain, ...]:
    return listener(of, key).chains


def only(of: Compiled, key: str = "0.0.0.0:443") -> FilterChain:
    (chain,) = chains(of, key)
    return chain


def reasons(of: Compiled) -> list[tuple[str, str]]:
    return [(each.path, each.reason) for each in of.findings]


# ------------------------------------------------------------------------------------------------------------- relayed


@pytest.mark.parametrize("protocol", ["TCP", "MONGO", "MYSQL"])
def test_a_tcp_server_is_relayed_by_tcp_routes(protocol: str) -> None:
    of = made(gateway(f"{port(5000, protocol)}, hosts: ['*']"), TCP)
    chain = only(of, "0.0.0.0:5000")
    assert (chain.table, chain.tls, chain.passthrough) == ("", None, False)
    assert chain.tcp[0].splits[0].backend == "outbound|5432||db.shop.svc.cluster.local"
    assert "backend/outbound|5432||db.shop.svc.cluster.local" in of.snapshot.parts
    assert not of.findings


def test_a_server_with_nowhere_to_send_its_connections_is_not_bound() -> None:
    of = made(gateway(f"{port(5000, 'TCP')}, hosts: ['*']", f"{port(443, 'TLS')}, hosts: ['*'], {tls('PASSTHROUGH')}"))
    assert not {"listener/0.0.0.0:5000", "listener/0.0.0.0:443"} & of.snapshot.parts.keys()
    assert reasons(of) == [("spec.servers[0]", "NoRoute"), ("spec.servers[1]", "NoRoute")]


def test_tls_that_ends_here_may_carry_tcp() -> None:
    of = made(gateway(f"{port(443, 'TLS')}, hosts: [db.example], {tls('SIMPLE', PAIR)}"), TCP)
    chain = only(of)
    assert chain.tls is not None
    assert (chain.tls.mode, chain.tls.alpn, chain.server_names, bool(chain.tcp)) == (TlsMode.SIMPLE, (), ("db.example",), True)


def test_passthrough_goes_by_the_server_names_of_tls_routes() -> None:
    matches = f"tls: [{{match: [{{sniHosts: [x.example, '*.y.example', other.test]}}], route: [{DB}]}}]"
    of = made(
        gateway(f"{port(443, 'TLS')}, hosts: ['*.example'], {tls('PASSTHROUGH')}"),
        routes(matches, "'*.example', other.test"),
    )
    chain = only(of)
    assert (chain.passthrough, chain.tls, chain.server_names) == (True, None, ("*.y.example", "x.example"))


def test_auto_passthrough_reaches_every_port_and_subset_of_what_runs_here() -> None:
    of = made(gateway(f"{port(443, 'TLS')}, hosts: ['*.local'], {tls('AUTO_PASSTHROUGH')}"))
    chain = only(of)
    assert (chain.auto, chain.passthrough, chain.auto_hosts, chain.server_names) == (True, True, ("*.local",), ("*.local",))
    inbound = {part.name: part for part in of.snapshot.parts.values() if isinstance(part, Backend)}
    host = "kept.shop.svc.cluster.local"
    assert {f"inbound|{number}|{subset}|{host}" for number in (80, 9000) for subset in ("", "v1")} <= inbound.keys()
    assert inbound[f"inbound|9000||{host}"].tls is None  # the client's own TLS goes through
    exact = only(made(gateway(f"{port(443, 'TLS')}, hosts: [{host}], {tls('AUTO_PASSTHROUGH')}")))
    assert (exact.server_names, exact.auto_hosts) == ((f"*.{host}",), (host,))
    every = only(made(gateway(f"{port(443, 'TLS')}, hosts: ['*'], {tls('AUTO_PASSTHROUGH')}")))
    assert (every.server_names, every.auto_hosts) == ((), ("*",))


def test_a_change_of_a_relayed_service_makes_its_listener_again() -> None:
    """The port of the destination is the service's only one: it comes from the catalog."""
    of = made(gateway(f"{port(5000, 'TCP')}, hosts: ['*']"), TCP)
    host = "db.shop.svc.cluster.local"
    services = dict(of.setting.inputs.services)
    gone = services.pop(host)
    without = replace(of.setting.inputs, services=services)
    less = recompile(of, without, [host])
    assert less.snapshot == compile_all(without).snapshot
    assert [each.reason for each in less.findings] == ["BackendNotFound"]
    back = recompile(less, replace(without, services={**services, host: gone}), [host])
    assert back.snapshot == of.snapshot
    assert back.findings == of.findings


def test_a_service_that_comes_and_goes_comes_and_goes_behind_auto_passthrough() -> None:
    of = made(gateway(f"{port(443, 'TLS')}, hosts: ['*.local'], {tls('AUTO_PASSTHROUGH')}"))
    host = "kept.shop.svc.cluster.local"
    services = dict(of.setting.inputs.services)
    kept = services.pop(host)
    without = replace(of.setting.inputs, services=services)
    less = recompile(of, without, [host])
    assert less.snapshot == compile_all(without).snapshot
    assert not [name for name in less.snapshot.parts if "kept" in name]
    assert recompile(less, replace(without, services={**services, host: kept}), [host]).snapshot == of.snapshot


# ------------------------------------------------------------------------------------------------------------- sharing


HTTP = f"{port(443, 'HTTP')}, hosts: [h.example]"
SECURE = f"{port(443, 'HTTPS')}, hosts: [s.example, t.example], {tls('SIMPLE', PAIR)}"
PLAIN = f"{port(443, 'TCP')}, hosts: ['*']"


@pytest.mark.parametrize(
    ("older", "younger", "reason"),
    [
        (HTTP, SECURE, "PortConflict"),
        (SECURE, HTTP, "PortConflict"),
        (PLAIN, SECURE, "PortConflict"),
        (SECURE, PLAIN, "PortConflict"),
        (PLAIN, PLAIN, "PortConflict"),
        (HTTP, PLAIN, "PortConflict"),
        (SECURE, SECURE, "HostConflict"),
        (SECURE, f"{port(443, 'TLS')}, hosts: [t.example], {tls('PASSTHROUGH')}", "HostConflict"),
        (HTTP, f"{port(443, 'GRPC')}, hosts: [g.example]", ""),
        (HTTP, f"{port(443, 'HTTP2')}, hosts: [g.example]", ""),
        (SECURE, f"{port(443, 'TLS')}, hosts: [u.example], {tls('SIMPLE', PAIR)}", ""),
        (PLAIN, f"{PLAIN}, bind: 127.0.0.3", ""),
        (SECURE, f"{HTTP}, bind: 127.0.0.3", ""),
    ],
)
def test_who_may_share_a_port(older: str, younger: str, reason: str) -> None:
    of = made(gateway(older), gateway(younger, name="b", day=2), BOTH_GATEWAYS)
    assert [each.reason for each in of.findings] == ([reason] if reason else [])
    assert not reason or of.findings[0].subject.name == "b"


def test_of_some_names_that_are_taken_the_others_are_served() -> None:
    of = made(
        gateway(SECURE), gateway(f"{port(443, 'HTTPS')}, hosts: [t.example, u.example], {tls('SIMPLE', PAIR)}", name="b", day=2)
    )
    assert [chain.server_names for chain in chains(of)] == [("s.example", "t.example"), ("u.example",)]
    assert [(each.reason, each.warning) for each in of.findings] == [("HostConflict", True)]


@pytest.mark.parametrize(("bind", "address"), [("unix:///run/gw.sock", "/run/gw.sock"), ("unix://@gw", "@gw")])
def test_unix_sockets(bind: str, address: str) -> None:
    plain = f"{port(0, 'HTTP')}, hosts: ['*'], bind: '{bind}'"
    of = made(gateway(plain), gateway(plain, name="b", day=2))
    part = listener(of, f"unix:{address}")
    assert (part.address, part.port, len(part.chains)) == (address, 0, 1)
    assert not of.findings


def test_a_port_of_ipv6() -> None:
    of = made(gateway(f"{HTTP}, bind: '::1'"))
    assert listener(of, "[::1]:443").address == "::1"


# ----------------------------------------------------------------------------------------------------------------- TLS


def downstream(settings: str, protocol: str = "HTTPS"):  # type: ignore[no-untyped-def]
    of = made(gateway(f"{port(443, protocol)}, hosts: [s.example], {settings}"))
    return only(of).tls, of


def test_every_field_of_mutual_tls() -> None:
    spki, colons = base64.b64encode(DIGEST.digest()).decode(), DIGEST.digest().hex(":")
    found, of = downstream(
        tls(
            "MUTUAL",
            f"{PAIR}, caCertificates: /certs/ca.pem, caCrl: /certs/ca.crl, subjectAltNames: [c.example], "
            f"verifyCertificateSpki: ['{spki}'], verifyCertificateHash: ['{colons}'], minProtocolVersion: TLSV1_2, "
            "maxProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256, NONE]",
        )
    )
    assert found.mode is TlsMode.MUTUAL
    assert (found.spki, found.hashes, found.subject_alt_names) == ((DIGEST.hexdigest(),), (DIGEST.hexdigest(),), ("c.example",))
    assert (found.min_version, found.max_version) == ("TLSv1_2", "TLSv1_3")
    assert found.cipher_suites == ("ECDHE-ECDSA-AES128-GCM-SHA256",)
    assert found.alpn == HTTP_ALPN
    assert "BEGIN X509 CRL" in found.crl
    assert not of.findings


def test_optional_mutual_has_the_same_fields() -> None:
    found, _ = downstream(tls("OPTIONAL_MUTUAL", f"{PAIR}, caCertificates: /certs/ca.pem, subjectAltNames: [c.example]"))
    assert (found.mode, found.subject_alt_names, bool(found.ca)) == (TlsMode.OPTIONAL_MUTUAL, ("c.example",), True)


def test_simple_looks_at_no_client() -> None:
    found, _ = downstream(tls("SIMPLE", f"{PAIR}, subjectAltNames: [c.example], verifyCertificateHash: ['{DIGEST.hexdigest()}']"))
    assert (found.subject_alt_names, found.hashes, found.ca, found.crl) == ((), (), "", "")


BOTH = (
    "tlsCertificates: [{serverCertificate: /certs/web.pem, privateKey: /certs/web.key}, "
    "{serverCertificate: /certs/%s.pem, privateKey: /certs/%s.key}]"
)


def test_two_certificates_and_what_becomes_of_one_that_cannot_be_had() -> None:
    found, of = downstream(tls("SIMPLE", BOTH % ("rsa", "rsa")))
    assert [each.name for each in found.certificates] == ["file /certs/web.pem", "file /certs/rsa.pem"]
    assert not of.findings
    found, of = downstream(tls("SIMPLE", BOTH % ("gone", "rsa")))
    assert len(found.certificates) == 1
    assert [(each.reason, each.warning) for each in of.findings] == [("InvalidCertificateRef", True)]
    found, of = downstream(tls("SIMPLE", BOTH % ("old", "old")))
    assert [each.reason for each in of.findings] == ["SameKeyType"]
    assert len(found.certificates) == 1


def secret(name: str, **data: bytes | str) -> str:
    """A Secret document in namespace edge."""
    values = {key.replace("_", "."): each.encode() if isinstance(each, str) else each for key, each in data.items()}
    lines = "\n".join(f"  {key}: {base64.b64encode(value).decode()}" for key, value in values.items())
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: edge}}\ndata:\n{lines}\n"


def test_secrets_of_two_certificates_and_of_the_clients_authority() -> None:
    web = CA.leaf("web.example.com")
    documents = (
        secret("ecdsa", tls_crt=web.chain, tls_key=web.key.reveal(), ca_crt=web.chain),
        secret("rsa", cert=RSA.chain, key=RSA.key.reveal()),
        secret("ecdsa-cacert", cacert=CA.pem, crl=CA.crl(RSA)),
        secret("clients", ca_crt=RSA.chain),
    )
    server = f"{port(443, 'HTTPS')}, hosts: [s.example], " + tls("MUTUAL", "credentialNames: [ecdsa, rsa]%s")
    found = only(made(gateway(server % ""), *documents)).tls
    assert found is not None
    assert [each.name for each in found.certificates] == ["secret edge/ecdsa", "secret edge/rsa"]
    assert found.ca == CA.pem  # of the first Secret's twin
    assert "BEGIN X509 CRL" in found.crl
    found = only(made(gateway(server % ", caCertCredentialName: clients"), *documents)).tls
    assert found is not None
    assert (found.ca, found.crl) == (RSA.chain, "")
    missing = made(gateway(server % ", caCertCredentialName: none"), *documents)
    assert [each.reason for each in missing.findings] == ["InvalidCertificateRef"]
    assert not missing.secrets.keys() & {web.key.digest, RSA.key.digest}


def test_what_stands_before_the_gateway_is_said_by_the_node() -> None:
    node = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate}
spec:
  cluster: east
  gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD, proxyProtocol: {}}
  overload: {maxConnections: 100, maxMemoryMb: never, maxLag: 250ms}
  drainDuration: 10s
"""
    of = made(node, gateway(HTTP))
    running = of.snapshot.node
    assert running is not None
    assert (running.trusted_proxies, running.client_cert, running.drain_ms) == (2, "APPEND_FORWARD", 10_000)
    assert (running.overload.connections, running.overload.memory_mb, running.overload.lag_ms) == (100, -1, 250)
    proxied = {each.key: each.proxy_protocol for each in of.snapshot.listeners()}
    assert [key for key, wanted in proxied.items() if wanted] == ["0.0.0.0:443"]
    assert made(gateway(HTTP)).snapshot.node.client_cert == "SANITIZE_SET"  # type: ignore[union-attr]
