"""Which documents apply to what: the stage that knows no services, so it is made once for a set of documents.

Theory of operation. DestinationRules of one host and namespace are merged (subsets joined, the first traffic policy kept) and looked up
in Istio's order: the client's namespace, the service's, the root namespace; the first namespace that has one wins, and inside it
the most specific host. The client is always this gateway, so the client's namespace is the Node's. VirtualServices are bound to
the Gateways they name; a host is served only as far as a server's hosts cover it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from federation.compile.delegates import Written, delegates_of, gateway_name, written
from federation.compile.inputs import Inputs
from federation.compile.names import covers, most_specific, resolve, specificity, visible
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out, problem, warning
from federation.compile.workloads import oldest_first
from federation.resources.destination_rule import DestinationRule, Subset, TrafficPolicy
from federation.resources.document import Document
from federation.resources.fedgate import ServicePolicy
from federation.resources.gateway import Gateway
from federation.resources.virtual_service import VirtualService

ROOT_NAMESPACE = "istio-system"  # Istio's meshConfig.rootNamespace
MESH = "mesh"  # the gateway name that means "not through a Gateway"


@dataclass(frozen=True)
class Rule:
    """DestinationRules of one host in one namespace, merged. documents: oldest first."""

    host: str
    documents: tuple[Document[DestinationRule], ...]
    policy: TrafficPolicy | None
    subsets: Mapping[str, Subset]


@dataclass(frozen=True)
class Bound:
    """A VirtualService with its hosts resolved, the gateways it names (`namespace/name` or `mesh`), its http routes with those of its
    delegates, and every host that they send to."""

    document: Document[VirtualService]
    hosts: tuple[str, ...]
    gateways: frozenset[str]
    http: tuple[Written, ...]
    destinations: frozenset[str]


@dataclass(frozen=True)
class Scope:
    """client: the Node's namespace. rules: namespace → host → Rule. gateways: those whose selector names this Node, oldest first.
    mesh: host → the VirtualService that holds it for traffic that comes through no Gateway."""

    client: str
    cluster_domain: str
    rules: Mapping[str, Mapping[str, Rule]]
    gateways: tuple[Document[Gateway], ...]
    virtual_services: tuple[Bound, ...]
    mesh: Mapping[str, Bound]
    policies: tuple[Document[ServicePolicy], ...]
    problems: tuple[Problem, ...]

    def rule(self, host: str, namespace: str) -> Rule | None:
        """The Rule for a service of `namespace` as this gateway sees it."""
        namespace = namespace or namespace_of(host, self.cluster_domain)
        order = [self.client] if self.client != ROOT_NAMESPACE else []
        for candidate in dict.fromkeys((*order, namespace, ROOT_NAMESPACE)):
            found = _closest(self.rules.get(candidate, {}), host)
            if found is not None:
                return found
        return None

    def service_policy(self, host: str) -> Document[ServicePolicy] | None:
        """The ServicePolicy with the most specific host that covers this one; the oldest of equals."""
        best: tuple[tuple[int, int, str], Document[ServicePolicy]] | None = None
        for document in self.policies:
            for each in document.spec.hosts:
                pattern = resolve(each, document.namespace, self.cluster_domain)
                if covers(pattern, host) and (best is None or specificity(pattern) < best[0]):
                    best = specificity(pattern), document
        return best[1] if best else None

    def policy_for(self, host: str) -> ServicePolicy | None:
        """What the ServicePolicies that cover this host say of it, each field by the most specific one that writes it: a limit for all
        services does not end where one of them has a rule of its own."""
        found: list[tuple[tuple[int, int, str], int, ServicePolicy]] = []
        for index, document in enumerate(self.policies):
            patterns = [resolve(each, document.namespace, self.cluster_domain) for each in document.spec.hosts]
            closest = most_specific(patterns, host)
            if closest is not None:
                found.append((specificity(closest), index, document.spec))
        if not found:
            return None
        ordered = [spec for *_, spec in sorted(found, key=lambda each: each[:2])]
        if len(ordered) == 1:
            return ordered[0]
        said: dict[str, object] = {}
        for spec in ordered:
            said = {name: getattr(spec, name) for name in spec.model_fields_set} | said
        return ordered[0].model_copy(update=said)

    def mesh_holder(self, host: str) -> Bound | None:
        """The VirtualService with the most specific host for traffic to this one."""
        exact = self.mesh.get(host)
        if exact is not None:
            return exact
        pattern = most_specific((each for each in self.mesh if each.startswith("*")), host)
        return self.mesh[pattern] if pattern else None

    def bound_to(self, gateway: str) -> list[Bound]:
        return [each for each in self.virtual_services if gateway in each.gateways]


def scope(inputs: Inputs) -> Scope:
    """Raises nothing; what does not apply is a Problem."""
    node, resources = inputs.node, inputs.resources
    problems: list[Problem] = []
    gateways = []
    for gateway in oldest_first(resources.gateways):
        if gateway.spec.selector.items() <= node.metadata.labels.items():
            gateways.append(gateway)
        else:
            wanted, have = _labels(gateway.spec.selector), _labels(node.metadata.labels)
            text = f"the selector {wanted} is not among the labels of Node {node.name}: {have}"
            problems.append(left_out(subject_of(gateway), "spec.selector", "SelectorMismatch", text))
    known = {f"{each.namespace}/{each.name}" for each in resources.gateways}
    bound = tuple(_bound(inputs, known, problems))
    return Scope(
        client=node.namespace,
        cluster_domain=node.spec.cluster_domain,
        rules=_rules(inputs, problems),
        gateways=tuple(gateways),
        virtual_services=bound,
        mesh=_mesh(bound, problems),
        policies=tuple(oldest_first(resources.service_policies)),
        problems=tuple(problems),
    )


def namespace_of(host: str, cluster_domain: str) -> str:
    """The namespace in a Kubernetes service's name, "" when it is none."""
    suffix = f".svc.{cluster_domain}"
    parts = host.removesuffix(suffix).split(".") if host.endswith(suffix) else []
    return parts[1] if len(parts) == 2 else ""


