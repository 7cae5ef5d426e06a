"""Services → what the nameserver answers: which names a service has, and where they lead.

Theory of operation. A name leads to the service's virtual addresses, so that traffic comes through the gateway; a headless service's leads
to its endpoints, whoever they are. A service without either (resolution NONE and its like, wildcards without addresses) has no name
here: it is somebody else's to answer.

Which names: the service's own; for `NAME.NAMESPACE.svc.DOMAIN` what Kubernetes clients write, `NAME.NAMESPACE`, `NAME.NAMESPACE.svc` and,
in the gateway's own namespace, `NAME`; `NAME.NAMESPACE.global`; and `NAME.NAMESPACE.svc.clusterset.local` once it is a service of
several clusters (exported, imported, or with endpoints in another), as the MCS API has it. Which name is whose where two claim one is
the nameserver's to say: a service's own name goes before a short form.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from discovery.model import Port, Protocol, Service
from federation.compile.destinations import Reference
from federation.compile.hosts import short_forms
from federation.compile.priorities import is_foreign
from federation.compile.services import subject_of
from federation.compile.status import Problem, warning
from federation.compile.vip_chains import closed_to_all
from federation.vips import Ranges, needs_address, written_addresses
from gateway.snapshot import Name

if TYPE_CHECKING:
    from federation.compile.backends import Setting

CLUSTERSET = "clusterset.local"
GLOBAL = "global"


def name_of(service: Service, setting: Setting) -> Name | None:
    """None: not ours to answer. Its `backends` are those of `name_references`."""
    addresses = tuple(each for each in _addresses(service, setting) if "/" not in each)
    if not (addresses or service.headless or needs_address(service)):
        return None
    backends = () if addresses else tuple(each.backend for each in name_references(service))
    return Name(
        service.hostname,
        aliases=_aliases(service, setting),
        addresses=addresses,
        backends=backends,
        ports=tuple(_srv(port) for port in service.ports if port.name),
        headless=service.headless,
    )


def name_references(service: Service) -> tuple[Reference, ...]:
    """The backends whose endpoints a headless service's name leads to."""
    return tuple(Reference(service.hostname, port.number) for port in service.ports) if service.headless else ()


def address_problems(service: Service, setting: Setting) -> Iterator[Problem]:
    """What is wrong with the addresses by which it is reached, and with those that lie where virtual ones are given away."""
    inputs = setting.inputs
    subject = subject_of(inputs.node)
    why = inputs.assigned.lacking.get(service.hostname)
    if why:
        text = f"{service.hostname} has no virtual address: {why}; until then it is reached by its name at the `http` port only"
        yield warning(subject, "spec.vips", "NoAddress", text)
    if closed_to_all(service):
        text = (
            f"{service.hostname} has resolution NONE and no addresses, so nothing tells connections to it from others and its port is not "
            "opened (Istio would take every connection to that port); write spec.addresses"
        )
        yield warning(subject, "spec.vips", "NoAddress", text)
    vips = inputs.node.spec.vips
    ranges = _ranges(vips.range, vips.range6)
    named = [("address", each) for each in service.addresses] + [("endpoint", each.address) for each in service.endpoints]
    for what, address in dict.fromkeys(named):
        if ranges.slots(address):
            text = (
                f"{what} {address} of {service.hostname} lies in the range of virtual addresses, {' and '.join(ranges.networks)}; "
                + (
                    "it is given to nobody else, but "
                    if what == "address"
                    else "where the range is routed to this gateway it cannot be reached: "
                )
                + "write a vips.range in the Node that nothing else uses"
            )
            yield warning(subject, "spec.vips", "RangeOverlap", text)


@lru_cache(maxsize=4)
def _ranges(range4: str, range6: str) -> Ranges:
    return Ranges.parse(range4, range6)


def _addresses(service: Service, setting: Setting) -> tuple[str, ...]:
    return written_addresses(service) or setting.inputs.assigned.addresses.get(service.hostname, ())


def _aliases(service: Service, setting: Setting) -> tuple[str, ...]:
    spec = setting.inputs.node.spec
    short = short_forms(service.hostname, spec.cluster_domain)
    if not short:
        return ()
    stem = short[0]
    found = [*short, f"{stem}.{GLOBAL}"]
    name, _, namespace = stem.partition(".")
    if namespace == setting.inputs.node.namespace:
        found.append(name)
    if _across(service, setting):
        found.append(f"{stem}.svc.{CLUSTERSET}")
    return tuple(found)


def _across(service: Service, setting: Setting) -> bool:
    """Whether it is one of several clusters."""
    cluster = setting.place.cluster
    if setting.federation.may_have(service.hostname):
        return True
    return any(is_foreign(endpoint, cluster) for endpoint in service.endpoints)


def _srv(port: Port) -> tuple[str, str, int]:
    return port.name.lower(), "udp" if port.protocol is Protocol.UDP else "tcp", port.number
