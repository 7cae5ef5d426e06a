"""DNS names that a registry names where it could have said addresses (a cloud's load balancer, an ExternalName), kept resolved.

Each name is asked for A and AAAA by itself, again when the answer's TTL is over; one that cannot be resolved keeps its last addresses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import dns.asyncresolver
import dns.exception
import dns.resolver
import structlog
import trio

from discovery.resolving import SYSTEM, Nameservers
from discovery.supervise import TaskSet, describe
from discovery.watch import Watchable

# Seconds. Load balancers of clouds say 60; below 5 every request of a resolver would be ours, above 300 a replaced one is missed.
_LEAST, _MOST, _AFTER_FAILURE = 5.0, 300.0, 15.0
_log = structlog.get_logger()


class Lookups:
    """said: told of each name's addresses, sorted, whenever they may have changed; must not block nor raise. `tried` names have been
    asked once, whatever came of it."""

    def __init__(self, said: Callable[[str, tuple[str, ...]], None], *, nameservers: Nameservers = SYSTEM) -> None:
        self.tried: set[str] = set()
        self._said = said
        self._nameservers = nameservers
        self._wanted: Watchable[Mapping[str, None]] = Watchable({})
        self._attempted = trio.Event()

    def want(self, names: frozenset[str]) -> None:
        """Keep exactly these resolved. Never blocks."""
        if names != self._wanted.value.keys():
            self._wanted.set(dict.fromkeys(sorted(names)))
            self.tried &= names

    async def run(self) -> None:
        """Ask until cancelled; raises nothing that names or the network can cause."""
        await TaskSet(self._keep, rng=random.random, report=_report).run(self._wanted)

    async def wait_tried(self) -> None:
        """Until every wanted name was asked once."""
        while not self._wanted.value.keys() <= self.tried:
            self._attempted = trio.Event()
            await self._attempted.wait()

    async def _keep(self, name: str, _: None) -> None:
        while True:
            pause = await self._ask(name)
            self.tried.add(name)
            self._attempted.set()
            await trio.sleep(pause)

    async def _ask(self, name: str) -> float:
        addresses: set[str] = set()
        ttl = _MOST
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._nameservers.addresses)
            if self._nameservers.addresses:
                resolver.nameservers, resolver.port = list(self._nameservers.addresses), self._nameservers.port
            for kind in ("A", "AAAA"):
                answer = await resolver.resolve(
                    f"{name}.", kind, raise_on_no_answer=False, search=False, lifetime=self._nameservers.timeout
                )
                if answer.rrset is not None:
                    addresses |= {rdata.address for rdata in answer.rrset}
                    ttl = min(ttl, float(answer.chaining_result.minimum_ttl))
        except dns.resolver.NXDOMAIN:
            self._said(name, ())
            return _AFTER_FAILURE
        except (dns.exception.DNSException, OSError) as error:
            _log.warning("kubernetes.name_unresolved", name=name, error=describe(error))
            return _AFTER_FAILURE
        self._said(name, tuple(sorted(addresses)))
        return max(ttl, _LEAST)

    def __repr__(self) -> str:
        return f"<Lookups wanted={len(self._wanted.value)} tried={len(self.tried)}>"


def _report(name: str, error: Exception) -> None:
    _log.error("kubernetes.name_failed", name=name, error=describe(error))
