"""What Octavia's load balancers say of services. Traffic goes to the members themselves, as the load balancer would send it. Pure.

A load balancer is a service, named by its tag `fedgate-service=NAME`, else by its own name; the namespace is its tag
`fedgate-namespace=NAME`, else the project's name. A listener is a port of it, its default pool's members are the endpoints (FIELD g13,
g14, trap 21): weight 0 drains, a backup member is a later tier, a monitor's ERROR takes no traffic and NO_MONITOR counts as healthy.
What is switched off by admin_state_up serves nothing: it is not an endpoint, healthy or not. A member's tags `key=value` are labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from discovery.draft import Draft, Drafts
from discovery.here import Here
from discovery.model import Endpoint, Health, Locality, Protocol
from discovery.reading import labelled_locality, port_protocol

SERVICE_TAG = "fedgate-service"
NAMESPACE_TAG = "fedgate-namespace"
_GOING = frozenset({"PENDING_DELETE", "DELETED"})  # provisioning states of what is being taken away
_HEALTH = {
    "ONLINE": Health.HEALTHY,
    "DEGRADED": Health.DEGRADED,
    "DRAINING": Health.DRAINING,
    "ERROR": Health.UNHEALTHY,
    "OFFLINE": Health.UNHEALTHY,  # of a member that is switched on: its monitor has not seen it up yet
}
_NAMED_HTTP = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})


class Reference(msgspec.Struct, frozen=True):
    id: str


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str | None = None
    admin_state_up: bool | None = True
    provisioning_status: str | None = ""
    tags: tuple[str, ...] | None = ()

    @property
    def off(self) -> bool:
        """Switched off, or being taken away."""
        return self.admin_state_up is False or self.provisioning_status in _GOING

    def tagged(self) -> dict[str, str]:
        """The tags that say something: `key=value`."""
        return {key: value for key, equals, value in (tag.partition("=") for tag in self.tags or ()) if key and equals}


class LoadBalancer(_Entry, frozen=True, kw_only=True):
    created_at: str | None = ""


class Listener(_Entry, frozen=True, kw_only=True):
    protocol: str
    protocol_port: int
    default_pool_id: str | None = None
    loadbalancers: tuple[Reference, ...] = ()
    l7policies: tuple[Reference, ...] | None = ()


class Pool(_Entry, frozen=True, kw_only=True):
    protocol: str
    tls_enabled: bool | None = False


class Member(_Entry, frozen=True, kw_only=True):
    address: str
    protocol_port: int
    weight: int | None = 1
    backup: bool | None = False
    operating_status: str | None = ""
    subnet_id: str | None = None


class Balancing(msgspec.Struct, frozen=True):
    """A project's Octavia. members: by pool id; a pool that is missing here is one nobody could say the members of."""

    balancers: tuple[LoadBalancer, ...] = ()
    listeners: tuple[Listener, ...] = ()
    pools: tuple[Pool, ...] = ()
    members: Mapping[str, tuple[Member, ...]] = {}


class Zones(msgspec.Struct, frozen=True):
    """Availability zones by address: within a subnet, and where an address is of one server only also without."""

    by_subnet: Mapping[tuple[str, str], str] = {}
    by_address: Mapping[str, str] = {}

    def of(self, address: str, subnet: str | None) -> str:
        """ "" when nobody knows."""
        return (self.by_subnet.get((subnet, address)) if subnet else None) or self.by_address.get(address, "")


def add_balancers(drafts: Drafts, balancing: Balancing, *, here: Here, project: str, zones: Zones) -> frozenset[str]:
    """Tell `drafts` of every load balancer. here.locality: the region, for what no zone is known of.

    Returns the hostnames that are not known whole, as a pool's members are not: what was said of those before should stand."""
    pools = {pool.id: pool for pool in balancing.pools}
    unsure = set()
    for balancer in sorted(balancing.balancers, key=lambda each: (each.created_at or "", each.id)):
        listeners = [each for each in balancing.listeners if Reference(balancer.id) in each.loadbalancers]
        draft, hostname = _draft(drafts, balancer, here, project)
        if draft is None:
            continue
        for listener in sorted(listeners, key=lambda each: (each.protocol_port, each.id)):
            pool = pools.get(listener.default_pool_id or "")
            if not _add_listener(draft, balancer, listener, pool, balancing, here, zones):
                unsure.add(hostname)
    return frozenset(unsure)


