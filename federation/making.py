"""One round of the plane: what changed goes in, what is to be published comes out. No tasks, no sockets: only turns given up.

Theory of operation. Configuration (documents, files, identity, bundles) compiles everything, a catalog change what it touches. All of it runs
in slices, because the control process also keeps sessions alive. What fails by a fault of ours is logged and changes nothing: the
last good parts serve on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import trio

from discovery.model import Service
from federation.compile.credentials import FileContent, Identity
from federation.compile.incremental import recompiling
from federation.compile.inputs import NO_VIPS, Inputs
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out
from federation.compile.whole import Compiled, compiling
from federation.resources import node as nodes
from federation.resources.checks import is_ip
from federation.resources.document import Document
from federation.resources.resources import Resources
from federation.verdicts import Checks, recomposing
from federation.vips import Assigned, Ranges
from gateway.snapshot import Backend, Snapshot
from gateway.verdicts import AddressState, Verdicts

# Seconds of computing between two turns of the others; DESIGN section 2 allows 20 ms, and a step may take some itself.
SLICE = 0.005

T = TypeVar("T")


async def sliced(steps: Generator[None, None, T], clock: Callable[[], float] = time.perf_counter) -> T:
    """The steps' result; every SLICE seconds others have a turn. Cancelled, the rest of the steps is never taken."""
    until = clock() + SLICE
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if clock() >= until:
            await trio.lowlevel.checkpoint()
            until = clock() + SLICE


@dataclass(frozen=True)
class Setup:
    """Everything but the catalog that compile works from. synced: every source has said what it knows."""

    node: Document[nodes.Node]
    resources: Resources = field(default_factory=Resources)
    described: tuple[Problem, ...] = ()
    identity: Identity | None = None
    bundles: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileContent] = field(default_factory=dict)
    synced: bool = True

    def inputs(self, services: Mapping[str, Service], now: datetime, assigned: Assigned) -> Inputs:
        return Inputs(self.node, now, self.resources, services, self.identity, self.bundles, self.files, assigned, self.synced)


async def make(
    previous: Compiled | None,
    before: Setup | None,
    setup: Setup,
    services: Mapping[str, Service],
    touched: Iterable[str],
    now: datetime,
    assigned: Assigned = NO_VIPS,
) -> Compiled:
    """What setup and services come to. before: the Setup of `previous`; while it is the same, only what `touched` reaches is made again.
    assigned: virtual addresses; a service whose addresses are others is among `touched`."""
    inputs = setup.inputs(services, now, assigned)
    if previous is not None and before is setup:
        return await sliced(recompiling(previous, inputs, touched))
    return await sliced(compiling(inputs, setup.described, previous.snapshot if previous else None))


def changed_backends(previous: Compiled | None, made: Compiled) -> Generator[None, None, set[str]]:
    """Names of the backends whose hostnames were made again, those that are gone included. previous: what `made` was made from. In
    steps."""
    old = previous.hosts if previous else {}
    if previous is not None and made.remade is not None:
        hostnames: Collection[str] = made.remade
    else:
        hostnames = yield from _differing(old, made.hosts)
    found: set[str] = set()
    for host in hostnames:
        every = [part for hosts in (old, made.hosts) if host in hosts for part in hosts[host].parts]
        found.update(part.name for part in every if isinstance(part, Backend))
        yield
    return found


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> Generator[None, None, set[str]]:
    found: set[str] = set()
    for host, parts in new.items():
        if old.get(host) is not parts:
            found.add(host)
        yield
    for host in old:
        if host not in new:
            found.add(host)
        yield
    return found


def with_verdicts(
    previous: Verdicts,
    made: Compiled | None,
    services: Mapping[str, Service],
    *,
    checks: Checks,
    addresses: Mapping[str, AddressState],
    touched: Iterable[str],
) -> Generator[None, None, Verdicts]:
    """`previous` with the backends in `touched` composed again, and these addresses; the same object when nothing differs. In steps."""
    snapshot = made.snapshot if made else Snapshot()
    labels = made.subset_labels if made else lambda backend: ()
    composed = yield from recomposing(previous, snapshot, services, checks=checks, touched=touched, labels=labels)
    if composed is previous and addresses == previous.addresses:
        return previous
    return Verdicts(endpoints=composed.endpoints, addresses=dict(addresses), evacuated=previous.evacuated)


def ranges_of(node: nodes.Node) -> Ranges:
    """Where services get their virtual addresses."""
    return Ranges.parse(node.vips.range, node.vips.range6)


def own_addresses(node: nodes.Node) -> frozenset[str]:
    """What the Node says this gateway itself is reached at; names are passed over."""
    listen, advertised = node.listen, node.advertise.east_west
    named = [listen.admin, listen.health, listen.east_west, listen.http, listen.dns, *([advertised] if advertised else [])]
    return frozenset(address.host for address in named if is_ip(address.host))


def node_of(resources: Resources, running: Document[nodes.Node]) -> tuple[Document[nodes.Node], tuple[Problem, ...]]:
    """The Node that this gateway is: the one of its name, and what of it cannot change while it runs. Without one the last stands."""
    named = [each for each in resources.nodes if (each.namespace, each.name) == (running.namespace, running.name)]
    node = named[0] if named else running
    fixed = ("cluster", "trust_domain", "state_dir", "workers", "shared")
    different = [name for name in fixed if getattr(node.spec, name) != getattr(running.spec, name)]
    if not different:
        return node, ()
    words = " and ".join(different)
    text = f"{words} cannot change while the gateway runs; the rest of this Node is used as it was, start the gateway anew"
    return running, (left_out(subject_of(running), "spec", "NeedsRestart", text),)
