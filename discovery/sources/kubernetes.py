"""A Kubernetes API as a source: Services, EndpointSlices, Pods, Nodes, and the Multi-Cluster Services API where it is installed.

Theory of operation. A Mirror per collection (and namespace) is kept up to date by list and watch; what differs goes to a View, which says
what host names it concerns, and the generator builds those anew: an event is an update within the same turn of the loop. The Reset
comes when every collection was listed.

Services and EndpointSlices are needed; a login that may not read them is an error. Pods, Nodes, ServiceExports and ServiceImports make
the picture better: where they may not be read or are not installed, a warning says what is missing, and they are asked for again. What was
known of them outlives a watch, so a role that is taken away empties nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

import httpx2
import msgspec
import structlog
import trio

from discovery.clients.kubeconfig import Credentials, CredentialsError
from discovery.clients.kubernetes import Kubernetes, KubernetesError
from discovery.clients.kubernetes_exports import ExportStatuses
from discovery.clients.kubernetes_mirror import Mirror
from discovery.clients.kubernetes_status import StatusWriter
from discovery.clients.lookups import Lookups
from discovery.here import Here
from discovery.kubernetes import objects as kube
from discovery.kubernetes.services import Reach
from discovery.kubernetes.view import View
from discovery.merge import Finding
from discovery.model import Service
from discovery.resolving import SYSTEM, Nameservers
from discovery.source import SourceLost
from discovery.supervise import describe
from discovery.update import Remove, Reset, Update, Upsert

ALL = "*"
_ASK_AGAIN = 30.0  # seconds until a collection that could not be read is asked for again; a role or a CRD is seen within that
_ASK_SOON, _PATIENCE = 0.5, 10  # an API server that has just begun says 429 or 500 of some kinds, for seconds
_AT_ONCE = 50  # names built without letting others run: about 10 ms with a hundred endpoints each
_TOLD_AT_ONCE = 25  # objects of a list that the view takes without letting others run: the same
_NAMES_WITHIN = 5.0  # seconds that the first Reset waits for DNS names; one resolver's timeout
_log = structlog.get_logger()

SLICES, MCS = "discovery.k8s.io", "multicluster.x-k8s.io"
_SLICE_VERSIONS = ("v1", "v1beta1")
_MCS_VERSIONS = ("v1alpha1", "v1beta1")


class KubernetesOptions(msgspec.Struct, frozen=True):
    """kubeconfig, context: as Credentials. namespaces: `*` is all. label_selector: of Services, as the API writes it. write_status: of
    ServiceExports."""

    kubeconfig: str = ""
    context: str = ""
    namespaces: tuple[str, ...] = (ALL,)
    addresses: Reach = Reach.POD
    label_selector: str = ""
    write_status: bool = True


class KubernetesSource:
    """credentials None: by the options. nameservers: for the names of load balancers and ExternalName Services."""

    def __init__(
        self,
        name: str,
        here: Here,
        options: KubernetesOptions,
        *,
        credentials: Credentials | None = None,
        nameservers: Nameservers = SYSTEM,
    ) -> None:
        self.name = name
        self.cluster = here.cluster
        self._credentials = credentials or Credentials(options.kubeconfig, options.context)
        self._options = options
        self._nameservers = nameservers
        self._here = here
        self._kept: dict[tuple[str, str], Mapping[str, Any]] = {}  # of what may be missing: what it was in the last watch
        self._findings: tuple[Finding, ...] | None = None
        self._writer = StatusWriter() if options.write_status else None
        self._following: _Following | None = None

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        """See Source. Raises SourceLost with what to do."""
        async with Kubernetes(self._credentials) as api, trio.open_nursery() as nursery:
            following = self._following = _Following(self, api)
            await following.begin(nursery)
            await following.wait_listed()
            known = await following.build_all()
            yield Reset(tuple(known.values()))
            if self._writer is not None:
                nursery.start_soon(self._writer.run, api)
            while True:
                for number, host in enumerate(await following.wait_stale()):
                    if number % _AT_ONCE == _AT_ONCE - 1:
                        await trio.lowlevel.checkpoint()
                    service = following.view.build(host)
                    if service is None:
                        if known.pop(host, None) is not None:
                            yield Remove(host)
                    elif service != known.get(host):
                        known[host] = service
                        yield Upsert(service)

    def report(self, findings: Iterable[Finding]) -> None:
        """Hear what the merge of all clusters found, for the Conflict condition of ServiceExports. Never blocks; the latest call wins."""
        self._findings = tuple(findings)
        if self._following is not None:
            self._following.report(self._findings)

    def __repr__(self) -> str:
        return f"<KubernetesSource {self.cluster}/{self.name} {self._following.view if self._following else 'never watched'!r}>"


class _Following:
    """One watch of a KubernetesSource: the tasks that keep the mirrors, and what they make stale."""

    def __init__(self, source: KubernetesSource, api: Kubernetes) -> None:
        self.view = View(source._here, source._options.addresses)
        self._source = source
        self._api = api
        self._lookups = Lookups(self._named, nameservers=source._nameservers)
        self._unlisted: set[str] = set()
        self._woken = trio.Event()
        self._exports = ExportStatuses(self.view.services, source._writer) if source._writer is not None else None
        if source._findings is not None:
            self.report(source._findings)

    def report(self, findings: Iterable[Finding]) -> None:
        if self._exports is not None:
            self._exports.report(findings)

    async def begin(self, nursery: trio.Nursery) -> None:
        version = await self._slice_version()
        view = self.view
        for namespace in self._source._options.namespaces:
            self._need(nursery, "services", namespace, "/api/v1", kube.Service, self._take_service)
            self._need(nursery, "endpointslices", namespace, f"/apis/{SLICES}/{version}", kube.EndpointSlice, view.take_slice)
            self._like(
                nursery, "pods", namespace, kube.Pod, view.take_pod, without="endpoints have no labels, so subsets are empty"
            )
            self._like(
                nursery,
                "serviceexports",
                namespace,
                kube.ServiceExport,
                self._take_export,
                without="no service is exported by one",
            )
            self._like(nursery, "serviceimports", namespace, kube.ServiceImport, view.take_import, without="none is read")
        self._like(nursery, "nodes", ALL, kube.Node, view.take_node, without="localities are those of slices alone")
        nursery.start_soon(self._lookups.run)

    async def _slice_version(self) -> str:
        try:
            found = await self._api.versions(SLICES)
        except (KubernetesError, CredentialsError, httpx2.TransportError) as error:
            raise self._lost(error, "read the table of contents of") from error
        for version in _SLICE_VERSIONS:
            if version in found:
                return version
        raise SourceLost(
            f"{self._api} has no EndpointSlices ({SLICES}), which every Kubernetes since 1.17 has; check the server's address"
        )

    def _need(
        self, nursery: trio.Nursery, what: str, namespace: str, root: str, kind: type[Any], take: Callable[[str, Any, Any], None]
    ) -> None:
        selector = self._source._options.label_selector if what == "services" else ""
        mirror = self._mirror(kind, take, {"labelSelector": selector} if selector else {})
        mirror.path = _path(root, what, namespace)
        self._unlisted.add(f"{what} {namespace}")
        nursery.start_soon(self._keep, mirror, what, f"{what} {namespace}")

    async def _keep(self, mirror: Mirror[Any], what: str, name: str) -> None:
        try:
            await mirror.run(self._api, listed=lambda: self._listed(name))
        except (KubernetesError, CredentialsError, httpx2.TransportError) as error:
            raise self._lost(error, f"list and watch {what} at") from error

    def _like(
        self,
        nursery: trio.Nursery,
        what: str,
        namespace: str,
        kind: type[Any],
        take: Callable[[str, Any, Any], None],
        *,
        without: str,
    ) -> None:
        mirror = self._mirror(kind, take, {})
        mirror.restore(self._source._kept.get((what, namespace), {}))
        self._source._kept[what, namespace] = mirror.items
        self._unlisted.add(f"{what} {namespace}")
        nursery.start_soon(self._keep_if_there, mirror, what, namespace, without)

    async def _keep_if_there(self, mirror: Mirror[Any], what: str, namespace: str, without: str) -> None:
        name = f"{what} {namespace}"
        missing = _Missing()

        def listed() -> None:
            missing.clear()
            self._listed(name)

        while True:
            try:
                root = await self._root(what)
                if root:
                    mirror.path = _path(root, what, namespace)
                    await mirror.run(self._api, listed=listed)
                missing.note(404)
            except KubernetesError as error:
                missing.note(error.status)
                if missing.refused == _PATIENCE or (error.status == 403 and missing.refused == 1):
                    _log.warning("kubernetes.not_read", source=self._source.name, what=what, without=without, error=str(error))
            except (CredentialsError, httpx2.TransportError) as error:
                raise self._lost(error, f"list and watch {what} at") from error
            if missing.absent > 1:  # once may be a server that has just begun and does not know its own kinds yet
                mirror.forget()
            if missing.given_up:
                self._listed(name)
            await trio.sleep(_ASK_AGAIN if missing.given_up else _ASK_SOON)

    async def _root(self, what: str) -> str:
        """Where an optional collection is; "" if the server has none."""
        if what in ("pods", "nodes"):
            return "/api/v1"
        found = await self._api.versions(MCS)
        root = next((f"/apis/{MCS}/{version}" for version in _MCS_VERSIONS if version in found), "")
        if root and self._exports is not None:
            self._exports.found_at(root)
        return root

    def _lost(self, error: Exception, doing: str) -> SourceLost:
        text = f"could not {doing} {self._api}: {describe(error)}"
        status = error.status if isinstance(error, KubernetesError) else 0
        if status == 403:
            return SourceLost(f"{text}; give this gateway's account get, list and watch on it (docs/kubernetes.md has the role)")
        if status == 401:
            return SourceLost(f"{text}; the server does not know this login: check the kubeconfig's user, or the token")
        return SourceLost(f"{text}; check that the server can be reached from here")

    # ----------------------------------------------------------------------------------------------------------- what comes of it

    async def wait_listed(self) -> None:
        """Until every collection was listed once, and DNS names had their time."""
        while self._unlisted:
            await self._wait_woken()
        self._lookups.want(self.view.names())
        with trio.move_on_after(_NAMES_WITHIN):
            await self._lookups.wait_tried()

    async def build_all(self) -> dict[str, Service]:
        """Everything as it is now, with other tasks in between."""
        self.view.stale.clear()
        known = {}
        for number, host in enumerate(sorted(self.view.hosts())):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            service = self.view.build(host)
            if service is not None:
                known[host] = service
        return known

    async def wait_stale(self) -> set[str]:
        """Host names to be built anew, each once. A cancelled wait loses nothing."""
        while not self.view.stale:
            await self._wait_woken()
        self._lookups.want(self.view.names())
        stale = set(self.view.stale)
        self.view.stale.clear()
        return stale

    def _mirror(self, kind: type[Any], take: Callable[[str, Any, Any], None], parameters: Mapping[str, str]) -> Mirror[Any]:
        def taken(key: str, before: Any, after: Any) -> None:
            take(key, before, after)
            self._woken.set()

        return Mirror("", msgspec.json.Decoder(kind).decode, taken, parameters=parameters, at_once=_TOLD_AT_ONCE)

    def _take_service(self, key: str, before: kube.Service | None, after: kube.Service | None) -> None:
        self.view.take_service(key, before, after)
        if self._exports is not None:
            self._exports.service_changed(key)

    def _take_export(self, key: str, before: kube.ServiceExport | None, after: kube.ServiceExport | None) -> None:
        self.view.take_export(key, before, after)
        if self._exports is not None:
            self._exports.export_changed(key, before, after)

    async def _wait_woken(self) -> None:
        self._woken = trio.Event()
        await self._woken.wait()

    def _named(self, name: str, addresses: tuple[str, ...]) -> None:
        self.view.take_name(name, addresses)
        self._woken.set()

    def _listed(self, name: str) -> None:
        self._unlisted.discard(name)
        self._woken.set()


class _Missing:
    """How often in a row an optional collection was not there (absent), or could not be read (refused)."""

    def __init__(self) -> None:
        self.absent = self.refused = 0
        self.given_up = False

    def note(self, status: int) -> None:
        """What may not be read, or is not there, is gone on without at once; a server that is not well, after a while."""
        self.absent = self.absent + 1 if status == 404 else 0
        self.refused = 0 if status == 404 else self.refused + 1
        self.given_up = status in (403, 404) or self.refused >= _PATIENCE

    def clear(self) -> None:
        self.absent = self.refused = 0
        self.given_up = False


def _path(root: str, what: str, namespace: str) -> str:
    return f"{root}/{what}" if namespace == ALL else f"{root}/namespaces/{namespace}/{what}"
