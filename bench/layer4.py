"""TCP through fedgate and through its peers, HAProxy with splice among them.

`passthrough`: 8 connections of 400 MB each, a plain TCP proxy (`tcp`) and TLS passed through by its SNI (`sni`: a real client hello, then
plain bytes that stand for the encrypted stream, so that nobody's cryptography is measured). `connections`: new connections a second, 32
at a time, a byte each.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import loads, tools
from bench.contest import PROXY_CORE, Case, Contest, Contestant, Reading, Starter
from bench.peers import Ports, T, envoy_address, node_document
from bench.process import Pinned
from bench.scene import scene

THROUGHPUT_CONNECTIONS = 8
BYTES_EACH = 400_000_000
NEW_CONNECTIONS = 32
NAME = "be.test"


def client_hello() -> bytes:
    """A TLS client hello with SNI be.test, as OpenSSL writes it."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake cannot end before anything was received")


def _fedgate(folder: Path, ports: Ports) -> list[str]:
    endpoints = "\n".join(f"  - {{address: 127.0.0.1, ports: {{tcp: {port}}}}}" for port in ports.endpoints)
    (folder / "gateway.yaml").write_text(
        node_document(folder, ports)
        + f"""---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: l4, namespace: fedgate}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {ports.http}, name: tcp, protocol: TCP}}
    bind: 127.0.0.1
    hosts: ['*']
  - port: {{number: {ports.https}, name: tls, protocol: TLS}}
    bind: 127.0.0.1
    hosts: [{NAME}]
    tls: {{mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: be, namespace: fedgate}}
spec:
  hosts: [{NAME}]
  ports: [{{number: 9000, name: tcp, protocol: TCP}}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints:
{endpoints}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: be, namespace: fedgate}}
spec:
  hosts: [{NAME}]
  gateways: [l4]
  tcp:
  - match: [{{port: {ports.http}}}]
    route: [{{destination: {{host: {NAME}, port: {{number: 9000}}}}}}]
  tls:
  - match: [{{port: {ports.https}, sniHosts: [{NAME}]}}]
    route: [{{destination: {{host: {NAME}, port: {{number: 9000}}}}}}]
"""
    )
    return [*tools.fedgate(), "run", "-c", str(folder / "gateway.yaml")]


