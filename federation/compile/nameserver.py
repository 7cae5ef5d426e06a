"""The nameserver: where it listens, whom it answers, and who is asked for what is no service's.

Without upstreams of its own in the Node it asks the machine's: what resolv.conf says, which plane reads and watches like a file that
documents name.
"""

from __future__ import annotations

import ipaddress

from discovery.resolving import Nameservers
from federation.compile.inputs import RESOLV_CONF, Inputs
from federation.resources.node import Node
from gateway.snapshot import Dns, Listener, ListenerKind

PORT = 53
MOST_UPSTREAMS = 3  # glibc's MAXNS: what other programs of this machine use too

# Where `allow` says nothing: addresses that are not routed on the internet, so that nobody out there can use this server against others
# (RFC 1918, 6598, 3927, 4193, 4291; BIND's default is `localnets`, which a gateway behind a load balancer would not see).
PRIVATE = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)


def dns_of(inputs: Inputs) -> Dns:
    """What the nameserver is to do. Raises nothing."""
    spec = inputs.node.spec
    written = tuple(place(text) for text in spec.dns.upstreams)
    zones = dict.fromkeys((spec.cluster_domain.lower(), "clusterset.local", "global"))
    return Dns(
        zones=tuple(zones),
        upstreams=tuple(each for each in written or _system(inputs) if not _itself(each, inputs)),
        allow=spec.dns.allow or PRIVATE,
        ttl=spec.dns.ttl,
        synced=inputs.synced,
    )


def asked(spec: Node) -> Nameservers:
    """Who is asked for the names in documents: the Node's upstreams, else the system's."""
    places = tuple(place(text) for text in spec.dns.upstreams)
    return Nameservers(tuple(address for address, _ in places), ports=places)


def nameserver_listener(inputs: Inputs) -> Listener:
    listen = inputs.node.spec.listen.dns
    return Listener(listen.host, listen.port, ListenerKind.DNS)


def place(text: str) -> tuple[str, int]:
    """`10.0.0.2`, `10.0.0.2:53`, `2001:db8::1` or `[2001:db8::1]:53`."""
    try:
        return str(ipaddress.ip_address(text)), PORT
    except ValueError:
        host, _, port = text.rpartition(":")
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)


def _system(inputs: Inputs) -> tuple[tuple[str, int], ...]:
    """The nameservers of resolv.conf(5), those that have a scope (`fe80::1%eth0`) passed over: it is known on this machine only."""
    found = inputs.files.get(RESOLV_CONF)
    words = [line.split() for line in found.data.decode("utf-8", "replace").splitlines()] if found is not None else []
    named = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
    return tuple((text, PORT) for text in named[:MOST_UPSTREAMS] if _is_ip(text))


def _is_ip(text: str) -> bool:
    try:
        return not text.partition("%")[1] and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _itself(place: tuple[str, int], inputs: Inputs) -> bool:
    """Whether this is our own nameserver: it would ask itself without end."""
    listen = inputs.node.spec.listen.dns
    if place[1] != listen.port:
        return False
    own, other = ipaddress.ip_address(listen.host), ipaddress.ip_address(place[0])
    return own == other or (own.is_unspecified and other.is_loopback)
