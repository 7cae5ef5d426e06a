"""Consul's instances made into Services: which name they have, which ports, which of them can be sent plain traffic. Pure.

Names: the namespace is the instance's meta `fedgate-namespace`, else the source's default; so instances of one Consul service may belong to
several hostnames, and those of several (a service of ours, the same imported from a cluster peer) to one. A Part is what one of Consul's
services says of one hostname; `build` joins the parts.

Ports: Consul knows one port an instance and no port of the service. Clients name `fedgate-port` (meta); else each well-known port that
instances have, every one of which leads to all instances, so that a rolling change of ports strands nobody; else 80, where all ports are
dynamic. Its name: `fedgate-port-name`, else the protocol's. Protocol: meta `fedgate-protocol` or `protocol`, else a tag that is one.

What speaks only Connect's mutual TLS (native, or an instance behind a transparent proxy) takes no plain traffic: it is named in a note.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from discovery.clients.consul_entries import Instance
from discovery.here import Here
from discovery.model import Endpoint, Locality, Port, Protocol, Service
from discovery.reading import port_protocol
from discovery.resolving import is_address

NAMESPACE, PORT, PORT_NAME, PROTOCOL = "fedgate-namespace", "fedgate-port", "fedgate-port-name", "fedgate-protocol"
DYNAMIC = 20_000  # Nomad's dynamic ports begin there, Linux's ephemeral ones at 32768: no client names them
MOST_PORTS = 16  # well-known ports of one service: more are no service's, but a registration gone wrong
FALLBACK = 80
_PROTOCOL_TAGS = ("http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "mongo")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_CONNECT = "take the mutual TLS of Consul Connect only, which a gateway outside of that mesh does not speak, and get no traffic"
_CONNECT_REMEDY = "register a plain port as a service of its own, or put a Connect ingress gateway before it"

Key = tuple[str, str]
"""(cluster peer or "", the service's name in Consul)."""


class Part(msgspec.Struct, frozen=True):
    """What the Consul service `key` says of one hostname. hidden: (node, instance) that only a transparent proxy reaches. proxied: it speaks
    of sidecar proxies, with or without hidden instances."""

    key: Key
    namespace: str
    instances: tuple[Instance, ...] = ()
    hidden: frozenset[tuple[str, str]] = frozenset()
    proxied: bool = False


class Names(msgspec.Struct, frozen=True):
    """How names come about. own: the datacenter that `here` is in; "" if nobody knows."""

    here: Here
    namespace: str = "default"
    tags: tuple[str, ...] = ()
    own: str = ""


def parts_of(key: Key, instances: Iterable[Instance], names: Names) -> dict[str, Part]:
    """By hostname what Consul's service says. A name that cannot be one in DNS is left out."""
    found: dict[str, list[Instance]] = defaultdict(list)
    namespaces: dict[str, str] = {}
    hidden: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for instance in instances:
        if not set(names.tags) <= set(instance.tags) or (instance.kind and instance.proxies is None):
            continue
        service = instance.proxies[0] if instance.proxies else key[1]
        namespace = instance.meta.get(NAMESPACE) or names.namespace
        hostname = names.here.host(service, namespace)
        if not _HOST.fullmatch(hostname):
            continue
        namespaces[hostname] = namespace
        if instance.proxies is None:
            found[hostname].append(instance)
        elif instance.proxies[2]:
            hidden[hostname].add((instance.node, instance.proxies[1]))
        else:
            hidden[hostname].update(())
    return {
        hostname: Part(key, namespace, tuple(found.get(hostname, ())), frozenset(hidden.get(hostname, ())), hostname in hidden)
        for hostname, namespace in namespaces.items()
    }


def build(hostname: str, parts: Sequence[Part], names: Names, resolved: Mapping[str, Sequence[str]]) -> Service:
    """The service that the parts, one at least, describe. resolved: the addresses of instances that are registered with a DNS name."""
    parts = sorted(parts, key=lambda part: part.key)
    hidden = {(part.key[0], *each) for part in parts for each in part.hidden}
    plain, closed, proxied = [], 0, any(part.proxied for part in parts)
    for part in parts:
        for instance in part.instances:
            if instance.native or (part.key[0], instance.node, instance.ident) in hidden:
                closed += 1
            else:
                plain.append((part.key[0], instance))
    ports = _ports([instance for part in parts for instance in part.instances])
    notes = []
    if closed:
        notes.append(f"{closed} of {closed + len(plain)} instances in Consul {_CONNECT}; {_CONNECT_REMEDY}")
    elif proxied and not plain:
        notes.append(f"Consul has sidecar proxies of it and no instance of its own: they {_CONNECT}; {_CONNECT_REMEDY}")
    if nameless := sorted({i.address for _, i in plain if _is_name(i.address) and not resolved.get(i.address)}):
        notes.append(f"{', '.join(nameless[:3])}: no address found in DNS, so the instances there get no traffic; check the name")
    endpoints = _endpoints(plain, ports, names, resolved)
    return Service(hostname, parts[0].namespace, ports=ports, endpoints=endpoints, notes=tuple(notes))


def names_to_resolve(parts: Iterable[Part]) -> set[str]:
    """The DNS names that instances are registered with."""
    return {instance.address for part in parts for instance in part.instances if _is_name(instance.address)}


def _is_name(address: str) -> bool:
    return bool(address) and not address.startswith("/") and not is_address(address)


def _ports(instances: Sequence[Instance]) -> tuple[Port, ...]:
    said = sorted(
        {int(text) for instance in instances if (text := instance.meta.get(PORT, "")).isdecimal() and 0 < int(text) < 65536}
    )
    known = sorted({instance.port for instance in instances if 0 < instance.port < DYNAMIC})
    numbers = (said or known or [FALLBACK])[:MOST_PORTS]
    ports: list[Port] = []
    word, named = _protocol(instances), next((i.meta[PORT_NAME] for i in instances if i.meta.get(PORT_NAME)), "")
    for number in numbers:
        protocol = port_protocol("", word, number)
        name = named or ("http" if protocol is Protocol.UNKNOWN else protocol.value.lower())
        ports.append(Port(number, f"{name}-{number}" if ports else name, protocol))
    return tuple(ports)


def _protocol(instances: Iterable[Instance]) -> str:
    for instance in instances:
        word = instance.meta.get(PROTOCOL) or instance.meta.get("protocol") or ""
        word = word or next((tag for tag in instance.tags if tag in _PROTOCOL_TAGS), "")
        if word:
            return word
    return ""


def _endpoints(
    plain: Iterable[tuple[str, Instance]], ports: Sequence[Port], names: Names, resolved: Mapping[str, Sequence[str]]
) -> tuple[Endpoint, ...]:
    """One an address and port; what is registered twice counts once, as long as one of the two is healthy."""
    found: dict[tuple[str, int], Endpoint] = {}
    for peer, instance in plain:
        if instance.address.startswith("/") or not instance.port:
            continue  # a socket is of the machine that registered it, and here it could be any
        for address in resolved.get(instance.address, ()) if _is_name(instance.address) else (instance.address,):
            where = (address, instance.port)
            known = found.get(where)
            if address and (known is None or not known.health.usable):
                found[where] = _endpoint(address, peer, instance, ports, names)
    return tuple(endpoint for _, endpoint in sorted(found.items()))


def _endpoint(address: str, peer: str, instance: Instance, ports: Sequence[Port], names: Names) -> Endpoint:
    return Endpoint(
        address,
        ports=tuple((port.name, instance.port) for port in ports),
        labels=instance.labels,
        cluster=names.here.cluster,
        network=names.here.network,
        locality=instance.locality or _place(peer, instance, names),
        weight=instance.weight,
        health=instance.health,
        healthy=1 if instance.health.usable else 0,
    )


def _place(peer: str, instance: Instance, names: Names) -> Locality:
    """Where Consul says nothing: here, if it is the gateway's own datacenter; else that datacenter is the region."""
    here = not peer and (not names.own or not instance.datacenter or instance.datacenter == names.own)
    return names.here.locality if here else Locality(instance.datacenter)
