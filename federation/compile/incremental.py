"""A Snapshot made again after a change of some services, at the cost of what they reach.

Theory of operation. The touched hostnames name the Plans that depend on them; those are rendered again. Where a Plan now needs other
backends than before, their hostnames are affected too. So it is with the listeners, where connections are relayed to services, but
only when such a service's ports changed, not when its endpoints did. Each affected hostname's parts are made again by the same pure
functions that `compile_all` uses, on the same inputs, so the result is the same Snapshot; a property test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from discovery.mapping import Draft
from discovery.model import Port, Service
from federation.compile import hosts as naming
from federation.compile.backends import Parts, Setting, backends_of
from federation.compile.hosts import Plan, Rendered
from federation.compile.inputs import Inputs
from federation.compile.listeners import listening
from federation.compile.routes import Reference
from federation.compile.vip_listeners import served
from federation.compile.whole import Compiled, Steps, assembled, finished, named, references_to, secrets_of, without
from gateway.snapshot import Part, part_name


def recompile(previous: Compiled, inputs: Inputs, touched: Iterable[str]) -> Compiled:
    """As compile_all(inputs), when `inputs` differ from the previous ones in the services named in `touched`, with their virtual addresses,
    and in nothing else.
    Costs what those reach, beside shallow copies of a few mappings. Never raises for what users wrote."""
    return finished(recompiling(previous, inputs, touched))


def recompiling(previous: Compiled, inputs: Inputs, touched: Iterable[str]) -> Steps:
    """`recompile` in steps of a few milliseconds."""
    touched = frozenset(touched)
    work = _Work(previous, replace(previous.setting, inputs=inputs))
    stale: set[str] = set()
    for hostname in touched:
        stale |= work.dependents.get(hostname, frozenset())
        work.follow_mesh(hostname)
        stale |= work.dependents.get(hostname, frozenset())
        yield
    affected = set(touched)
    if work.listeners_stale(touched, previous.setting.inputs):
        affected |= {reference.host for reference in work.listen()}
        yield
    for key in sorted(stale):
        affected |= {reference.host for reference in work.render(key)}
        yield
    for hostname in sorted(affected):
        work.make(hostname)
        yield
    work.serve()
    yield
    there: set[str] = set()
    for part in work.update:
        there.add(part_name(part))
        yield
    remove = work.gone - there
    kept = yield from without(remove, previous.snapshot)
    snapshot = yield from assembled(work.update, kept)
    rendered = yield from work.rendered.finishing()
    hosts = yield from work.hosts.finishing()
    made = replace(
        previous,
        snapshot=snapshot,
        secrets=secrets_of(work.listening, hosts.values()) if work.keys_changed else previous.secrets,
        setting=work.setting,
        listening=work.listening,
        served=work.served,
        plans=work.plans,
        rendered=rendered,
        hosts=hosts,
        dependents=work.dependents,
        remade=frozenset(affected),
    )
    if not work.problems_changed:
        made.inherit(previous)
    return made


class _Work:
    """The mappings of a Compiled while one `recompile` changes them: copies, of plans and dependents when they have to change. update,
    gone: what becomes of the Snapshot's parts. problems_changed: something is wrong that was not, or right that was wrong."""

    def __init__(self, previous: Compiled, setting: Setting) -> None:
        self.setting = setting
        self.listening = previous.listening
        self.served = previous.served
        self._serve_again = False
        self._ports: set[int] = set()
        self._previous = previous
        self.plans: Mapping[str, Plan] = previous.plans
        self.rendered = Draft(previous.rendered)
        self.hosts = Draft(previous.hosts)
        self.dependents: Mapping[str, frozenset[str]] = previous.dependents
        self.problems_changed = False
        self.update: list[Part] = []
        self.gone: set[str] = set()
        self.keys_changed = False

    def listeners_stale(self, touched: Iterable[str], before: Inputs) -> bool:
        """Whether something that listeners were made from is different: that a service is there, its namespace, its ports."""
        after = self.setting.inputs.services
        return any(
            _shape(before.services.get(name)) != _shape(after.get(name)) for name in self.listening.depends.intersection(touched)
        )

    def listen(self) -> frozenset[Reference]:
        """Makes all listeners again; returns the references that came or went."""
        old, self.listening = self.listening, listening(self.setting)
        self.keys_changed = self.problems_changed = self._serve_again = True
        return old.references ^ self.listening.references

    def serve(self) -> None:
        """Joins the listeners with what the services' addresses add, if either changed."""
        if not self._serve_again:
            return
        old = self.served
        self.served = served(self.listening, self.rendered.done().values(), self.setting.inputs, old, self._ports)
        self.gone |= {part_name(each) for each in old.listeners}
        self.update += named(self.served.listeners).values()
        self.problems_changed = self.problems_changed or old.problems != self.served.problems

    def follow_mesh(self, hostname: str) -> None:
        """A service that came gets a Plan on `mesh`, one that went loses it."""
        scope = self.setting.scope
        plan = naming.mesh_plan(scope, hostname)
        wanted = hostname in self.setting.inputs.services or hostname in scope.mesh
        if wanted is (plan.key in self.plans):
            return
        plans, dependents = self._own()
        for name in plan.depends:
            keys = dependents.get(name, frozenset())
            dependents[name] = keys | {plan.key} if wanted else keys - {plan.key}
        if wanted:
            plans[plan.key] = plan
        else:
            del plans[plan.key]

    def _own(self) -> tuple[dict[str, Plan], dict[str, frozenset[str]]]:
        """plans and dependents, to be changed."""
        if self.plans is self._previous.plans:
            self.plans, self.dependents = dict(self.plans), dict(self.dependents)
        assert isinstance(self.plans, dict)
        assert isinstance(self.dependents, dict)
        return self.plans, self.dependents

    def render(self, key: str) -> frozenset[Reference]:
        """Renders a Plan again (to nothing when it is gone); returns the references that came or went."""
        old = self.rendered.pop(key, Rendered())
        new = Rendered()
        if key in self.plans:
            self.rendered[key] = new = naming.render(self.plans[key], self.setting.scope, self.setting.inputs)
        self.gone |= {part_name(host) for host in old.hosts}
        self.update += new.hosts
        if old.chains != new.chains:
            self._serve_again = True
            self._ports |= {number for number, _ in {*old.chains} ^ {*new.chains}}
        self.problems_changed = self.problems_changed or old.problems != new.problems
        return old.references ^ new.references

    def make(self, hostname: str) -> None:
        """Makes the parts of one hostname again."""
        old = self.hosts.pop(hostname, Parts())
        references = references_to(hostname, self.dependents.get(hostname, ()), self.rendered, self.listening)
        new = Parts()
        if references or hostname in self.setting.inputs.services:
            self.hosts[hostname] = new = backends_of(hostname, references, self.setting)
        self.gone |= {part_name(part) for part in old.parts}
        self.update += new.parts
        self.keys_changed = self.keys_changed or old.secrets != new.secrets
        self.problems_changed = self.problems_changed or old.problems != new.problems


def _shape(service: Service | None) -> tuple[str, tuple[Port, ...]] | None:
    return (service.namespace, service.ports) if service is not None else None
