"""What a workload on another machine may say of itself: less than the administrator of this one. Pure.

Theory of operation. The gateway sends its clients' requests to whatever address is registered, so an address that means this machine, its
link or nobody would make it a way to what only it can reach: its own admin port, a cloud's metadata service. And a token is for one group:
what the group says of its workloads (labels, by which services select them; the service account, by which they are known) is not for a
workload to contradict.
"""

from __future__ import annotations

import ipaddress

from federation.resources.document import Document
from federation.resources.workload_group import WorkloadGroup, networks
from federation.workloads.desk import Claim, Refused

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check(group: Document[WorkloadGroup], address: str, claim: Claim, *, own: bool) -> None:
    """Raises Refused. address: an IP; anything else is refused elsewhere. own: it is one of this machine's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return
    wrong = _address_fault(group, found, own=own) or _claim_fault(group, claim)
    if wrong:
        raise Refused(wrong, 403)


def _address_fault(group: Document[WorkloadGroup], address: _Address, *, own: bool) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return f"{address} is an address of one link; register one that is routed"
        address = address.ipv4_mapped or address
    written = networks(group.metadata.annotations)
    if written is not None:
        inside = any(address in network for network in written)
        return "" if inside else f"{address} is in none of the networks that the WorkloadGroup names; register from there"
    if own or _never(address):
        return (
            f"{address} means the gateway's own machine, its link or nobody; register the address that the gateway reaches the workload "
            "at, or have its network written into the WorkloadGroup's annotation workloads.fedgate.io/networks"
        )
    return ""


def _never(address: _Address) -> bool:
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast or address.is_reserved


def _claim_fault(group: Document[WorkloadGroup], claim: Claim) -> str:
    template = group.spec.template
    said = {**group.spec.metadata.labels, **template.labels}
    for key, value in claim.labels.items():
        if said.get(key, value) != value:
            return f"labels.{key[:80]}: the WorkloadGroup says {said[key]}; leave it out"
    if claim.service_account not in ("", template.service_account):
        return "serviceAccount: the WorkloadGroup says who its workloads are; leave it out"
    return ""
