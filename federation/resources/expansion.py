"""ExternalService → the documents it stands for: ServiceEntry, DestinationRule, VirtualService, Gateway, ServicePolicy.

Theory of operation. What is made are documents as a user would write them, so that what is printed is what is used: both go the way of every
other document from there. Blocks that have the same form there (tls, endpoints, retries, …) are passed on as they were written. A port
of HTTPS on which the gateway itself speaks TLS becomes one of HTTP, 80 if that is free, which leads to it: clients ask for
`http://HOST/`. Nothing is made that would say nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pydantic.alias_generators import to_camel

from discovery.document import RawDocument
from discovery.model import Protocol, Resolution
from federation.resources.external_service import SECURE, ExternalService
from federation.resources.health_check import EXTERNAL
from federation.resources.service_entry import UNIX

Written = dict[str, Any]
PREFIX = "external-"
"""Of the names of what is made, so that it meets no document of the user's."""
_ISTIO, _OURS = "networking.istio.io/v1", "fedgate.io/v1"
_PLAIN_HTTP = 80


class _Port(msgspec.Struct, frozen=True):
    """A port of the ServiceEntry. tls: the gateway speaks TLS on it. is_http: by Host; by_name: clients' own TLS, by SNI."""

    written: Written
    tls: bool
    is_http: bool
    by_name: bool

    @property
    def number(self) -> int:
        return int(self.written["number"])


def expanded(raw: RawDocument, spec: ExternalService) -> tuple[RawDocument, ...]:
    """In the order in which they are printed. spec: what `raw` was read as, without faults."""
    return tuple(RawDocument(raw.origin, content) for content in _Expansion(raw, spec).documents())


