"""Who may use a backend: the client's proven identity and its address against what is allowed. Pure.

Theory of operation. Nothing is allowed that no rule takes; a rule takes a client that fits each of its lists. A client's identity is the
SPIFFE id that it proved, without `spiffe://`, as Istio writes principals. What was decided for one (identity, address) is kept, as
long as there is room: it depends on nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from gateway.parts.access import Allowed

_SCHEME = "spiffe://"
_KEPT = 4096  # decisions, some 200 bytes each; beyond that all are made anew
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Access:
    """One backend's rules made ready. counts: why → how many were let through or not, in words for metrics."""

    __slots__ = ("_decided", "_ready", "counts", "rules")

    def __init__(self, rules: tuple[Allowed, ...]) -> None:
        """Raises ValueError for a network that is none."""
        self.rules = rules
        self._ready = [_Rule(rule) for rule in rules]
        self._decided: dict[tuple[str, str], tuple[bool, str]] = {}
        self.counts: dict[tuple[bool, str], int] = {}

    def decide(self, identity: str, address: str) -> tuple[bool, str]:
        """(allowed, why), and counts it. identity: as proven, "" = none. address: the client's IP, "" = none (a unix socket).
        why: one word: the rule, `from[0]`; or what is missing."""
        key = (identity, address)
        found = self._decided.get(key)
        if found is None:
            if len(self._decided) >= _KEPT:
                self._decided.clear()
            found = self._decided[key] = self._judge(identity, address)
        self.counts[found] = self.counts.get(found, 0) + 1
        return found

    def _judge(self, identity: str, address: str) -> tuple[bool, str]:
        principal = identity.removeprefix(_SCHEME)
        client = _address(address)
        for index, rule in enumerate(self._ready):
            if rule.takes(principal, client):
                return True, f"from[{index}]"
        if not self._ready:
            return False, "nobody_is_allowed"
        if not principal and all(rule.asks_who for rule in self._ready):
            return False, "no_client_certificate"
        if principal and all(rule.asks_who for rule in self._ready):
            return False, "identity_not_allowed"
        return False, "client_not_allowed" if any(rule.asks_who for rule in self._ready) else "address_not_allowed"

    def __repr__(self) -> str:
        return f"<Access {self.rules}>"


class _Rule:
    __slots__ = ("_networks", "_principals", "asks_who")

    def __init__(self, rule: Allowed) -> None:
        self.asks_who = bool(rule.principals)
        self._principals = [_matcher(each.removeprefix(_SCHEME)) for each in rule.principals]
        self._networks: list[_Network] = [ipaddress.ip_network(each, strict=False) for each in rule.ip_blocks]

    def takes(self, principal: str, client: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
        """A rule with no list takes everybody."""
        if self._principals and not (principal and any(matches(principal) for matches in self._principals)):
            return False
        return not self._networks or (client is not None and any(client in network for network in self._networks))


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Exact, `prefix*`, `*suffix`, or `*`: any proven identity."""
    if pattern.endswith("*"):
        beginning = pattern[:-1]
        return lambda text: text.startswith(beginning)
    if pattern.startswith("*"):
        end = pattern[1:]
        return lambda text: text.endswith(end)
    return lambda text: text == pattern


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
