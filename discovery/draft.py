"""Services while they come together from many entries of one registry: ports, endpoints and notes, told piece by piece. Pure.

What is told in another order comes out the same, but for names: the first to name a port's number has named it.
"""

from __future__ import annotations

import re

import msgspec

from discovery.model import Endpoint, Port, Protocol, Service

_DNS_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # as Kubernetes and Istio have them


class Draft:
    """One service. notes, labels and created are the caller's to fill."""

    def __init__(self, hostname: str, namespace: str) -> None:
        self.notes: set[str] = set()
        self.labels: dict[str, str] = {}
        self.created = ""
        self._hostname = hostname
        self._namespace = namespace
        self._ports: dict[tuple[int, bool], Port] = {}
        self._seats: dict[tuple[Endpoint, int], dict[str, int]] = {}
        self._taken: set[tuple[str, str, int]] = set()

    def port(self, number: int, name: str, protocol: Protocol) -> str:
        """The service's port of this number, made if there is none; its name, which may be another than was asked for."""
        key = (number, protocol is Protocol.UDP)
        known = self._ports.get(key)
        if known is None:
            name = name.lower()
            if not _PORT_NAME.fullmatch(name) or any(port.name == name for port in self._ports.values()):
                name = f"{protocol.value.lower()}-{number}"
            known = self._ports[key] = Port(number, name, protocol)
        return known.name

    def endpoint(self, seat: Endpoint, port: str, number: int) -> None:
        """`seat`, an endpoint without ports, serves `port` on its port `number`. Who says the same of an address later is not heard."""
        if (seat.address, port, number) in self._taken:
            return
        self._taken.add((seat.address, port, number))
        nth = 0  # two numbers for one port on one address are two endpoints
        while port in self._seats.setdefault((seat, nth), {}):
            nth += 1
        self._seats[seat, nth][port] = number

    def built(self) -> Service:
        endpoints = (msgspec.structs.replace(seat, ports=tuple(sorted(ports.items()))) for (seat, _), ports in self._seats.items())
        return Service(
            hostname=self._hostname,
            namespace=self._namespace,
            ports=tuple(sorted(self._ports.values(), key=lambda port: (port.number, port.name))),
            endpoints=tuple(sorted(endpoints, key=lambda each: (each.address, each.ports, each.tier, each.health.value))),
            labels=tuple(sorted(self.labels.items())),
            created=self.created,
            notes=tuple(sorted(self.notes)),
        )


class Drafts:
    """All of one reading. passed_over: what is no service here, each with its reason and what to do."""

    def __init__(self) -> None:
        self.passed_over: set[str] = set()
        self._drafts: dict[str, Draft] = {}

    def draft(self, hostname: str, namespace: str, *, of: str) -> Draft | None:
        """The service of this name; None if no client could ask for such a name: then `of` has been passed over."""
        if len(hostname) > 253 or not _DNS_NAME.fullmatch(hostname):
            self.passed_over.add(f"{of}: `{hostname[:100]}` is no DNS name; tag it with fedgate-service and fedgate-namespace")
            return None
        if hostname not in self._drafts:
            self._drafts[hostname] = Draft(hostname, namespace)
        return self._drafts[hostname]

    def built(self) -> dict[str, Service]:
        """Every service that has a port, by hostname; also those without endpoints, as that is known too."""
        services = {hostname: draft.built() for hostname, draft in self._drafts.items()}
        return {hostname: service for hostname, service in services.items() if service.ports or service.notes}
