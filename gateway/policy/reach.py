"""Where a client may send the gateway by naming a host or an address itself. Pure.

Theory of operation. Whoever owns a name decides what it resolves to, so a name that clients choose must not lead inside: an answer in a
private, loopback, link-local, shared or reserved network would make of the gateway a way to what only it can reach (the admin port, a
cloud's metadata service at 169.254.169.254, other workloads). Such answers are refused unless the configuration names their networks.
Addresses in which an IPv4 address is wrapped (mapped, 6to4, NAT64, Teredo) are judged by both. "Everywhere" (0.0.0.0/0, ::/0) is said by
who means the world, so it means neither this machine nor its link: those are named by themselves.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215
_COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291 2.5.5.1, deprecated
_KEPT = 1024  # answers that were judged: as many as names are kept
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


def public(text: str) -> bool:
    """Whether an address is of the Internet: global, unicast, and so is what it wraps."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return all(each.is_global and not each.is_multicast and not each.is_reserved and not _site(each) for each in _meant(address))


def _site(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.is_site_local  # fec0::/10, deprecated by RFC 3879


def _meant(address: Address) -> Iterable[Address]:
    """What connecting to it may reach: a mapped address is nothing but what it maps."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64 or address in _COMPATIBLE:
        wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return (wrapped,) if address in _NAT64 else (address, wrapped)
    if address in _NAT64_LOCAL:
        return (address, ipaddress.IPv4Address("0.0.0.0"))  # who runs it decides what it leads to
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    if address.teredo is not None:
        return (address, address.teredo[1])
    return (address,)


def _here(address: Address) -> bool:
    """This machine, its link (a cloud's metadata service), or nobody in particular."""
    return any(
        each.is_loopback or each.is_link_local or each.is_unspecified or each.is_multicast for each in (address, *_meant(address))
    )


class _Hosts:
    """Host patterns: exact, `*.suffix`, `*`."""

    __slots__ = ("any", "exact", "suffixes")

    def __init__(self, patterns: Sequence[str]) -> None:
        self.any = "*" in patterns
        self.exact = frozenset(host.lower() for host in patterns if not host.startswith("*"))
        self.suffixes = tuple(host[1:].lower() for host in patterns if host.startswith("*."))

    def __contains__(self, name: str) -> bool:
        return self.any or name in self.exact or any(name.endswith(each) and len(name) > len(each) for each in self.suffixes)

    def __repr__(self) -> str:
        return f"<{' '.join([*('*' if self.any else ''), *sorted(self.exact), *(f'*{each}' for each in self.suffixes)])}>"


class Reach:
    """What one backend's clients may name. hosts: exact, `*.suffix`, `*`; but_not: of those. networks: CIDRs that may be reached besides
    what is public."""

    __slots__ = ("_but_not", "_hosts", "_judged", "_networks")

    def __init__(self, hosts: Sequence[str], networks: Sequence[str], but_not: Sequence[str] = ()) -> None:
        """Raises ValueError for a network that is none."""
        self._hosts, self._but_not = _Hosts(hosts), _Hosts(but_not)
        self._judged: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(each, strict=False) for each in networks)

    def takes(self, name: str) -> bool:
        """Whether a name (lower case, no last dot) may be looked up."""
        labels = name.split(".")
        if len(name) > 253 or not all(0 < len(label) < 64 and _LETTERS.issuperset(label) for label in labels):
            return False
        return name in self._hosts and name not in self._but_not

    def usable(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Of what a name resolved to, what may be connected to."""
        found = self._judged.get(addresses)
        if found is None:
            if len(self._judged) >= _KEPT:
                self._judged.clear()
            found = self._judged[addresses] = tuple(each for each in addresses if public(each) or self._within(each))
        return found

    def meant(self, address: str) -> bool:
        """Whether an address that the client named itself may be connected to: one of the networks, or where every host may be named."""
        return self._within(address) or (self._hosts.any and public(address))

    def _within(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        judged = getattr(address, "ipv4_mapped", None) or address
        everywhere = not _here(judged)
        return any(judged in network and (everywhere or network.prefixlen > 0) for network in self._networks)

    def __repr__(self) -> str:
        return f"<Reach {self._hosts} but not {self._but_not} {self._networks}>"
