"""What a Node says of Nomad as a source."""

from __future__ import annotations

from collections.abc import Iterator

from discovery.here import HOSTNAME
from federation.resources.checks import duplicates
from federation.resources.message import Fault
from federation.resources.registry.agent import AgentConnection
from federation.resources.registry.hostname import hostname_faults
from federation.resources.scalars import Flag

ADDRESS = "http://127.0.0.1:4646"  # of the local agent: Nomad's own default
MOST_NAMESPACES = 8  # each is waited for on a connection of its own, and an agent allows a client 100; for more there is `*`


class NomadSource(AgentConnection):
    """namespace: one, or `*` for all that the token may read; namespaces: several, in its place. region "": the agent's own. tags: only
    registrations with all of them. allow_stale: any server may answer, not the leader alone."""

    address: str = ADDRESS
    region: str = ""
    namespace: str = "*"
    namespaces: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    hostname: str = HOSTNAME
    allow_stale: Flag = True

    @property
    def read_namespaces(self) -> tuple[str, ...]:
        return self.namespaces or (self.namespace,)

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not self.namespace:
            yield Fault(("namespace",), "namespace is empty; write one, or `*` for all")
        if self.namespaces and self.namespace != "*":
            yield Fault(("namespaces",), "namespace and namespaces exclude each other; keep one")
        if len(self.namespaces) > MOST_NAMESPACES:
            yield Fault(("namespaces",), f"{len(self.namespaces)} namespaces, {MOST_NAMESPACES} at most; leave it out for all")
        for index, name in enumerate(self.namespaces):
            if not name or name == "*":
                yield Fault(("namespaces", index), "a name is needed here; for all namespaces write `namespace: '*'`")
        for index, name in duplicates(list(self.namespaces)):
            yield Fault(("namespaces", index), f"`{name[:80]}` is written twice; remove one")
        yield from hostname_faults(self.hostname)
