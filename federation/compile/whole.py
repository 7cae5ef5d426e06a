"""Resources, catalog, node and peers → a Snapshot, and a Status for every document.

Theory of operation. Six stages, each its own file: scope (which documents apply), listeners, hosts and routes (which names, and where
they lead), backends with policies and priorities (one hostname at a time). What depends on the catalog is cut into Plans by name and
Parts by hostname, and a Compiled remembers both, so that `incremental.recompile` makes again only what a change reaches.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from discovery.mapping import Draft, FrozenMap
from federation.compile import hosts as naming
from federation.compile.backends import Parts, Setting, backends_of, subset_labels
from federation.compile.egress import allow_any
from federation.compile.federation import federation
from federation.compile.hosts import Plan, Rendered
from federation.compile.inputs import Inputs, located
from federation.compile.listeners import Listening, listening
from federation.compile.nameserver import dns_of
from federation.compile.routes import Reference
from federation.compile.scope import scope
from federation.compile.services import subject_of
from federation.compile.status import Problem, Status, Subject, statuses
from federation.compile.vip_listeners import Served, served
from federation.resources.node import ForwardClientCert
from gateway.secret import Secret
from gateway.snapshot import AccessLog, Backend, Node, Overload, Part, Snapshot, part_name

T = TypeVar("T")


@dataclass(frozen=True)
class Compiled:
    """snapshot with the keys its certificates name, and what `recompile` goes on from. dependents: hostname of the catalog → keys of
    the plans that depend on it. static_problems: those that no change of a service changes. remade: hostnames whose parts were made
    again since the Compiled before; None = all."""

    snapshot: Snapshot
    secrets: Mapping[str, Secret]
    setting: Setting
    listening: Listening
    served: Served
    plans: Mapping[str, Plan]
    rendered: FrozenMap[Rendered]
    hosts: FrozenMap[Parts]
    dependents: Mapping[str, frozenset[str]]
    static_problems: tuple[Problem, ...]
    remade: frozenset[str] | None = None

    @cached_property
    def findings(self) -> tuple[Problem, ...]:
        """Everything that is wrong, sorted, each once."""
        return finished(self.finding())

    def finding(self) -> Generator[None, None, tuple[Problem, ...]]:
        """`findings` in steps: of a large catalog everything is looked at, which takes 10 ms."""
        if "findings" not in self.__dict__:
            found = dict.fromkeys((*self.static_problems, *self.listening.problems, *self.served.problems))
            for several in (self.rendered.values(), self.hosts.values()):
                for each in several:
                    found.update(dict.fromkeys(each.problems))
                    yield
            self.__dict__["findings"] = tuple(sorted(found))
        return self.findings

    @cached_property
    def statuses(self) -> Mapping[Subject, Status]:
        """One for every document that compile reads."""
        resources, node = self.setting.inputs.resources, self.setting.inputs.node
        documents = [
            *resources.gateways,
            *resources.virtual_services,
            *resources.destination_rules,
            *resources.service_entries,
            *resources.workload_entries,
            *resources.services,
            *resources.endpoint_slices,
            *resources.secrets,
            *resources.peers,
            *resources.exports,
            *resources.service_policies,
            *resources.external_services,
        ]
        return statuses([subject_of(node), *(subject_of(each) for each in documents)], self.findings)

    def backends_of(self, hostname: str) -> list[str]:
        """Names of the backends of a hostname of the catalog."""
        parts = self.hosts.get(hostname)
        return [part.name for part in parts.parts if isinstance(part, Backend)] if parts is not None else []

    def inherit(self, previous: Compiled) -> None:
        """Take over what `previous` has found wrong, if it was asked: nothing has changed in that, and looking takes milliseconds."""
        for name in ("findings", "statuses"):
            if name in previous.__dict__:
                self.__dict__[name] = previous.__dict__[name]

    def subset_labels(self, backend: Backend) -> frozenset[tuple[str, str]]:
        """The labels that tell this backend's workloads from the others of its service."""
        rule = self.setting.scope.rule(backend.host, backend.namespace) if backend.subset else None
        return frozenset(subset_labels(rule, backend.subset) or ())

    def __repr__(self) -> str:
        return f"<Compiled {self.snapshot!r}>"


Steps = Generator[None, None, Compiled]
BATCH = 250  # parts hashed between two yields: 10 to 20 µs each, so about 5 ms


def compile_all(inputs: Inputs, described: Iterable[Problem] = (), previous: Snapshot | None = None) -> Compiled:
    """Everything afresh. described: what `services.described` found wrong, to be said with the rest. previous: its equal parts stay
    the same objects. Never raises for what users wrote; `gateway.snapshot.validate` of the result is empty."""
    return finished(compiling(inputs, described, previous))