class _Expansion:
    def __init__(self, raw: RawDocument, spec: ExternalService) -> None:
        self._metadata: Mapping[str, Any] = raw.content.get("metadata") or {}
        self._said = {to_camel(key): value for key, value in (raw.content.get("spec") or {}).items() if value is not None}
        self._spec = spec
        self._name = f"{PREFIX}{self._metadata['name']}"
        self._hosts = [host.lower() for host in spec.hosts]
        self._ports = list(_ports(spec))

    def documents(self) -> Iterator[Written]:
        yield from self._service_entries()
        yield from self._destination_rules()
        yield from self._virtual_services()
        yield from self._gateway()
        yield from self._service_policy()

    def _document(self, version: str, kind: str, spec: Written, number: int = 0) -> Written:
        """number: of several of a kind, so that each has a name of its own."""
        kept = {key: self._metadata[key] for key in ("namespace", "labels", "creationTimestamp") if key in self._metadata}
        name = f"{self._name}-{number}" if number else self._name
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **kept}, "spec": spec}

    def _exported(self) -> Written:
        return {"exportTo": self._said["exportTo"]} if "exportTo" in self._said else {}

    def _service_entries(self) -> Iterator[Written]:
        """One for each resolution that its hosts have."""
        grouped: dict[Resolution, list[str]] = {}
        for host in self._hosts:
            grouped.setdefault(_resolution(self._spec, host), []).append(host)
        for number, (resolution, hosts) in enumerate(grouped.items()):
            spec: Written = {"hosts": hosts, "location": "MESH_EXTERNAL", "resolution": resolution.value}
            spec |= {"ports": [port.written for port in self._ports]}
            if resolution is not Resolution.DYNAMIC_DNS:
                spec |= {key: self._said[key] for key in ("addresses", "endpoints") if self._said.get(key)}
            yield self._document(_ISTIO, "ServiceEntry", spec | self._exported(), number)

    def _destination_rules(self) -> Iterator[Written]:
        pool: Written = {}
        if self._spec.connect_timeout is not None:
            pool = {"connectionPool": {"tcp": {"connectTimeout": self._said["connectTimeout"]}}}
        secured = [port for port in self._ports if port.tls]
        policy: Written = dict(pool)
        if self._spec.tls is not None and len(secured) in (0, len(self._ports)):
            policy["tls"] = self._said["tls"]  # DISABLE is written too: a rule for a wildcard host may say otherwise
        elif secured:
            policy["portLevelSettings"] = [{"port": {"number": port.number}, **pool, "tls": self._said["tls"]} for port in secured]
        for number, host in enumerate(self._hosts if policy else ()):
            yield self._document(_ISTIO, "DestinationRule", {"host": host, "trafficPolicy": policy, **self._exported()}, number)

    def _virtual_services(self) -> Iterator[Written]:
        """Where requests have a time, or retries, or come by an entrance of their own."""
        rules: Written = {key: self._said[key] for key in ("timeout", "retries") if key in self._said}
        http = [port for port in self._ports if port.is_http]
        for number, host in enumerate(self._hosts):
            routes = list(self._http_routes(host, http, rules)) if http and (rules or self._spec.gateway is not None) else []
            spec: Written = {"hosts": [host], "gateways": ["mesh"] + ([self._name] if self._spec.gateway is not None else [])}
            spec |= {"http": routes} if routes else {}
            spec |= {"tls": tls} if (tls := list(self._tls_routes(host))) else {}
            if routes or tls:
                yield self._document(_ISTIO, "VirtualService", spec | self._exported(), number)

    def _http_routes(self, host: str, ports: list[_Port], rules: Written) -> Iterator[Written]:
        """Each port has its own; what comes by the entrance goes to the first."""
        entrance = self._spec.gateway
        if entrance is not None and entrance.http_port:
            there = {"match": [{"gateways": [self._name], "port": entrance.http_port}]}
            yield there | {"route": [_to(host, ports[0])]} | rules
        for port in ports:
            yield {"match": [{"gateways": ["mesh"], "port": port.number}], "route": [_to(host, port)]} | rules

    def _tls_routes(self, host: str) -> Iterator[Written]:
        entrance = self._spec.gateway
        named = [port for port in self._ports if port.by_name]
        if entrance is not None and entrance.tls_port and named:
            match = {"gateways": [self._name], "port": entrance.tls_port, "sniHosts": [host]}
            yield {"match": [match], "route": [_to(host, named[0])]}

    def _gateway(self) -> Iterator[Written]:
        entrance = self._spec.gateway
        if entrance is None:
            return
        servers = []
        for number, protocol in ((entrance.http_port, "HTTP"), (entrance.tls_port, "TLS")):
            if number:
                port = {"number": number, "name": f"{protocol.lower()}-{number}", "protocol": protocol}
                server: Written = {"port": port, "hosts": [f"./{host}" for host in self._hosts]}
                server |= {"bind": entrance.bind} if entrance.bind else {}
                servers.append(server | ({"tls": {"mode": "PASSTHROUGH"}} if protocol == "TLS" else {}))
        yield self._document(_ISTIO, "Gateway", {"selector": dict(entrance.selector), "servers": servers})

    def _service_policy(self) -> Iterator[Written]:
        said: Written = {key: self._said[key] for key in ("from", "sourceAddress", "privateAddresses") if key in self._said}
        if "rateLimit" in self._said:
            said["rateLimits"] = [self._said["rateLimit"]]
        if "healthCheck" in self._said:
            said["healthCheck"] = EXTERNAL | {to_camel(key): value for key, value in self._said["healthCheck"].items()}
        if said:
            yield self._document(_OURS, "ServicePolicy", {"hosts": self._hosts, **said})


def _to(host: str, port: _Port) -> Written:
    return {"destination": {"host": host, "port": {"number": port.number}}}


def _ports(spec: ExternalService) -> Iterator[_Port]:
    taken = {port.number for port in spec.ports}
    for port in spec.ports:
        protocol, number, target = port.protocol, port.number, port.target_port
        tls = spec.originated(port)
        if tls and protocol is Protocol.HTTPS:
            protocol, target = Protocol.HTTP, target or number
            if _PLAIN_HTTP not in taken:
                number = _PLAIN_HTTP
                taken.add(number)
        elif tls and protocol is Protocol.TLS:
            protocol = Protocol.TCP
        written: Written = {"number": number, "name": port.name or f"{protocol.value.lower()}-{number}", "protocol": protocol.value}
        if target and target != number:
            written["targetPort"] = target
        yield _Port(written, tls, protocol.is_http, protocol in SECURE)


def _resolution(spec: ExternalService, host: str) -> Resolution:
    if spec.resolution is not None:
        return spec.resolution
    if spec.endpoints:
        listed = all(each.address.startswith(UNIX) or _is_address(each.address) for each in spec.endpoints)
        return Resolution.STATIC if listed else Resolution.DNS
    if any("/" in address for address in spec.addresses):
        return Resolution.NONE
    return Resolution.DYNAMIC_DNS if host.startswith("*") else Resolution.DNS


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
