"""Istio WorkloadGroup (networking/v1alpha3): what workloads of one kind have in common that register themselves, and how the gateway checks
them. Numbers and defaults are Kubernetes' (and so Istio's): of a probe the first result counts, then so many in a row.

Who may register is not in Istio's API: there the workload's own certificate says it. Here the annotation TOKENS lists SHA-256 sums (hex) of
tokens; a workload that presents one of them may register from elsewhere. Without it, only this machine's administrator may. NETWORKS, if
it is written, are where such workloads have their addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from federation.resources.checks import fault, host_fault, is_ip, is_label, label_faults, port_fault, range_fault
from federation.resources.message import Fault, Message
from federation.resources.scalars import Place, Whole
from federation.resources.service_entry import WorkloadEntry

TOKENS = "workloads.fedgate.io/token-sha256"
NETWORKS = "workloads.fedgate.io/networks"
MOST_HEADERS = 16  # of a probe: one or two are written

_SUM = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")


def token_sums(annotations: dict[str, str]) -> tuple[str, ...]:
    """Of a WorkloadGroup's own metadata; several are separated by commas, so that a token can be replaced without a gap."""
    return tuple(each.strip().lower() for each in annotations.get(TOKENS, "").split(",") if each.strip())


def networks(annotations: dict[str, str]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] | None:
    """Those that NETWORKS names, with commas; None if it is not written. What is no network there holds no address."""
    if NETWORKS not in annotations:
        return None
    found = []
    for each in annotations[NETWORKS].split(","):
        try:
            found.append(ipaddress.ip_network(each.strip(), strict=False))
        except ValueError:
            continue
    return tuple(found)


def annotation_faults(annotations: dict[str, str]) -> Iterator[Fault]:
    """What is wrong with TOKENS and NETWORKS; paths begin at the annotations. What is written as a sum is never repeated: it may be the
    token itself."""
    for number, each in enumerate(token_sums(annotations), 1):
        if not _SUM.fullmatch(each):
            text = (
                f"sum {number} is not 64 hexadecimal digits and opens nothing; `fedgate workload token` makes a token and its sum"
            )
            yield Fault((TOKENS,), text)
    for each in annotations[NETWORKS].split(",") if NETWORKS in annotations else ():
        try:
            ipaddress.ip_network(each.strip(), strict=False)
        except ValueError:
            yield Fault((NETWORKS,), f"`{each.strip()[:80]}` is no network; write for example 10.1.0.0/16, several with commas")


class HttpHeader(Message):
    name: str
    value: str = ""

    def faults(self) -> Iterator[Fault]:
        if not _HEADER.fullmatch(self.name):
            yield Fault(("name",), f"`{self.name[:80]}` is no header name; write for example Host")
        if any(letter < " " or letter > "~" for letter in self.value) or len(self.value) > 4096:
            yield Fault(("value",), "is no header value; use visible ASCII, 4096 characters at most")


def _scheme(value: object) -> object:
    if isinstance(value, str) and value.upper() in ("HTTP", "HTTPS", ""):
        return value.upper() or "HTTP"
    raise ValueError("must be HTTP or HTTPS")


class HttpGet(Message):
    """200 to 399 passes. host "": the workload's address. HTTPS: its certificate is not looked at, as Kubernetes does."""

    port: Whole
    path: str = "/"
    host: str = ""
    scheme: Annotated[str, BeforeValidator(_scheme)] = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from fault(("port",), port_fault(self.port))
        if self.path and not self.path.startswith("/"):
            yield Fault(("path",), f"`{self.path[:80]}` is no path; begin it with /")
        elif any(letter <= " " or letter > "~" for letter in self.path) or len(self.path) > 2048:
            yield Fault(("path",), "has a character that no path has, or more than 2048; write it percent-encoded")
        if self.host and not is_ip(self.host):
            yield from fault(("host",), host_fault(self.host, wildcard=False))
        if len(self.http_headers) > MOST_HEADERS:
            yield Fault(("httpHeaders",), f"{len(self.http_headers)} headers, {MOST_HEADERS} at most")


class TcpSocket(Message):
    """A connection that is accepted passes."""

    port: Whole
    host: str = ""

    def faults(self) -> Iterator[Fault]:
        yield from fault(("port",), port_fault(self.port))
        if self.host and not is_ip(self.host):
            yield Fault(("host",), "must be an IP; leave it out for the workload's own address")


class Grpc(Message):
    """grpc.health.v1.Health/Check says SERVING."""

    port: Whole
    service: str = ""

    def faults(self) -> Iterator[Fault]:
        yield from fault(("port",), port_fault(self.port))
        if len(self.service) > 255:
            yield Fault(("service",), "has more than 255 characters; write the name of a gRPC service")


class Exec(Message):
    command: tuple[str, ...] = ()


class Probe(Message):
    """0 is Kubernetes' default of each number."""

    initial_delay_seconds: Whole = 0
    timeout_seconds: Whole = 0
    period_seconds: Whole = 0
    success_threshold: Whole = 0
    failure_threshold: Whole = 0
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    exec: Exec | None = None

    @property
    def timeout(self) -> float:
        return float(self.timeout_seconds or 1)

    @property
    def period(self) -> float:
        return float(self.period_seconds or 10)

    def faults(self) -> Iterator[Fault]:
        if self.exec is not None:
            yield Fault(("exec",), "a gateway cannot run commands on the workload; write httpGet, tcpSocket or grpc")
        found = [kind for kind in (self.http_get, self.tcp_socket, self.grpc, self.exec) if kind is not None]
        if len(found) != 1:
            yield Fault((), f"a probe asks in one way, this one in {len(found)}; write one of httpGet, tcpSocket and grpc")
        for name, number, most in (
            ("initialDelaySeconds", self.initial_delay_seconds, 86_400),
            ("timeoutSeconds", self.timeout_seconds, 600),
            ("periodSeconds", self.period_seconds, 86_400),
            ("successThreshold", self.success_threshold, 1000),
            ("failureThreshold", self.failure_threshold, 1000),
        ):
            yield from fault((name,), range_fault(number, 0, most))


class GroupMetadata(Message):
    """Put on every workload of the group."""

    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        yield from label_faults(self.labels, ("labels",))


class WorkloadTemplate(Message):
    """A WorkloadEntry without its address, which each workload says itself."""

    address: str = ""
    ports: dict[str, Whole] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    network: str = ""
    locality: Place = WorkloadEntry.model_fields["locality"].default
    weight: Whole = 0
    service_account: str = ""

    def faults(self) -> Iterator[Fault]:
        if self.address:
            yield Fault(("address",), "each workload registers its own address; remove it, or write a WorkloadEntry")
        for name, number in self.ports.items():
            if not is_label(name):
                yield Fault(("ports", name), f"`{name[:80]}` is no port name; use letters, digits and `-`, 63 at most")
            yield from fault(("ports", name), port_fault(number))
        yield from fault(("weight",), range_fault(self.weight, 0))
        yield from label_faults(self.labels, ("labels",))


class WorkloadGroup(Message):
    """probe None: a workload is up as long as it is registered."""

    template: WorkloadTemplate
    metadata: GroupMetadata = GroupMetadata()
    probe: Probe | None = None