def _draft(drafts: Drafts, balancer: LoadBalancer, here: Here, project: str) -> tuple[Draft | None, str]:
    tags = balancer.tagged()
    if balancer.provisioning_status in _GOING:
        return None, ""
    service = tags.get(SERVICE_TAG) or balancer.name or ""
    namespace = tags.get(NAMESPACE_TAG) or project
    hostname = here.host(service, namespace)
    of = f"load balancer {balancer.name or balancer.id}"
    if not service:
        drafts.passed_over.add(f"{of} has no name; give it one, or the tag {SERVICE_TAG}=NAME")
        return None, ""
    draft = drafts.draft(hostname, namespace, of=of)
    if draft is not None:
        draft.labels.update((key, value) for key, value in tags.items() if key not in (SERVICE_TAG, NAMESPACE_TAG))
        created = rfc3339(balancer.created_at)
        draft.created = min(filter(None, (draft.created, created)), default="")
    return draft, hostname


def _add_listener(
    draft: Draft, balancer: LoadBalancer, listener: Listener, pool: Pool | None, balancing: Balancing, here: Here, zones: Zones
) -> bool:
    """False if the pool's members are not known."""
    named = f"listener {listener.name or listener.id}"
    if listener.protocol == "PROMETHEUS" or listener.provisioning_status in _GOING:
        return True  # the load balancer's own statistics: no service
    if listener.l7policies:
        draft.notes.add(f"{named} has L7 policies, which are not followed: write them as a VirtualService")
    protocol = _protocol(listener, pool)
    if protocol is None or pool is None:
        if pool is not None:
            draft.notes.add(f"{named}: its members speak {pool.protocol}, which no gateway here sends; the port is left out")
        elif listener.default_pool_id is not None:
            return False  # the pool is newer than the list of pools
        return True
    if pool.tls_enabled:
        draft.notes.add(f"{named}: its members take TLS only (tls_enabled); write a DestinationRule with tls.mode SIMPLE")
    port = draft.port(listener.protocol_port, listener.name or "", protocol)
    if pool.id not in balancing.members:
        return False
    if not (balancer.off or listener.off or pool.off):
        for member in balancing.members[pool.id]:
            if not member.off:
                draft.endpoint(_seat(member, here, zones), port, member.protocol_port)
    return True


def _protocol(listener: Listener, pool: Pool | None) -> Protocol | None:
    """What the members speak, as clients would have it; None for what cannot be spoken. A listener's name tells more, as a port's name
    does in Kubernetes (`grpc-web`)."""
    if pool is None:
        return None
    if pool.protocol == "HTTPS" or (pool.tls_enabled and pool.protocol == "HTTP"):
        return Protocol.HTTPS
    named = port_protocol(listener.name or "", "", listener.protocol_port)
    if pool.protocol == "HTTP":
        return named if named in _NAMED_HTTP else Protocol.HTTP
    if pool.protocol == "TCP":
        return Protocol.TCP if named in (Protocol.UNKNOWN, Protocol.UDP) else named
    return Protocol.UDP if pool.protocol == "UDP" else None


def _seat(member: Member, here: Here, zones: Zones) -> Endpoint:
    weight = 1 if member.weight is None else member.weight
    tags = member.tagged()
    return Endpoint(
        address=member.address,
        labels=tuple(sorted(tags.items())),
        cluster=here.cluster,
        network=here.network,
        locality=labelled_locality(tags) or within(here.locality, zones.of(member.address, member.subnet_id)),
        weight=max(weight, 1),
        health=_HEALTH.get(member.operating_status or "", Health.UNKNOWN) if weight else Health.DRAINING,
        tier=1 if member.backup else 0,
    )


def within(region: Locality, zone: str) -> Locality:
    """The zone of the region; only the region where no zone is known."""
    return Locality(region.region, zone) if region.region and zone else Locality(region.region)


def rfc3339(time: str | None) -> str:
    """OpenStack's times, which are UTC and often do not say so."""
    if not time:
        return ""
    return time if time.endswith("Z") or "+" in time else f"{time}Z"
