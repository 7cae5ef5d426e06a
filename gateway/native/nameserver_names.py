"""Which names there are: the services of a Snapshot by every spelling, and the zones that are ours.

Theory of operation. Names are indexed by their wire form, in lower case, so a name's parent is a slice of it. A question's name is looked for
as it is; then as CLUSTER.NAME, HOSTNAME.NAME and HOSTNAME.CLUSTER.NAME of a headless service; then under a wildcard, the longest suffix
first. Where several services claim one spelling, it is the one's whose own name it is, else the first by name: all gateways say the same.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from gateway.native.codec.dns import encode_name, first_label, parent
from gateway.native.nameserver_places import packed
from gateway.parts.name import Dns, Name
from gateway.snapshot import Part

_PREFIX = "name/"
_WILD = b"\x01*"

_Owners = dict[tuple[bool, str], Name]  # (it is only an alias, the service's name) → Name


class Found(msgspec.Struct, frozen=True):
    """A Name and how it was asked for. host: the part of the question's name that stands for the service, wire form; below: labels in
    front of it that choose among its endpoints."""

    name: Name
    host: bytes
    below: tuple[str, ...] = ()


class Names:
    """`dns`: what the node says."""

    def __init__(self) -> None:
        self.dns = Dns()
        self._parts: dict[str, Name] = {}
        self._owners: dict[bytes, _Owners] = {}
        self._wild: dict[bytes, _Owners] = {}  # by the suffix of `*.suffix`
        self._reverse: dict[bytes, _Owners] = {}
        self._above: Counter[bytes] = Counter()  # names that are none themselves but have some below
        self._zones = frozenset(_encoded(self.dns.zones))

    # -------------------------------------------------------------------------------------------------------- applying

    def apply(self, dns: Dns, parts: Mapping[str, Part], changed: Iterable[str] | None = None) -> Iterator[bool]:
        """Be what the Snapshot says, in steps that yield whether anything changed. Between steps both old and new may be found. changed:
        names of parts; None = look at all."""
        if dns != self.dns:
            self.dns = dns
            self._zones = frozenset(_encoded(dns.zones))
            yield True
        if changed is None:
            changed = [
                *(name for name, part in parts.items() if type(part) is Name),
                *(name for name in self._parts if name not in parts),
            ]
            yield False
        for name in changed:
            if name.startswith(_PREFIX) and self._take(name, parts.get(name)):
                yield True

    def _take(self, name: str, part: Part | None) -> bool:
        old, new = self._parts.get(name), part if type(part) is Name else None
        if old is new or old == new:
            return False
        if old is not None:
            self._forget(self._parts.pop(name))
        if new is not None:
            self._parts[name] = new
            self._learn(new)
        return True

    def _learn(self, name: Name) -> None:
        own = _own(name)
        for table, key in self._keys(name):
            table.setdefault(key, {})[key != own, name.name] = name
            while len(key := parent(key)) > 1:
                self._above[key] += 1

    def _forget(self, name: Name) -> None:
        own = _own(name)
        for table, key in self._keys(name):
            owners = table[key]
            del owners[key != own, name.name]
            if not owners:
                del table[key]
            while len(key := parent(key)) > 1:
                self._above[key] -= 1
                if not self._above[key]:
                    del self._above[key]

    def _keys(self, name: Name) -> list[tuple[dict[bytes, _Owners], bytes]]:
        """Where it is indexed, each place once. What is no DNS name cannot be asked for."""
        found: dict[tuple[int, bytes], tuple[dict[bytes, _Owners], bytes]] = {}
        for spelling in _encoded((name.name, *name.aliases)):
            wild = spelling.startswith(_WILD)
            table, key = (self._wild, spelling[2:]) if wild else (self._owners, spelling)
            found[wild, key] = table, key
        if not name.name.startswith("*") and _own(name):
            for address in name.addresses:
                if packed(address):
                    key = encode_name(ipaddress.ip_address(address).reverse_pointer)
                    found[2, key] = self._reverse, key
        return list(found.values())

    def __len__(self) -> int:
        return len(self._parts)

    # --------------------------------------------------------------------------------------------------------- finding

    def find(self, name: bytes) -> Found | None:
        """name: in lower case, wire form."""
        owners = self._owners.get(name)
        if owners is not None:
            return Found(_first(owners), name)
        host = name
        for count in (1, 2):
            host = parent(host)
            owners = self._owners.get(host)
            if owners is not None and (below := _first(owners)) and not below.addresses and below.backends:
                return Found(below, host, (first_label(name), first_label(parent(name)))[:count])
        suffix = name
        while self._wild and len(suffix) > 1:
            suffix = parent(suffix)
            owners = self._wild.get(suffix)
            if owners is not None:
                return Found(_first(owners), name)
        return None

    def zone(self, name: bytes) -> bytes | None:
        """The zone of ours that a name is in."""
        while name not in self._zones:
            if len(name) <= 1:
                return None
            name = parent(name)
        return name

    def pointed(self, name: bytes) -> list[Name]:
        """The services that have the address whose reverse name this is, in their order."""
        owners = self._reverse.get(name)
        return [] if owners is None else [owners[key] for key in sorted(owners)]

    def above(self, name: bytes) -> bool:
        """Whether there are names below this one."""
        return name in self._above

    def __repr__(self) -> str:
        return f"<Names {len(self._parts)} names {len(self._owners)} spellings>"


def _first(owners: _Owners) -> Name:
    if len(owners) == 1:
        return next(iter(owners.values()))
    return owners[min(owners)]


def _own(name: Name) -> bytes:
    """Its own name as `_keys` has it, b"" if that is no DNS name."""
    spelling = next(_encoded((name.name,)), b"")
    return spelling[2:] if spelling.startswith(_WILD) else spelling


def _encoded(names: Iterable[str]) -> Iterator[bytes]:
    """Those that are DNS names."""
    for text in names:
        try:
            yield encode_name(text)
        except ValueError:
            continue
