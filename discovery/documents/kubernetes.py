"""Documents in a Kubernetes API: custom resources, and the Secrets that they mention. Conditions are written back.

Theory of operation. The server's own tables of contents say which of the wanted kinds it has, at what version and whether their status
can be written; they are read again now and then, so a CustomResourceDefinition that is installed later is found. A TaskSet keeps a Mirror
running for each kind and namespace: one that fails backs off by itself, is an error among the documents, and keeps what it knew. Any
difference publishes all documents again, at once when it is quiet, else a few times a second.

What became of a document is written into its status, if the kind has one, when the verdict on this very version is in.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import partial

import msgspec
import structlog
import trio

from discovery.backoff import DEFAULT, Backoff
from discovery.clients.kubeconfig import Credentials
from discovery.clients.kubernetes import ApiResource, Kubernetes, KubernetesError
from discovery.clients.kubernetes_mirror import Mirror
from discovery.clients.kubernetes_status import StatusWriter, Wish
from discovery.document import DocumentError, Documents, Origin, Outcome
from discovery.kubernetes.documents import SECRETS, Collection, Stored, published, stored
from discovery.supervise import TaskSet, describe
from discovery.watch import Watchable

KINDS: Mapping[str, tuple[str, ...]] = {
    "networking.istio.io": (
        "Gateway",
        "VirtualService",
        "DestinationRule",
        "ServiceEntry",
        "WorkloadEntry",
        "WorkloadGroup",
    ),
    "security.istio.io": ("PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy"),
    "telemetry.istio.io": ("Telemetry",),
    "fedgate.io": ("Peer", "Export", "ServicePolicy", "ExternalService", "Drill"),  # a Node is given at the start
}
"""The kinds that are read, by group."""
FIRST_WITHIN = 5.0  # seconds that the start waits for the API; then it goes on without, and the documents come when they come
_DISCOVER = 30.0  # seconds between two looks at the tables of contents: nine small requests, and a new CRD is seen within that
_EVERY = 0.05  # seconds between two publications at least: `kubectl apply` of a folder is a few of them, not a hundred
# Neither holds a certificate, and Helm's are large: they need not leave the server.
_NOT_SECRETS = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"
_UNREAD = "has not been read yet"
_log = structlog.get_logger("documents")


class KubernetesDocumentsOptions(msgspec.Struct, frozen=True):
    """kubeconfig, context: as Credentials. namespaces: `*` is all. secrets: the namespaces that Secrets are read in; none: our login's."""

    kubeconfig: str = ""
    context: str = ""
    namespaces: tuple[str, ...] = ("*",)
    secrets: tuple[str, ...] = ()
    write_status: bool = True


