"""What the nameserver answers: service names, where they lead, and who may ask."""

from __future__ import annotations

import msgspec


class Dns(msgspec.Struct, frozen=True, gc=False):
    """The nameserver of this gateway. zones: suffixes of which it is the authority: a name in one of them that is no service is NXDOMAIN
    and never forwarded (`cluster.local`, `clusterset.local`, `global`). upstreams: (address, port) of who is asked for the rest; empty:
    REFUSED. allow: CIDRs whose questions are answered, others get REFUSED. search: suffixes that short names are completed by.
    synced False: nothing is known yet, every name of a zone is SERVFAIL."""

    zones: tuple[str, ...] = ("cluster.local", "clusterset.local", "global")
    upstreams: tuple[tuple[str, int], ...] = ()
    allow: tuple[str, ...] = ()
    ttl: int = 30
    synced: bool = False


class Name(msgspec.Struct, frozen=True, tag="name", gc=False):
    """One service name. Kept under `name/NAME`.

    name: lower case, no last dot, or `*.suffix`, which answers every name below the suffix that is no other Name. aliases: further names of
    the same answer (short forms, `reviews.shop.global`, clusterset).
    addresses: VIPs, IPv4 and IPv6; they are the answer when there are any (traffic then passes the gateway and fails over).
    backends: names of backends, one a port; a service without addresses (headless) is answered with the addresses of the usable
    endpoints of the first priority that has any. `CLUSTER.NAME` and `HOSTNAME.CLUSTER.NAME`, HOSTNAME being an endpoint's label
    `fedgate.io/hostname`, narrow that down.
    ports: (port's name, "tcp" or "udp", number), for SRV `_NAME._tcp.HOST`.
    ttl: seconds, -1 = the node's.
    """

    name: str
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()
    headless: bool = False
    ttl: int = -1