def _bound(inputs: Inputs, known: set[str], problems: list[Problem]) -> Iterator[Bound]:
    client, domain = inputs.node.namespace, inputs.node.spec.cluster_domain
    documents = list(oldest_first(inputs.resources.virtual_services))
    by_name = {(each.namespace, each.name): each for each in reversed(documents)}
    delegated = {key for each in documents if each.spec.hosts for key in delegates_of(each)}
    for document in documents:
        subject = subject_of(document)
        if not document.spec.hosts:
            if (document.namespace, document.name) not in delegated:
                text = "it has no hosts and no VirtualService delegates to it; name it in a route's `delegate`, or write hosts"
                problems.append(left_out(subject, "spec.hosts", "NotDelegatedTo", text))
            continue
        if not visible(document.spec.export_to, document.namespace, client):
            text = f"exportTo does not name this gateway's namespace {client}"
            problems.append(left_out(subject, "spec.exportTo", "NotExported", text))
            continue
        gateways = {gateway_name(name, document.namespace) for name in document.spec.gateways or (MESH,)}
        problems += _gateway_problems(document, known)
        hosts = tuple(dict.fromkeys(resolve(host, document.namespace, domain) for host in document.spec.hosts))
        routes = tuple(written(document, by_name, domain, problems))
        yield Bound(document, hosts, frozenset(gateways), routes, frozenset(_destinations(routes, domain)))


def _destinations(routes: Iterable[Written], domain: str) -> Iterator[str]:
    for each in routes:
        named = [*(split.destination for split in each.http.route), *(mirror for _, mirror, _ in each.http.mirrored)]
        yield from (resolve(destination.host, each.document.namespace, domain) for destination in named)