class KubernetesDocuments:
    """See DocumentSource. credentials None: by the options."""

    name = "kubernetes"

    def __init__(
        self,
        options: KubernetesDocumentsOptions,
        *,
        credentials: Credentials | None = None,
        kinds: Mapping[str, tuple[str, ...]] = KINDS,
        discover: float = _DISCOVER,
    ) -> None:
        self.documents: Watchable[Documents] = Watchable(Documents())
        self.shows = options.write_status
        self._options = options
        self._credentials = credentials or Credentials(options.kubeconfig, options.context)
        self._kinds = kinds
        self._every = discover
        self._writer = StatusWriter()
        self._mirrors: dict[tuple[str, str], Mirror[Stored]] = {}
        self._collections: dict[tuple[str, str], Collection] = {}
        self._wanted: Watchable[Mapping[tuple[str, str], Collection]] = Watchable({})
        self._listed: set[tuple[str, str]] = set()
        self._faults: dict[tuple[str, str], str] = {}
        self._fault = ""  # of the whole API
        self._absent: dict[tuple[str, str], int] = {}  # collections that are gone → in how many looks
        self._outcomes: Mapping[Origin, Outcome] = {}
        self._unjudged: set[Origin] = set()  # published since, but not judged yet
        self._stored: dict[Origin, Stored] = {}
        self._awake = trio.Event()
        self._again = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See DocumentSource. `started()` when everything was read, or cannot be, or FIRST_WITHIN is over."""
        async with Kubernetes(self._credentials) as api, trio.open_nursery() as nursery:
            first = trio.Event()
            nursery.start_soon(self._discover, api, first)
            nursery.start_soon(TaskSet(partial(self._keep, api), rng=random.random, report=self._failed).run, self._wanted)
            if self.shows:
                nursery.start_soon(self._write, api)
            with trio.move_on_after(FIRST_WITHIN):
                await first.wait()
                while not all(key in self._listed or key in self._faults for key in self._wanted.value):
                    await self._wait_awake()
            if not first.is_set() and not self._fault:
                self._fault = f"did not answer within {FIRST_WITHIN:g} s; check that it can be reached from here"
            self._publish()
            task_status.started()
            while True:
                await trio.sleep(_EVERY)
                await self._wait_awake()
                self._publish()

    def reload(self) -> None:
        """See DocumentSource: the tables of contents are read again at once; objects are watched all the time."""
        self._again.set()

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        """See DocumentSource."""
        if not self.shows:
            return
        before, self._outcomes = self._outcomes, outcomes
        unjudged, self._unjudged = self._unjudged, set()
        for origin, found in self._stored.items():
            outcome = outcomes.get(origin)
            if outcome is not None and (origin in unjudged or before.get(origin) != outcome):
                self._want(found, outcome)

    # ------------------------------------------------------------------------------------------------------- which kinds

    async def _discover(self, api: Kubernetes, first: trio.Event) -> None:
        backoff = Backoff(DEFAULT, random.random)
        while True:
            self._again = trio.Event()
            pause = self._every
            try:
                found = await self._look(api)
                self._take(found)
                self._fault = ""
                backoff.succeeded()
            except Exception as error:  # whatever it is, the API is asked again, and what is known stays
                self._fault = _words(error)
                pause = backoff.failed()
            first.set()
            self._awake.set()
            with trio.move_on_after(pause):
                await self._again.wait()

    async def _look(self, api: Kubernetes) -> dict[tuple[str, str], Collection]:
        found: dict[tuple[str, str], Collection] = {}
        for group, kinds in self._kinds.items():
            missing = set(kinds)
            for version in await api.versions(group):
                root = f"/apis/{group}/{version}"
                if missing:
                    made = _collections(root, await api.resources(root), missing)
                    found.update((key, each) for one in made for key, each in self._placed(one))
                    missing -= {one.kind for one in made}
        for namespace in self._options.secrets or ((await api.namespace()) or "default",):
            found[SECRETS, namespace] = Collection("/api/v1", SECRETS, "Secret", namespace)
        return found

    def _placed(self, found: Collection) -> list[tuple[tuple[str, str], Collection]]:
        namespaces = self._options.namespaces if found.namespaced else ("*",)
        placed = [msgspec.structs.replace(found, namespace=namespace) for namespace in namespaces]
        return [((each.full_name, each.namespace), each) for each in placed]

    def _take(self, found: dict[tuple[str, str], Collection]) -> None:
        """A kind is gone when two looks in a row miss it: a server that has just begun does not know all of its own yet."""
        for key, collection in self._wanted.value.items():
            if key not in found:
                self._absent[key] = self._absent.get(key, 0) + 1
                if self._absent[key] < 2:
                    found[key] = collection
                elif key in self._mirrors:
                    self._mirrors.pop(key).forget()
                    self._listed.discard(key)
                    self._faults.pop(key, None)
            else:
                self._absent.pop(key, None)
        if found != self._wanted.value:
            self._wanted.set(found)

    # ------------------------------------------------------------------------------------------------------ their objects

    async def _keep(self, api: Kubernetes, key: tuple[str, str], collection: Collection) -> None:
        mirror = self._mirrors.get(key)
        if mirror is None or self._collections.get(key) != collection:
            selector = {"fieldSelector": _NOT_SECRETS} if collection.plural == SECRETS else {}
            taken = partial(self._changed, collection.status)
            known = mirror.items if mirror is not None else {}
            mirror = self._mirrors[key] = Mirror(collection.path, partial(stored, collection), taken, parameters=selector)
            mirror.restore(known)
            self._collections[key] = collection

        def listed() -> None:
            self._listed.add(key)
            self._faults.pop(key, None)
            self._awake.set()

        await mirror.run(api, listed=listed)

    def _failed(self, key: tuple[str, str], error: Exception) -> None:
        self._faults[key] = _words(error)
        self._awake.set()

    def _changed(self, status: bool, key: str, before: Stored | None, after: Stored | None) -> None:
        if before is not None and (after is None or after.uid != before.uid):
            self._writer.forget(before.uid)
        if after is None:
            if before is not None:
                self._stored.pop(before.document.origin, None)
        elif status:
            origin = after.document.origin
            self._stored[origin] = after
            outcome = self._outcomes.get(origin)
            if before is None or before.document != after.document or outcome is None:
                self._unjudged.add(origin)
            elif origin not in self._unjudged:
                self._want(after, outcome)
        if before is None or after is None or before.document != after.document:
            self._awake.set()

    def _publish(self) -> None:
        documents = published(item for mirror in self._mirrors.values() for item in mirror.items.values())
        last = self.documents.value
        now = Documents(last.documents if documents == last.documents else documents, tuple(self._errors()))
        if now != last:
            for error in set(now.errors) - set(last.errors):
                if error.message != _UNREAD:
                    _log.warning("document.unreadable", origin=str(error.origin), error=error.message, remedy=error.remedy)
            self.documents.set(now)

    def _errors(self) -> Iterator[DocumentError]:
        """Each at the place whose documents it concerns: those of an earlier process stand meanwhile."""
        remedy = "its last good documents stand meanwhile"
        if self._fault:
            yield DocumentError(Origin("kubernetes"), self._fault, remedy)
        for (name, namespace), text in sorted(self._faults.items()):
            yield DocumentError(_place(name, namespace), text, remedy)
        for key in sorted(self._wanted.value):
            if key not in self._listed and key not in self._faults:
                yield DocumentError(_place(*key), _UNREAD, remedy)

    async def _wait_awake(self) -> None:
        await self._awake.wait()
        self._awake = trio.Event()

    # ------------------------------------------------------------------------------------------------------------ statuses

    def _want(self, found: Stored, outcome: Outcome) -> None:
        self._writer.want(
            Wish(
                path=found.path,
                uid=found.uid,
                version=found.version,
                generation=found.generation,
                found=found.conditions,
                conditions=outcome.conditions,
            )
        )

    async def _write(self, api: Kubernetes) -> None:
        """Write while the API can be reached, and again when it can."""
        backoff = Backoff(DEFAULT, random.random)
        while True:
            try:
                await self._writer.run(api)
            except Exception as error:
                _log.warning("kubernetes.statuses_wait", error=describe(error))
            await trio.sleep(backoff.failed())

    def __repr__(self) -> str:
        return f"<KubernetesDocuments kinds={len(self._wanted.value)} documents={len(self.documents.value.documents)}>"


def _collections(root: str, contents: tuple[ApiResource, ...], kinds: set[str]) -> list[Collection]:
    names = {each.name for each in contents}
    return [
        Collection(root, each.name, each.kind, namespaced=each.namespaced, status=f"{each.name}/status" in names)
        for each in contents
        if each.kind in kinds and "/" not in each.name
    ]


def _place(name: str, namespace: str) -> Origin:
    return Origin(f"kubernetes:{name}" if namespace == "*" else f"kubernetes:{name}/{namespace}")


def _words(error: Exception) -> str:
    text = f"cannot be read: {describe(error)}"
    if isinstance(error, KubernetesError) and error.status == 403:
        return f"{text}; give this gateway's account get, list and watch on it (docs/kubernetes.md has the role)"
    return f"{text}; check that the API can be reached from here"
