"""The same gateway, configured for every peer: one route, four endpoints, least-request, access log to a file, retries, outlier
detection where the peer has it, TLS with one ECDSA certificate. Each writes its own configuration into a folder.

Towards clients each speaks what they choose (HTTP/1.1, HTTP/2 by prior knowledge or ALPN), towards its endpoints what `Ports.upstream`
says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench import tools
from bench.process import Pinned, free_port

T = "type.googleapis.com/"


class Ports(msgspec.Struct, frozen=True):
    """Where a proxy listens (127.0.0.1), and the endpoints it spreads over. upstream: what those speak, as Istio names it (HTTP,
    HTTP2, GRPC). downstream: HTTP2 for proxies that must be told that clients begin with HTTP/2 (nginx). workers: processes or threads
    that carry traffic."""

    http: int
    https: int
    admin: int
    endpoints: tuple[int, ...]
    upstream: str = "HTTP"
    downstream: str = "HTTP"
    workers: int = 1

    @classmethod
    def fresh(cls, endpoints: tuple[int, ...], *, upstream: str = "HTTP", downstream: str = "HTTP", workers: int = 1) -> Ports:
        return cls(free_port(), free_port(), free_port(), endpoints, upstream, downstream, workers)


def envoy_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def envoy_chain(folder: Path, retry: dict[str, Any]) -> dict[str, Any]:
    """A filter chain of Envoy: HTTP, Istio's access log, one route to the cluster `be` with this retry policy, and retries that avoid
    the endpoints already tried."""
    previous = {"@type": T + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}
    policy = {
        **retry,
        "retry_host_predicate": [{"name": "previous", "typed_config": previous}],
        "host_selection_retry_max_attempts": 5,
    }
    log = {
        "@type": T + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(folder / "access.log"),
        "log_format": {"text_format_source": {"inline_string": ISTIO_LOG}},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "be", "timeout": "0s", "retry_policy": policy}}
    manager = {
        "@type": T + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "use_remote_address": True,
        "access_log": [{"name": "file", "typed_config": log}],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": T + "envoy.extensions.filters.http.router.v3.Router"}}],
    }
    return {"filters": [{"name": "http", "typed_config": manager}]}


def envoy_cluster(localities: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """Envoy's cluster `be`, least-request, with limits that no benchmark here comes near."""
    limits = {"max_connections": 10000, "max_requests": 10000, "max_pending_requests": 10000, "max_retries": 10000}
    return {
        "name": "be",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": "be", "endpoints": localities},
        "circuit_breakers": {"thresholds": [limits]},
        **settings,
    }


def envoy_command(folder: Path, ports: Ports, listeners: list[dict[str, Any]], cluster: dict[str, Any]) -> list[str]:
    """Writes the configuration; the command that runs it with that many workers."""
    resources = {"listeners": listeners, "clusters": [cluster]}
    path = folder / "envoy.json"
    path.write_text(json.dumps({"admin": {"address": envoy_address(ports.admin)}, "static_resources": resources}))
    return [tools.envoy(), "-c", str(path), "--concurrency", str(ports.workers), "-l", "error", "--base-id", str(ports.http)]


# Of a cluster: HTTP/2 with prior knowledge.
ENVOY_HTTP2: dict[str, Any] = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": T + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}

ISTIO_RETRIES = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2}


def _envoy(folder: Path, ports: Ports, certificate: Path, key: Path) -> list[str]:
    chain = envoy_chain(folder, ISTIO_RETRIES)
    pair = {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
    context = {
        "@type": T + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]},
    }
    listeners = [
        {"name": "http", "address": envoy_address(ports.http), "filter_chains": [chain]},
        {
            "name": "https",
            "address": envoy_address(ports.https),
            "filter_chains": [{**chain, "transport_socket": {"name": "tls", "typed_config": context}}],
        },
    ]
    endpoints = [{"endpoint": {"address": envoy_address(port)}} for port in ports.endpoints]
    outlier = {
        "consecutive_5xx": 5,
        "consecutive_gateway_failure": 3,
        "enforcing_consecutive_gateway_failure": 100,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_percent": 100,
    }
    protocol = ENVOY_HTTP2 if ports.upstream != "HTTP" else {}
    cluster = envoy_cluster([{"lb_endpoints": endpoints}], {"connect_timeout": "1s", "outlier_detection": outlier} | protocol)
    return envoy_command(folder, ports, listeners, cluster)


# Istio's default text format: every peer that can writes the same line.
ISTIO_LOG = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def _haproxy(folder: Path, ports: Ports, certificate: Path, key: Path) -> list[str]:
    both = folder / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    both.chmod(0o600)
    proto = " proto h2" if ports.upstream != "HTTP" else ""
    servers = "\n".join(
        f"  server s{i} 127.0.0.1:{port}{proto} observe layer7 error-limit 5 on-error mark-down check inter 1s"
        for i, port in enumerate(ports.endpoints)
    )
    (folder / "haproxy.cfg").write_text(
        f"""global
  nbthread {ports.workers}
  maxconn 8000
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  retries 2
  retry-on conn-failure empty-response
  option redispatch 1
frontend in
  option forwardfor
  option httplog
  log global
  bind 127.0.0.1:{ports.http}
  bind 127.0.0.1:{ports.https} ssl crt {both} alpn h2,http/1.1
  default_backend be
backend be
  balance leastconn
  http-reuse always
{servers}
"""
    )
    return [tools.found("haproxy", "haproxy"), "-f", str(folder / "haproxy.cfg")]