def _gateway_problems(document: Document[VirtualService], known: set[str]) -> Iterator[Problem]:
    subject, spec = subject_of(document), document.spec
    for index, name in enumerate(spec.gateways):
        full = gateway_name(name, document.namespace)
        if full != MESH and full not in known:
            text = f"there is no Gateway {full}; write one, or name an existing one as namespace/name"
            yield problem(subject, f"spec.gateways[{index}]", "GatewayNotFound", text)


def _mesh(bound: Iterable[Bound], problems: list[Problem]) -> dict[str, Bound]:
    """Two VirtualServices for one host on `mesh` are not merged: the oldest holds (FIELD b25, IST0109)."""
    first: dict[str, Bound] = {}
    for each in bound:
        for host in each.hosts if MESH in each.gateways else ():
            holder = first.setdefault(host, each)
            if holder is not each:
                older = subject_of(holder.document)
                text = f"{host} already has {older} for gateway mesh, which is older; only that one is used (IST0109)"
                problems.append(warning(subject_of(each.document), "spec.hosts", "ConflictingMeshHost", text))
    return first


def _selected(document: Document[DestinationRule], inputs: Inputs, problems: list[Problem]) -> bool:
    """A workloadSelector takes gateways of its own namespace by their Node's labels."""
    selector, node = document.spec.workload_selector, inputs.node
    if selector is None:
        return True
    if document.namespace == node.namespace and selector.match_labels.items() <= node.metadata.labels.items():
        return True
    wanted, have = _labels(selector.match_labels), _labels(node.metadata.labels)
    text = f"the selector {wanted} does not take Node {node.namespace}/{node.name}, whose labels are {have}"
    problems.append(left_out(subject_of(document), "spec.workloadSelector", "SelectorMismatch", text))
    return False


def _rules(inputs: Inputs, problems: list[Problem]) -> dict[str, dict[str, Rule]]:
    client, domain = inputs.node.namespace, inputs.node.spec.cluster_domain
    grouped: dict[str, dict[str, list[Document[DestinationRule]]]] = {}
    # What an ExternalService stands for comes first: a rule beside it must not take its TLS away.
    for document in sorted(oldest_first(inputs.resources.destination_rules), key=lambda each: not each.owner[0]):
        if _selected(document, inputs, problems) and (
            document.namespace == client or visible(document.spec.export_to, document.namespace, client)
        ):
            host = resolve(document.spec.host, document.namespace, domain)
            grouped.setdefault(document.namespace, {}).setdefault(host, []).append(document)
    for same in (each for hosts in grouped.values() for each in hosts.values()):
        problems += _overruled(same)
    return {namespace: {host: _merged(host, same) for host, same in hosts.items()} for namespace, hosts in grouped.items()}


def _overruled(documents: list[Document[DestinationRule]]) -> Iterator[Problem]:
    """Rules whose policy stands behind an ExternalService's."""
    first = documents[0]
    for document in documents[1:] if first.owner[0] else ():
        if document.spec.traffic_policy is not None and not document.owner[0]:
            text = (
                f"{document.spec.host} has the trafficPolicy of {subject_of(first)}, which is used alone; write what you need there"
            )
            yield warning(subject_of(document), "spec.trafficPolicy", "Overruled", text)


def _merged(host: str, documents: list[Document[DestinationRule]]) -> Rule:
    """Those that select this gateway go before those for everybody, and are not merged with them (Istio)."""
    documents = [each for each in documents if each.spec.workload_selector is not None] or documents
    subsets: dict[str, Subset] = {}
    for document in documents:
        for subset in document.spec.subsets:
            subsets.setdefault(subset.name, subset)
    policy = next((each.spec.traffic_policy for each in documents if each.spec.traffic_policy is not None), None)
    return Rule(host, tuple(documents), policy, subsets)


def _closest(rules: Mapping[str, Rule], host: str) -> Rule | None:
    exact = rules.get(host)
    if exact is not None:
        return exact
    pattern = most_specific((each for each in rules if each.startswith("*")), host)
    return rules[pattern] if pattern else None


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "(none)"
