"""The merged catalog as others are told of it, and the publishers that tell them.

Theory of operation. A Publication is kept by hostname and made again when its service or a verdict on its endpoints changed, so that a change
costs what it touches; while nobody publishes, nothing is made. A TaskSet keeps a publisher running for every entry of `spec.publish`. One
that is taken out of the Node, or `leave`, takes back what it wrote; a process that ends leaves it, because a restart must not take
services away. For the same reason nothing is told before all peers were heard, or were waited for (`unheard`). What `leave` could not take
back is kept for another try.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass

import msgspec
import structlog
import trio

from discovery.catalog import Catalog
from discovery.model import Endpoint, Service
from discovery.supervise import TaskSet, describe
from discovery.watch import Watchable
from federation.compile.names import joined
from federation.publish.publication import Publication, Publications, Publisher, PublisherStatus
from federation.resources import node as nodes
from federation.unheard import Unheard
from gateway.verdicts import Verdict, Verdicts

LEAVE_WITHIN = (
    20.0  # seconds to take everything back: a thousand entries at the default 50 writes a second; then the log names the rest
)

_log = structlog.get_logger("publishing")
_NOTHING: Mapping[str, Verdict] = {}


@dataclass(frozen=True)
class Outlet:
    """One entry of `spec.publish`. owner: marks what this gateway's cluster wrote. sources: the Node's, so that a publisher knows which of
    them read the registry that it writes to. folder: what paths in it are relative to."""

    written: nodes.Publish
    owner: str
    sources: tuple[nodes.Source, ...] = ()
    folder: str = ""


class StillPublished(Exception):
    """What could not be taken back, and why."""


MakePublisher = Callable[[Outlet], Publisher]
"""Makes the publisher of one entry; connects nowhere yet. Raises ValueError or OSError when that cannot be."""

BackendNames = Callable[[str], Iterable[str]]
"""hostname → names of the backends whose verdicts speak of its endpoints."""


def outlets(node: nodes.Node, name: str, folder: str = "") -> dict[str, Outlet]:
    """By what they write to."""
    found = {}
    for index, written in enumerate(node.publish):
        kind = "consul" if written.consul is not None else "designate"
        found[f"{kind} {index}"] = Outlet(written, f"{node.cluster}/{name}", node.sources, folder)
    return found


def publication(
    service: Service,
    *,
    addresses: Collection[str],
    sources: Collection[str],
    verdicts: Verdicts,
    backends: Iterable[str],
    cluster_domain: str,
) -> Publication | None:
    """What is told of a service; None of one that nobody could reach through here: a wildcard, an external one (which is reached at its
    own name), one without an address of its own that is not headless. addresses: its virtual ones."""
    if service.external or service.hostname.startswith("*"):
        return None
    sick = {
        identifier for name in backends for identifier, said in verdicts.endpoints.get(name, _NOTHING).items() if not _good(said)
    }
    usable = [endpoint for endpoint in service.endpoints if _usable(endpoint, sick)]
    if service.headless:
        told = tuple(sorted({endpoint.address for endpoint in usable if not endpoint.peer and endpoint.address[:1] != "/"}))
    else:
        told = tuple(addresses) or tuple(address for address in service.addresses if "/" not in address)
    if not told:
        return None
    short, namespace = names_of(service, cluster_domain)
    return Publication(
        hostname=service.hostname,
        service=short,
        namespace=namespace,
        ports=tuple(sorted(service.ports)),
        addresses=told,
        healthy=sum(endpoint.healthy for endpoint in usable),
        total=sum(endpoint.total for endpoint in service.endpoints),
        sources=frozenset(sources),
        clusters=tuple(sorted({endpoint.cluster for endpoint in service.endpoints if endpoint.cluster})),
    )


def names_of(service: Service, cluster_domain: str) -> tuple[str, str]:
    """(service, namespace) of `web.shop.svc.cluster.local`; of any other name its labels joined by `-`, and the namespace it came with."""
    labels = service.hostname.split(".")
    if service.hostname.endswith(f".svc.{cluster_domain}") and len(labels) == 3 + cluster_domain.count(".") + 1:
        return labels[0], labels[1]
    return "-".join(labels), service.namespace or "default"


def _good(said: Verdict) -> bool:
    return said.health.usable and said.healthy > 0


def _usable(endpoint: Endpoint, sick: Collection[str]) -> bool:
    if not endpoint.health.usable or not endpoint.healthy:
        return False
    return not any(joined(endpoint.address, number) in sick for _, number in endpoint.ports)


class Publishing:
    """`run` it, tell it what is wanted, and offer it what the plane made."""

    def __init__(self, make: MakePublisher | None, *, rng: Callable[[], float]) -> None:
        self._make = make
        self._wanted: Watchable[Mapping[str, Outlet]] = Watchable({})
        self._publications: Watchable[Publications] = Watchable({})
        self._running: dict[str, Publisher] = {}
        self._unleft: dict[str, Publisher] = {}  # whose entries `leave` could not take back
        self._ended: Watchable[object] = Watchable(None)  # one more has ended
        self._left = False
        self._whole = False  # publications are made and kept up to date
        self._unheard = Unheard()
        self._tasks = TaskSet(self._publish, rng=rng, report=self._failed)

    def want(self, wanted: Mapping[str, Outlet]) -> None:
        """Publish to these from now on. Never blocks."""
        if self._make is not None and not self._left and wanted != self._wanted.value:
            self._wanted.set(dict(wanted))

    def offering(
        self,
        catalog: Catalog,
        verdicts: Verdicts,
        touched: Iterable[str],
        *,
        addresses: Mapping[str, tuple[str, ...]],
        backends: BackendNames,
        cluster_domain: str,
        unheard: Collection[str] = (),
    ) -> Generator[None, None, None]:
        """The services named in `touched`, or the verdicts on them, or their addresses, may be others now. In steps, one a service.
        unheard: peers that have said nothing yet; while they are waited for nothing is told, see `until`."""
        if not self._wanted.value:
            self._whole = False
            return
        if not self._unheard.over(unheard, trio.current_time()):
            return
        old = self._publications.value if self._whole else {}
        names = touched if self._whole else catalog.services.keys()
        self._whole = True
        new = dict(old)
        for hostname in names:
            service = catalog.services.get(hostname)
            made = None
            if service is not None:
                made = publication(
                    service,
                    addresses=addresses.get(hostname, ()),
                    sources={claim.key.source for claim in catalog.claims.get(hostname, ())},
                    verdicts=verdicts,
                    backends=backends(hostname),
                    cluster_domain=cluster_domain,
                )
            if made is None:
                new.pop(hostname, None)
            elif new.get(hostname) != made:
                new[hostname] = made
            yield
        if new != old or not self._publications.version:
            self._publications.set(new)

    @property
    def until(self) -> float:
        """When to offer again though nothing changed, on trio's clock; inf for never."""
        return self._unheard.until if self._wanted.value else float("inf")  # while nobody publishes, an offer moves nothing on

    def statuses(self) -> tuple[PublisherStatus, ...]:
        """In the order of the Node. One that cannot even be made has its error too. After `leave`, those that could not."""
        states = self._tasks.states()
        unleft = tuple(publisher.status.value for publisher in self._unleft.values())
        return unleft + tuple(
            self._running[name].status.value
            if name in self._running
            else PublisherStatus(name, error=states[name].error if name in states else "")
            for name in self._wanted.value
        )

    async def leave(self) -> None:
        """Take back everywhere what was written, and publish no more in this process. Cancelled, it goes on.

        Raises StillPublished for what stands there still, which is logged too: call again to try again."""
        again = {} if not self._left else dict(self._unleft)
        self._left = True
        self._wanted.set({})
        while self._running:
            await self._ended.newer_than(self._ended.version)
        async with trio.open_nursery() as nursery:
            for name, publisher in again.items():
                nursery.start_soon(self._take_back, name, publisher)
        if self._unleft:
            raise StillPublished("; ".join(f"{each.name}: {each.status.value.error}" for each in self._unleft.values()))

    async def run(self) -> None:
        """Until cancelled, which leaves what was written."""
        await self._tasks.run(self._wanted)

    async def _publish(self, name: str, outlet: Outlet) -> None:
        assert self._make is not None
        self._running[name] = publisher = self._make(outlet)
        try:
            while not self._whole:  # nothing is known yet, which is another thing than "there is nothing"
                await self._publications.newer_than(self._publications.version)
            await publisher.run(self._publications)
        finally:
            if self._wanted.value.get(name) != outlet:
                with trio.CancelScope(shield=True):
                    await self._take_back(name, publisher)
            del self._running[name]
            self._ended.set(object())

    async def _take_back(self, name: str, publisher: Publisher) -> None:
        error = await _leave(publisher)
        self._unleft.pop(name, None)
        if error:
            publisher.status.set(msgspec.structs.replace(publisher.status.value, connected=False, error=error))
            if self._left:
                self._unleft[name] = publisher

    def _failed(self, name: str, error: Exception) -> None:
        _log.error("publisher.failed", publisher=name, error=describe(error), action="it is begun anew; what it wrote stands")

    def __repr__(self) -> str:
        return f"<Publishing {len(self._publications.value)} services to {', '.join(self._wanted.value) or 'nobody'}>"


async def _leave(publisher: Publisher) -> str:
    """Why not; "" when it is done."""
    why = f"not done in {LEAVE_WITHIN:g} s"
    with trio.move_on_after(LEAVE_WITHIN):
        try:
            await publisher.leave()
            why = ""
        except Exception as error:
            why = describe(error)
    if why:
        action = "its entries stand; leave again, or take them out by hand"
        _log.error("publisher.leave", publisher=publisher.name, error=why, action=action)
    return why
