"""The filter chains of a listener, made ready, by the server name of the client hello."""

from __future__ import annotations

import msgspec

from gateway.native.targets import Targets
from gateway.native.tls import ServerTls
from gateway.snapshot import FilterChain


class Chain(msgspec.Struct, frozen=True):
    """A filter chain with its TLS made ready; `server` None with `tls` written: it does not load, and nobody is served by it.
    targets: where its connections are relayed; None = it carries HTTP, or finds its target by name."""

    filters: FilterChain
    server: ServerTls | None
    targets: Targets | None = None


class Names:
    """Values by server name: exact, then the longest wildcard, then the one for all. The first of two for one name stays."""

    def __init__(self) -> None:
        self._exact: dict[str, Chain] = {}
        self._suffixes: dict[str, Chain] = {}
        self._rest: Chain | None = None

    def add(self, names: tuple[str, ...], value: Chain) -> None:
        for name in names or ("*",):
            lower = name.lower()
            if lower == "*":
                self._rest = self._rest or value
            elif lower.startswith("*."):
                self._suffixes.setdefault(lower[2:], value)
            else:
                self._exact.setdefault(lower, value)

    def find(self, name: str) -> Chain | None:
        """`name` as a Hello says it; "" finds only the value for all."""
        found = self._exact.get(name)
        if found is not None:
            return found
        if self._suffixes:
            rest = name.partition(".")[2]
            while rest:
                found = self._suffixes.get(rest)
                if found is not None:
                    return found
                rest = rest.partition(".")[2]
        return self._rest