def _envoy(folder: Path, ports: Ports) -> list[str]:
    log = {
        "@type": T + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(folder / "access.log"),
        "log_format": {
            "text_format_source": {
                "inline_string": '[%START_TIME%] "- - -" 0 %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "%UPSTREAM_HOST%" '
                "%UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
                "%REQUESTED_SERVER_NAME%\n"
            }
        },
    }
    proxy = {
        "@type": T + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp",
        "cluster": "be",
        "access_log": [{"name": "file", "typed_config": log}],
    }
    chain = {"filters": [{"name": "tcp", "typed_config": proxy}]}
    inspector = {"@type": T + "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}
    listeners = [
        {"name": "tcp", "address": envoy_address(ports.http), "filter_chains": [chain]},
        {
            "name": "sni",
            "address": envoy_address(ports.https),
            "listener_filters": [{"name": "tls", "typed_config": inspector}],
            "filter_chains": [{**chain, "filter_chain_match": {"server_names": [NAME]}}],
        },
    ]
    endpoints = [{"endpoint": {"address": envoy_address(port)}} for port in ports.endpoints]
    cluster = {
        "name": "be",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": "be", "endpoints": [{"lb_endpoints": endpoints}]},
        "circuit_breakers": {"thresholds": [{"max_connections": 10000, "max_pending_requests": 10000}]},
        "outlier_detection": {"consecutive_5xx": 5, "interval": "1s", "max_ejection_percent": 100},
    }
    path = folder / "envoy.json"
    resources = {"listeners": listeners, "clusters": [cluster]}
    path.write_text(json.dumps({"admin": {"address": envoy_address(ports.admin)}, "static_resources": resources}))
    return [tools.envoy(), "-c", str(path), "--concurrency", str(ports.workers), "-l", "error", "--base-id", str(ports.http)]


def _haproxy(options: str, tuning: str, folder: Path, ports: Ports) -> list[str]:
    servers = "\n".join(f"  server s{i} 127.0.0.1:{port}" for i, port in enumerate(ports.endpoints))
    (folder / "haproxy.cfg").write_text(
        f"""global
  nbthread 1
  maxconn 4000
  log stdout format raw local0
{tuning}defaults
  mode tcp
  timeout connect 1s
  timeout client 60s
  timeout server 60s
{options}frontend tcp
  option tcplog
  log global
  bind 127.0.0.1:{ports.http}
  default_backend be
frontend sni
  option tcplog
  log global
  bind 127.0.0.1:{ports.https}
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req_ssl_hello_type 1 }}
  use_backend be if {{ req_ssl_sni -i {NAME} }}
backend be
  balance leastconn
{servers}
"""
    )
    return [tools.found("haproxy", "haproxy"), "-f", str(folder / "haproxy.cfg")]


WRITERS: dict[str, Callable[[Path, Ports], list[str]]] = {
    "fedgate": _fedgate,
    "envoy": _envoy,
    "haproxy": partial(_haproxy, "", ""),
    "haproxy splice": partial(_haproxy, "  option splice-auto\n", ""),
    # Splice, and pipes of a megabyte (its manual's tune.pipesize), so that one splice moves more.
    "haproxy tuned": partial(_haproxy, "  option splice-auto\n", "  tune.pipesize 1048576\n"),
}


def _starters(chosen: Sequence[str], endpoints: tuple[int, ...]) -> dict[str, Starter]:
    def start(name: str, folder: Path) -> Contestant:
        ports = Ports.fresh(endpoints)
        process = Pinned(name, WRITERS[name](folder, ports), core=PROXY_CORE, log=folder / "output.log")
        try:
            process.wait_listening("127.0.0.1", ports.http)
            process.wait_listening("127.0.0.1", ports.https)
        except RuntimeError:
            process.stop()
            raise
        return Contestant(name, (process,), ports)

    return {name: partial(start, name) for name in chosen}


def _measure(contest: Contest, chosen: Sequence[str], rounds: int, make_cases: Callable[[Path], dict[str, Case]]) -> dict[str, Any]:
    with scene() as here:
        here.backend("bulk")
        hello = here.folder / "hello"
        hello.write_bytes(client_hello())
        contestants = contest.enter(_starters(chosen, here.endpoints), here.folder, here.processes)
        contest.run(contestants, make_cases(hello), rounds=rounds)
    return contest.summary()


def measure_passthrough(names: Sequence[str], *, rounds: int, console: Console, bytes_each: int = BYTES_EACH) -> dict[str, Any]:
    """The `passthrough` benchmark; what `--json` writes. cpu_s_gb: the proxy's CPU seconds for a GB."""
    contest = Contest(
        f"TCP, {THROUGHPUT_CONNECTIONS} connections of {bytes_each / 1e6:.0f} MB", primary="gb_s", unit="GB/s", console=console
    )

    def case(hello: Path | None, contestant: Contestant) -> Reading:
        port = contestant.ports.https if hello else contestant.ports.http
        words = ["bytes", "127.0.0.1", str(port), str(THROUGHPUT_CONNECTIONS), str(bytes_each), *([str(hello)] if hello else [])]
        reading = loads.own(contestant, "dial", *words, amounts={"gb_s": "gb_s"}, per="bytes")
        per_byte_us = reading.amounts["cpu_us"]
        return Reading({"gb_s": reading.amounts["gb_s"], "cpu_s_gb": per_byte_us * 1e3}, reading.errors)

    chosen = [name for name in WRITERS if name.split()[0] in ("fedgate", *names)]
    return _measure(contest, chosen, rounds, lambda hello: {"tcp": partial(case, None), "sni": partial(case, hello)})


def measure_connections(names: Sequence[str], *, seconds: int, rounds: int, console: Console) -> dict[str, Any]:
    """The `connections` benchmark; what `--json` writes."""
    contest = Contest(f"New TCP connections, {NEW_CONNECTIONS} at a time", primary="cps", unit="connections/s", console=console)

    def case(hello: Path | None, contestant: Contestant) -> Reading:
        port = contestant.ports.https if hello else contestant.ports.http
        words = ["connections", "127.0.0.1", str(port), str(NEW_CONNECTIONS), str(seconds), *([str(hello)] if hello else [])]
        return loads.own(contestant, "dial", *words, amounts={"cps": "cps", "p50_us": "p50_us", "p99_us": "p99_us"})

    chosen = [name for name in WRITERS if name in ("fedgate", *names)]  # splice matters to bytes, not to connections of one
    return _measure(contest, chosen, rounds, lambda hello: {"tcp": partial(case, None), "sni": partial(case, hello)})