def compiling(inputs: Inputs, described: Iterable[Problem] = (), previous: Snapshot | None = None) -> Steps:
    """`compile_all` in steps of a few milliseconds: whoever shares a thread with others goes on between two yields."""
    scoped = scope(inputs)
    setting = Setting(inputs, scoped, federation(inputs), inputs.place, inputs.credentials())
    ports = listening(setting)
    trusts = inputs.node.spec.gateway_topology.num_trusted_proxies > 0
    gateway_plans, rest, unserved = naming.gateway_plans(ports.tables, scoped, ports.relayed, trusts=trusts)
    yield
    plans = {plan.key: plan for plan in gateway_plans}
    for hostname in sorted(inputs.services.keys() | scoped.mesh.keys()):
        plan = naming.mesh_plan(scoped, hostname)
        plans[plan.key] = plan
        yield
    rendered: dict[str, Rendered] = {}
    references: dict[str, set[Reference]] = {}
    _note(references, ports.references)
    for key, plan in plans.items():
        rendered[key] = each = naming.render(plan, scoped, inputs)
        _note(references, each.references)
        yield
    hosts: dict[str, Parts] = {}
    for host in sorted(references.keys() | inputs.services.keys()):
        hosts[host] = backends_of(host, references.get(host, ()), setting)
        yield
    listeners = served(ports, rendered.values(), inputs)
    yield
    parts = named([_node(inputs), *listeners.listeners, *rest])
    if "*" not in scoped.mesh:
        parts.update(named(allow_any(scoped, inputs) or [naming.blocked_host()]))
    for several in (*(each.hosts for each in rendered.values()), *(each.parts for each in hosts.values())):
        for part in several:
            parts.setdefault(part_name(part), part)
        yield
    snapshot = yield from assembled(parts.values(), previous or Snapshot())
    snapshot = snapshot.changed((), [name for name in snapshot.parts if name not in parts])
    dependents = yield from _dependents(plans.values())
    frozen = yield from Draft(FrozenMap(), rendered).finishing()
    frozen_hosts = yield from Draft(FrozenMap(), hosts).finishing()
    return Compiled(
        snapshot=snapshot,
        secrets=secrets_of(ports, hosts.values()),
        setting=setting,
        listening=ports,
        served=listeners,
        plans=plans,
        rendered=frozen,
        hosts=frozen_hosts,
        dependents=dependents,
        static_problems=(*described, *scoped.problems, *setting.federation.problems, *unserved),
    )


def finished(steps: Generator[None, None, T]) -> T:
    """Takes every step at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def assembled(parts: Iterable[Part], snapshot: Snapshot) -> Generator[None, None, Snapshot]:
    """`snapshot` with these parts. In batches: each part that is new costs its hash."""
    whole = list(parts)
    for start in range(0, len(whole), BATCH):
        yield
        snapshot = snapshot.changed(whole[start : start + BATCH])
    return snapshot


def without(names: Collection[str], snapshot: Snapshot) -> Generator[None, None, Snapshot]:
    """`snapshot` without the parts of these names. In batches, as `assembled`."""
    gone = sorted(names)
    for start in range(0, len(gone), BATCH):
        yield
        snapshot = snapshot.changed((), gone[start : start + BATCH])
    return snapshot


def references_to(hostname: str, keys: Iterable[str], rendered: Draft[Rendered], ports: Listening) -> set[Reference]:
    """What the Plans with these keys, and the listeners, need of one hostname."""
    empty = Rendered()
    found = {each for key in keys for each in (rendered.get(key) or empty).references if each.host == hostname}
    return found | {each for each in ports.references if each.host == hostname}


def secrets_of(ports: Listening, hosts: Iterable[Parts]) -> dict[str, Secret]:
    found = dict(ports.secrets)
    for parts in hosts:
        found.update(parts.secrets)
    return found


def _note(found: dict[str, set[Reference]], references: Iterable[Reference]) -> None:
    for reference in references:
        found.setdefault(reference.host, set()).add(reference)


def _dependents(plans: Iterable[Plan]) -> Generator[None, None, dict[str, frozenset[str]]]:
    found: dict[str, frozenset[str]] = {}
    for plan in plans:
        only = frozenset((plan.key,))
        for hostname in plan.depends:
            known = found.get(hostname)
            found[hostname] = only if known is None else known | only
        yield
    return found


def named(parts: Iterable[Part]) -> dict[str, Part]:
    """Two parts of one name (two of the node's ports on one address) would be no Snapshot: the first stays."""
    found: dict[str, Part] = {}
    for part in parts:
        found.setdefault(part_name(part), part)
    return found


def _node(inputs: Inputs) -> Node:
    node, spec = inputs.node, inputs.node.spec
    return Node(
        name=node.name,
        cluster=spec.cluster,
        namespace=node.namespace,
        locality=spec.locality,
        network=spec.network or spec.cluster,
        trust_domain=spec.trust_domain,
        defaults=spec.defaults.value,
        access_log=AccessLog(located(spec.access_log.path, node.origin), spec.access_log.format.value),
        outbound=spec.outbound_traffic_policy.value,
        trusted_proxies=spec.gateway_topology.num_trusted_proxies,
        client_cert=_client_cert(spec.gateway_topology.forward_client_cert_details),
        drain_ms=spec.drain_duration,
        overload=Overload(
            connections=spec.overload.max_connections or 0,
            memory_mb=spec.overload.max_memory_mb or 0,
            lag_ms=spec.overload.max_lag or 0,
        ),
        dns=dns_of(inputs),
    )


def _client_cert(written: ForwardClientCert) -> str:
    """Istio's gateways set it afresh unless told otherwise."""
    chosen = ForwardClientCert.SANITIZE_SET if written is ForwardClientCert.UNDEFINED else written
    return str(chosen.value)
