"""What a Kubernetes API said, and what of it each service name depends on: so that one changed object costs the names it touches. Pure.

Theory of operation. Every `take_…` is told of one difference and marks the host names that it concerns as stale; `build` makes one of
them anew. Slices point at Pods and Nodes, so both know their slices; a slice's endpoints are kept until the slice, one of these, or its
service changes. Two Services that a hostname template gives one name are decided by the order of their keys: the first has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from discovery.here import Here
from discovery.kubernetes import objects as kube
from discovery.kubernetes.endpoints import Surroundings, joined, node_endpoints, node_of, pod_key, slice_endpoints
from discovery.kubernetes.services import Reach, balanced_endpoints, clusterset_host, external, imported, names_of, service
from discovery.model import Endpoint, Service

T = TypeVar("T")

# Every cluster's own API: the one name that is never the same service, and nobody's business in another cluster.
_API_SERVER = "default/kubernetes"


class View:
    """stale: host names to be built anew; whoever builds takes them out."""

    def __init__(self, here: Here, reach: Reach) -> None:
        self.stale: set[str] = set()
        self.services: dict[str, kube.Service] = {}
        self.exports: dict[str, kube.ServiceExport] = {}
        self._here = here
        self._reach = reach
        self._slices: dict[str, kube.EndpointSlice] = {}
        self._pods: dict[str, kube.Pod] = {}
        self._nodes: dict[str, kube.Node] = {}
        self._imports: dict[str, kube.ServiceImport] = {}
        self._around = Surroundings(here, self._pods, self._nodes)
        self._names: dict[str, tuple[str, ...]] = {}
        self._owners: dict[str, set[str]] = {}  # host → keys of the Services that have it
        self._slices_of: dict[str, set[str]] = {}  # service key → slice keys
        self._foreign_of: dict[
            str, set[str]
        ] = {}  # service key → keys of slices that another implementation made of the cluster set
        self._of_pod: dict[str, tuple[str, ...]] = {}  # Pod → slice keys; a tuple, for it is mostly one of a hundred thousand
        self._of_node: dict[str, set[str]] = {}  # Node → slice keys
        self._named: dict[str, set[str]] = {}  # DNS name → keys of the Services that need it
        self._made: dict[str, tuple[Endpoint, ...]] = {}  # slice key → its endpoints

    # ------------------------------------------------------------------------------------------------------- what was said

    def take_service(self, key: str, before: kube.Service | None, after: kube.Service | None) -> None:
        if key == _API_SERVER:
            return
        host = self._host(key)
        for name in names_of(before, self._reach) if before else ():
            _leave(self._named, name, key)
            if name not in self._named and not (after and name in names_of(after, self._reach)):
                self._names.pop(name, None)
        for name in names_of(after, self._reach) if after else ():
            self._named.setdefault(name, set()).add(key)
        if after is None:
            self.services.pop(key, None)
            _leave(self._owners, host, key)
        else:
            self.services[key] = after
            self._owners.setdefault(host, set()).add(key)
        for each in self._slices_of.get(key, ()):
            self._made.pop(each, None)  # the service says the numbers of open ports, and whether readiness counts
        self._touch(key)

    def take_slice(self, key: str, before: kube.EndpointSlice | None, after: kube.EndpointSlice | None) -> None:
        self._made.pop(key, None)
        for found, add in ((before, False), (after, True)):
            if found is None:
                continue
            for index, owner in self._owned_by(found):
                _put(index, owner, key, add=add)
                self._touch(owner)
            self._point(key, found, add=add)
        if after is None:
            self._slices.pop(key, None)
        else:
            self._slices[key] = after

    def take_pod(self, key: str, before: kube.Pod | None, after: kube.Pod | None) -> None:
        """A Pod that is gone stays what its endpoints were made of: its slice says the same in a moment, and until then an
        endpoint that loses its labels would only leave its subset."""
        _store(self._pods, key, after)
        if after is not None:
            self._used(self._of_pod.get(key, ()))

    def take_node(self, key: str, before: kube.Node | None, after: kube.Node | None) -> None:
        _store(self._nodes, key, after)
        self._used(self._of_node.get(key, ()))
        if self._reach is Reach.NODE:
            for each, found in self.services.items():
                if any(port.node_port for port in found.spec.ports or ()):
                    self._touch(each)

    def take_export(self, key: str, before: kube.ServiceExport | None, after: kube.ServiceExport | None) -> None:
        _store(self.exports, key, after)
        self.stale.add(clusterset_host(key))

    def take_import(self, key: str, before: kube.ServiceImport | None, after: kube.ServiceImport | None) -> None:
        _store(self._imports, key, after)
        self.stale.add(clusterset_host(key))

    def take_name(self, name: str, addresses: tuple[str, ...]) -> None:
        """What a DNS name resolves to now."""
        if self._names.get(name) != addresses:
            self._names[name] = addresses
            for key in self._named.get(name, ()):
                self._touch(key)

    # ------------------------------------------------------------------------------------------------------ what comes of it

    def names(self) -> frozenset[str]:
        """The DNS names to be resolved: not those that are services of this registry."""
        return frozenset(name for name in self._named if name not in self._owners)

    def hosts(self) -> frozenset[str]:
        """Every host name that may be a service."""
        found = {clusterset_host(key) for key in (*self.exports, *self._imports)}
        return frozenset(self._owners) | found

    def build(self, host: str) -> Service | None:
        """The service of this name as it is now; None if there is none."""
        key = min(self._owners.get(host, ()), default="")
        if key:
            return self._service(key)
        return self._in_the_set(host)

    def _service(self, key: str, *, follow: bool = True) -> Service:
        found, host = self.services[key], self._host(key)
        if found.spec.type != "ExternalName":
            return service(host, found, self._endpoints(key, found), reach=self._reach)
        name = found.spec.external_name.rstrip(".").lower()
        target = min(self._owners.get(name, ()), default="")
        if target and target != key and follow:  # one step: a name of a name of a name could be a circle
            return external(host, found, (), self._service(target, follow=False), self._here)
        return external(host, found, self._names.get(name, ()), None, self._here)

    def _endpoints(self, key: str, found: kube.Service) -> tuple[Endpoint, ...]:
        slices = self._of_family(self._slices_of.get(key, ()), (found.spec.ip_families or ("",))[0])
        behind = joined(self._slice(each, found) for each in slices)
        if self._reach is Reach.POD:
            return behind
        if self._reach is Reach.LOAD_BALANCER:
            return balanced_endpoints(found, behind, self._names, self._here)
        usable = {endpoint.address for endpoint in behind if endpoint.health.usable}
        hosts = frozenset(
            node_of(each)
            for name in slices
            for each in self._slices[name].endpoints or ()
            if each.addresses and each.addresses[0] in usable
        )
        return node_endpoints(found, behind, hosts, self._around)

    def _slice(self, key: str, found: kube.Service | None) -> tuple[Endpoint, ...]:
        made = self._made.get(key)
        if made is None:
            ports = found.spec.ports or () if found else ()
            ready = found is not None and found.spec.publish_not_ready_addresses
            made = self._made[key] = slice_endpoints(self._slices[key], ports, ready=ready, around=self._around)
        return made

    def _of_family(self, keys: Iterable[str], family: str) -> list[str]:
        """Slices of one family only: the same Pod would count twice. The service's first family, else IPv4 where there is any."""
        ordered = sorted(keys)
        kinds = {self._slices[key].address_type for key in ordered}
        wanted = family if family in kinds else "IPv4" if "IPv4" in kinds else "IPv6"
        return [key for key in ordered if self._slices[key].address_type == wanted]

    def _in_the_set(self, host: str) -> Service | None:
        name, namespace, rest = (*host.split(".", 2), "", "")[:3]
        key = f"{namespace}/{name}"
        if rest != "svc.clusterset.local":
            return None
        found, export, service_import = self.services.get(key), self.exports.get(key), self._imports.get(key)
        exported = None
        if export is not None and found is not None and found.spec.type != "ExternalName":
            exported = msgspec.structs.replace(self._service(key), hostname=host)
        if exported is None and service_import is None:
            return None
        foreign = self._of_family(self._foreign_of.get(key, ()), "") if service_import else []
        more = joined(self._slice(each, None) for each in foreign)
        return imported(host, exported, export, service_import, more)

    # ---------------------------------------------------------------------------------------------------------------- indices

    def _host(self, key: str) -> str:
        namespace, _, name = key.partition("/")
        return self._here.host(name, namespace)

    def _owned_by(self, found: kube.EndpointSlice) -> list[tuple[dict[str, set[str]], str]]:
        labels = found.metadata.labels or {}
        pairs = ((self._slices_of, kube.SERVICE_NAME), (self._foreign_of, kube.MULTICLUSTER_SERVICE_NAME))
        return [(index, f"{found.metadata.namespace}/{labels[label]}") for index, label in pairs if labels.get(label)]

    def _point(self, key: str, found: kube.EndpointSlice, *, add: bool) -> None:
        """Note what this slice's endpoints are and where they run, or that they are no more."""
        for each in found.endpoints or ():
            if pod := pod_key(each.target_ref, found.metadata.namespace):
                others = tuple(other for other in self._of_pod.pop(pod, ()) if other != key)
                if others or add:
                    self._of_pod[pod] = (*others, key) if add else others
            if node := node_of(each):
                _put(self._of_node, node, key, add=add)

    def _used(self, slices: Iterable[str]) -> None:
        for key in slices:
            self._made.pop(key, None)
            for _, owner in self._owned_by(self._slices[key]):
                self._touch(owner)

    def _touch(self, key: str) -> None:
        host = self._host(key)
        self.stale.add(host)
        if key in self.exports or key in self._imports:
            self.stale.add(clusterset_host(key))
        for alias in self._named.get(host, ()):
            self.stale.add(self._host(alias))

    def __repr__(self) -> str:
        return f"<View services={len(self.services)} slices={len(self._slices)} pods={len(self._pods)} stale={len(self.stale)}>"


def _store(store: dict[str, T], key: str, item: T | None) -> None:
    if item is None:
        store.pop(key, None)
    else:
        store[key] = item


def _put(index: dict[str, set[str]], name: str, key: str, *, add: bool) -> None:
    if add:
        index.setdefault(name, set()).add(key)
    else:
        _leave(index, name, key)


def _leave(index: dict[str, set[str]], name: str, key: str) -> None:
    found = index.get(name)
    if found is not None:
        found.discard(key)
        if not found:
            del index[name]
