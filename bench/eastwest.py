"""East-west: a plain HTTP/1.1 client, a gateway, mutual TLS 1.3, a second gateway, the backend. Both gateways share core 1, and their
CPU is counted together.

fedgate: two clusters that know each other as peers; the far one exports be.test, the near one imports it; every hop is as people would
run it (identities, trust bundles, authorisation by export). Envoy: the same two hops with certificates of one CA, the peer's SPIFFE
identity verified on both sides, SNI as Istio writes it; once with HTTP/1.1 between the two (`envoy`), once with HTTP/2 (`envoy h2`).
HAProxy: the same with HTTP/1.1; on the far side it verifies the CA, not the identity, and on the near side the SNI as a DNS name.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console

from bench import loads, tools
from bench.contest import PROXY_CORE, Contest, Contestant, Reading, Starter
from bench.peers import (
    ENVOY_HTTP2,
    ISTIO_RETRIES,
    Ports,
    T,
    envoy_address,
    envoy_chain,
    envoy_cluster,
    envoy_command,
    service_entry,
)
from bench.process import Pinned, free_port
from bench.scene import BODY, scene
from federation.trust.operations import bundle, init_ca

SNI = "outbound_.80_._.be.test"
CASES = ("plain", "plain+8")
SETTLED_S = 30  # two gateways start, connect and exchange what they export


class Leaf(msgspec.Struct, frozen=True):
    """Files of a workload's certificate, its CA and both in one (HAProxy)."""

    name: str
    chain: Path
    key: Path
    ca: Path
    both: Path


def mesh(folder: Path, *names: str) -> list[Leaf]:
    """ECDSA P-256 leaves with these SPIFFE ids, all of one CA made now."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench mesh")])

    def certificate(key: ec.EllipticCurvePublicKey, subject: x509.Name, extension: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=True)
        times = builder.not_valid_before(now - datetime.timedelta(minutes=2)).not_valid_after(now + datetime.timedelta(days=1))
        return times.sign(ca_key, hashes.SHA256())

    ca = folder / "ca.pem"
    authority = certificate(ca_key.public_key(), ca_name, x509.BasicConstraints(ca=True, path_length=0))
    ca.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    leaves = []
    for number, name in enumerate(names):
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name), x509.DNSName(SNI)])
        made = certificate(key.public_key(), x509.Name([]), alternative)
        leaf = Leaf(name, folder / f"{number}.pem", folder / f"{number}-key.pem", ca, folder / f"{number}-both.pem")
        leaf.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for path, data in ((leaf.key, secret), (leaf.both, leaf.chain.read_bytes() + secret)):
            path.touch(mode=0o600)
            path.write_bytes(data)
        leaves.append(leaf)
    return leaves


# ------------------------------------------------------------------------------------------------------------- fedgate


def _node(folder: Path, cluster: str, ports: Ports, east_west: int) -> str:
    listen = {"admin": ports.admin, "health": free_port(), "eastWest": east_west, "http": free_port(), "dns": free_port()}
    addresses = ", ".join(f"{name}: '127.0.0.1:{port}'" for name, port in listen.items())
    return f"""apiVersion: fedgate.io/v1
kind: Node
metadata: {{name: {cluster}, namespace: fedgate, labels: {{istio: ingressgateway}}}}
spec:
  cluster: {cluster}
  locality: region-{cluster}/a
  trustDomain: {cluster}.test
  workers: 1
  stateDir: {folder}/state-{cluster}
  listen: {{{addresses}}}
  accessLog: {{path: {folder}/{cluster}.log, format: text}}
"""


def _peer(cluster: str, east_west: int, bundle_path: Path) -> str:
    return f"""---
