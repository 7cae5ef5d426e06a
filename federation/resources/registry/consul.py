"""What a Node says of Consul: as a source, as a place of documents, as somewhere to publish to, and as what gateways share."""

from __future__ import annotations

from collections.abc import Iterator

from discovery.here import HOSTNAME
from federation.resources.checks import duplicates, is_label, range_fault
from federation.resources.message import Fault
from federation.resources.registry.agent import AgentConnection
from federation.resources.registry.hostname import hostname_faults
from federation.resources.scalars import Flag, Whole

ADDRESS = "http://127.0.0.1:8500"  # of the local agent: Consul's own default
MAX_QUERIES = 96  # discovery.sources.consul.MOST_WATCHED: half of the connections that an agent takes from one address


class ConsulConnection(AgentConnection):
    """namespace, partition: Consul Enterprise's."""

    address: str = ADDRESS
    datacenter: str = ""
    namespace: str = ""
    partition: str = ""


class ConsulSource(ConsulConnection):
    """datacenter "": the agent's own. peers: cluster-peering names whose imported services are read too (`?peer=`). tags: only
    instances with all of them. hostname: template; the namespace is the service's meta `fedgate-namespace`, else `default_namespace`.
    max_queries: services that have a blocking query, and so a connection, of their own."""

    peers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    hostname: str = HOSTNAME
    default_namespace: str = "default"
    allow_stale: Flag = True
    max_queries: Whole = MAX_QUERIES

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        yield from hostname_faults(self.hostname)
        if not is_label(self.default_namespace):
            yield Fault(
                ("defaultNamespace",), f"`{self.default_namespace[:80]}` is no name; use letters, digits and `-`, 63 at most"
            )
        for index, peer in duplicates(list(self.peers)):
            yield Fault(("peers", index), f"`{peer}` is written twice; remove one")
        if text := range_fault(self.max_queries, 1, 4096):
            yield Fault(("maxQueries",), f"{text}: each is a connection to the agent (Consul's http_max_conns_per_client is 200)")


class ConsulDocuments(ConsulConnection):
    """Every key under `prefix` is a YAML or JSON file of documents."""

    prefix: str = "fedgate/config"

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not self.prefix.strip("/"):
            yield Fault(("prefix",), "prefix is empty, which would read all keys there are; write for example fedgate/config")


class ConsulPublish(ConsulConnection):
    """prefix: before every service's name there. writes_per_second: at most, so that a rollout does not load Consul's leader."""

    prefix: str = "fed-"
    writes_per_second: Whole = 50

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        for text in [range_fault(self.writes_per_second, 1, 10_000)]:
            if text:
                yield Fault(("writesPerSecond",), text)