def _nginx(folder: Path, ports: Ports, certificate: Path, key: Path) -> list[str]:
    if ports.upstream == "HTTP2":
        raise tools.Missing("nginx speaks HTTP/2 to upstreams only for gRPC")
    h2 = " http2" if ports.downstream == "HTTP2" else ""
    forward = (
        "grpc_pass grpc://be"
        if ports.upstream == "GRPC"
        else 'proxy_pass http://be; proxy_http_version 1.1; proxy_set_header Connection ""'
    )
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=3 fail_timeout=5s;" for port in ports.endpoints)
    scratch = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"""worker_processes {ports.workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 16384; }}
http {{
  access_log {folder}/access.log; {scratch}
  upstream be {{ least_conn; {servers} keepalive 128; keepalive_requests 100000000; }}
  keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{ports.http}{h2}; listen 127.0.0.1:{ports.https} ssl http2;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      {forward};
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Request-Id $request_id;
      proxy_set_header Host $http_host; proxy_next_upstream error timeout; proxy_next_upstream_tries 3; proxy_connect_timeout 1s;
    }}
  }}
}}
"""
    )
    return [tools.found("nginx", "nginx"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def node_document(folder: Path, ports: Ports) -> str:
    """A fedgate Node in locality region1/a, all on 127.0.0.1."""
    listen = {"admin": ports.admin, "health": free_port(), "eastWest": free_port(), "http": free_port(), "dns": free_port()}
    addresses = ", ".join(f"{name}: '127.0.0.1:{port}'" for name, port in listen.items())
    return f"""apiVersion: fedgate.io/v1
kind: Node
metadata: {{name: bench, namespace: fedgate, labels: {{istio: ingressgateway}}}}
spec:
  cluster: bench
  locality: region1/a
  workers: {ports.workers}
  stateDir: {folder}/state
  listen: {{{addresses}}}
  accessLog: {{path: {folder}/access.log, format: text}}
"""


def service_entry(endpoints: str, protocol: str = "HTTP") -> str:
    """be.test with these endpoints (of its port `http`, which speaks `protocol`), YAML items indented by two or four."""
    return f"""apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: be, namespace: fedgate}}
spec:
  hosts: [be.test]
  ports: [{{number: 80, name: http, protocol: {protocol}}}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints:
{endpoints}
"""


def _fedgate(folder: Path, ports: Ports, certificate: Path, key: Path) -> list[str]:
    endpoints = "\n".join(f"    - {{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in ports.endpoints)
    (folder / "gateway.yaml").write_text(
        node_document(folder, ports)
        + f"""---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: web, namespace: fedgate}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {ports.http}, name: http, protocol: HTTP}}
    bind: 127.0.0.1
    hosts: ['*']
  - port: {{number: {ports.https}, name: https, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: ['*']
    tls: {{mode: SIMPLE, serverCertificate: {certificate}, privateKey: {key}}}
---
{service_entry(endpoints, ports.upstream)}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: be, namespace: fedgate}}
spec:
  hosts: ['*']
  gateways: [web]
  http:
  - route: [{{destination: {{host: be.test, port: {{number: 80}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: be, namespace: fedgate}}
spec:
  host: be.test
  trafficPolicy:
    connectionPool: {{tcp: {{connectTimeout: 1s}}}}
    outlierDetection:
      {{consecutive5xxErrors: 5, consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 5s, maxEjectionPercent: 100}}
"""
    )
    return [*tools.fedgate(), "run", "-c", str(folder / "gateway.yaml")]


def _compiled(folder: Path, ports: Ports, certificate: Path, key: Path) -> list[str]:
    return [*tools.with_compiled_codecs(), *_fedgate(folder, ports, certificate, key)]


Writer = Callable[[Path, Ports, Path, Path], list[str]]
PEERS: dict[str, Writer] = {"fedgate": _fedgate, "compiled": _compiled, "envoy": _envoy, "haproxy": _haproxy, "nginx": _nginx}
"""By the name that `--peers` has for it; `compiled` is fedgate with compiled codecs (`make compiled`)."""


def start(name: str, folder: Path, ports: Ports, certificate: Path, key: Path, *, core: int | None) -> Pinned:
    """Configures and starts a peer, listening when this returns. Raises tools.Missing where the machine does not have it."""
    folder.mkdir(parents=True, exist_ok=True)
    command = PEERS[name](folder, ports, certificate, key)
    process = Pinned(name, command, core=core, log=folder / "output.log")
    try:
        process.wait_listening("127.0.0.1", ports.http)
        process.wait_listening("127.0.0.1", ports.https)
    except RuntimeError:
        process.stop()
        raise
    return process