apiVersion: fedgate.io/v1
kind: Peer
metadata: {{name: {cluster}}}
spec: {{trustDomain: {cluster}.test, addresses: ['127.0.0.1:{east_west}'], bundle: {{path: {bundle_path}}}}}
"""


def _fedgate(folder: Path, endpoints: tuple[int, ...]) -> Contestant:
    near, far = Ports.fresh(endpoints), Ports.fresh(endpoints)
    east_west = {"near": free_port(), "far": free_port()}
    bundles = {}
    for cluster in east_west:
        state = folder / f"state-{cluster}"
        state.mkdir(mode=0o700)
        init_ca(state / "ca", f"{cluster}.test", cluster=cluster)
        bundles[cluster] = folder / f"{cluster}-bundle.pem"
        bundles[cluster].write_text(bundle(state / "ca"))
    workloads = "\n".join(f"    - {{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in endpoints)
    export = """---
apiVersion: fedgate.io/v1
kind: Export
metadata: {name: be}
spec: {services: [be.test], peers: [near]}
"""
    entrance = f"""---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: web, namespace: fedgate}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {near.http}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: be, namespace: fedgate}}
spec: {{hosts: ['*'], gateways: [web], http: [{{route: [{{destination: {{host: be.test, port: {{number: 80}}}}}}]}}]}}
"""
    documents = {
        "near": _node(folder, "near", near, east_west["near"]) + _peer("far", east_west["far"], bundles["far"]) + entrance,
        "far": _node(folder, "far", far, east_west["far"])
        + _peer("near", east_west["near"], bundles["near"])
        + "---\n"
        + service_entry(workloads)
        + export,
    }
    processes = []
    for cluster, text in documents.items():
        path = folder / f"{cluster}.yaml"
        path.write_text(text)
        log = folder / f"{cluster}-output.log"
        processes.append(Pinned(f"fedgate {cluster}", [*tools.fedgate(), "run", "-c", str(path)], core=PROXY_CORE, log=log))
    return _settled(Contestant("fedgate", tuple(processes), near))


def _settled(contestant: Contestant) -> Contestant:
    """The same, once it answers 200. Raises RuntimeError (and ends what runs) when it never does."""
    try:
        for process in contestant.processes[:1]:
            process.wait_listening("127.0.0.1", contestant.ports.http)
        contestant.processes[0].wait_answering(contestant.ports.http, "be.test", seconds=SETTLED_S)
    except RuntimeError:
        for process in contestant.processes:
            process.stop()
        raise
    return contestant


# ------------------------------------------------------------------------------------------------------------- peers


def _envoy_tls(kind: str, leaf: Leaf, other: Leaf, alpn: str, **settings: Any) -> dict[str, Any]:
    validation = {
        "trusted_ca": {"filename": str(leaf.ca)},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": other.name}}],
    }
    common = {
        "alpn_protocols": [alpn],
        "tls_certificates": [{"certificate_chain": {"filename": str(leaf.chain)}, "private_key": {"filename": str(leaf.key)}}],
        "validation_context": validation,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
    }
    context = {"@type": T + f"envoy.extensions.transport_sockets.tls.v3.{kind}", "common_tls_context": common, **settings}
    return {"transport_socket": {"name": "tls", "typed_config": context}}


def _envoy(alpn: str, name: str, folder: Path, endpoints: tuple[int, ...]) -> Contestant:
    near, far = Ports.fresh(endpoints), Ports.fresh(endpoints)
    near_leaf, far_leaf = mesh(folder, "spiffe://near.test/ns/fedgate/sa/gateway", "spiffe://far.test/ns/fedgate/sa/gateway")
    settings = {"connect_timeout": "1s", "outlier_detection": {"consecutive_5xx": 5, "interval": "1s", "max_ejection_percent": 100}}
    upstream = _envoy_tls("UpstreamTlsContext", near_leaf, far_leaf, alpn, sni=SNI) | (ENVOY_HTTP2 if alpn == "h2" else {})
    (folder / "near").mkdir()
    (folder / "far").mkdir()

    def places(*ports: int) -> list[dict[str, Any]]:
        return [{"lb_endpoints": [{"endpoint": {"address": envoy_address(port)}} for port in ports]}]

    entrance = {"name": "http", "address": envoy_address(near.http), "filter_chains": [envoy_chain(folder / "near", ISTIO_RETRIES)]}
    secured = _envoy_tls("DownstreamTlsContext", far_leaf, near_leaf, alpn, require_client_certificate=True)
    listener = {
        "name": "eastwest",
        "address": envoy_address(far.http),
        "filter_chains": [envoy_chain(folder / "far", ISTIO_RETRIES) | secured],
    }
    commands = {
        "near": envoy_command(folder / "near", near, [entrance], envoy_cluster(places(far.http), settings | upstream)),
        "far": envoy_command(folder / "far", far, [listener], envoy_cluster(places(*endpoints), settings)),
    }
    processes = [
        Pinned(f"{name} {where}", command, core=PROXY_CORE, log=folder / f"{where}.log") for where, command in commands.items()
    ]
    return _settled(Contestant(name, tuple(processes), near))


def _haproxy(folder: Path, endpoints: tuple[int, ...]) -> Contestant:
    near, far = Ports.fresh(endpoints), Ports.fresh(endpoints)
    near_leaf, far_leaf = mesh(folder, "spiffe://near.test/ns/fedgate/sa/gateway", "spiffe://far.test/ns/fedgate/sa/gateway")
    program = tools.found("haproxy", "haproxy")
    entrances = {
        "near": str(near.http),
        "far": f"{far.http} ssl crt {far_leaf.both} ca-file {far_leaf.ca} verify required ssl-min-ver TLSv1.3",
    }
    secured = f"ssl crt {near_leaf.both} ca-file {near_leaf.ca} verify required sni str({SNI}) no-check-ssl ssl-min-ver TLSv1.3"
    servers = {
        "near": f"  server far 127.0.0.1:{far.http} {secured}",
        "far": "\n".join(f"  server s{i} 127.0.0.1:{port}" for i, port in enumerate(endpoints)),
    }
    processes = []
    for where, entrance in entrances.items():
        path = folder / f"{where}.cfg"
        path.write_text(
            "global\n  nbthread 1\n  maxconn 4000\n  log stdout format raw local0\n"
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  retries 2\n"
            f"frontend in\n  option forwardfor\n  option httplog\n  log global\n  bind 127.0.0.1:{entrance}\n  default_backend be\n"
            f"backend be\n  balance leastconn\n  http-reuse always\n{servers[where]}\n"
        )
        processes.append(Pinned(f"haproxy {where}", [program, "-f", str(path)], core=PROXY_CORE, log=folder / f"{where}.log"))
    return _settled(Contestant("haproxy", tuple(processes), near))


def _start(writer: Callable[[Path, tuple[int, ...]], Contestant], endpoints: tuple[int, ...], folder: Path) -> Contestant:
    return writer(folder, endpoints)


WRITERS: dict[str, Callable[[Path, tuple[int, ...]], Contestant]] = {
    "fedgate": _fedgate,
    "envoy": partial(_envoy, "http/1.1", "envoy"),
    "envoy h2": partial(_envoy, "h2", "envoy h2"),
    "haproxy": _haproxy,
}


def measure(names: Sequence[str], *, seconds: int, rounds: int, console: Console) -> dict[str, Any]:
    """The `mtls` benchmark; what `--json` writes."""
    contest = Contest("mTLS between two gateways", primary="rps", unit="requests/s", console=console)

    def case(name: str, contestant: Contestant) -> Reading:
        return loads.keep_alive(contestant, contestant.ports.http, seconds=seconds, case=name)

    with scene() as here:
        here.backend("backend", "be", str(BODY))
        chosen = {name: writer for name, writer in WRITERS.items() if name.split()[0] in ("fedgate", *names)}
        starters: dict[str, Starter] = {name: partial(_start, writer, here.endpoints) for name, writer in chosen.items()}
        contestants = contest.enter(starters, here.folder, here.processes)
        contest.run(contestants, {name: partial(case, name) for name in CASES}, rounds=rounds)
    return contest.summary()
