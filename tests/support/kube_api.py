"""A Kubernetes API in memory on a real socket: lists in pages, watches with bookmarks, versions that expire, statuses that are patched.

    api = KubeApi()
    server = await nursery.start(api.serve)          # http://127.0.0.1:PORT
    api.put("/api/v1/services", {"metadata": {"name": "web", "namespace": "shop"}, ...})

What it is told to do wrong it does: `refuse` a path with a status, `compact` old versions, `cut` every connection, `end_watches`.
"""

import json
import math
import urllib.parse

import h11
import trio

SERVICES = "/api/v1/services"
PODS = "/api/v1/pods"
NODES = "/api/v1/nodes"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
EXPORTS = "/apis/multicluster.x-k8s.io/v1alpha1/serviceexports"
IMPORTS = "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports"


class KubeApi:
    """requests: (method, path, parameters, authorization) of each, in order. groups: group → versions. contents: `/apis/G/V` → resources.
    page_size: overrides what clients ask for."""

    def __init__(self):
        self.objects = {}  # collection → {key: object}
        self.versions = 100
        self.oldest = 0
        self.history = []  # (version, collection, type, object)
        self.requests = []
        self.patches = []
        self.refusals = {}  # path → (status, reason)
        self.tokens = None  # those that are let in; None: everybody
        self.page_size = None
        self.groups = {"discovery.k8s.io": ["v1"]}
        self.contents = {}
        self.answering = trio.Event()
        self.answering.set()
        self._changed = trio.Event()
        self._ended = trio.Event()
        self._streams = set()

    # -------------------------------------------------------------------------------------------------- what a test does

    def put(self, collection, content):
        """Create or change an object; everybody who watches sees it."""
        metadata = content["metadata"]
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        known = self.objects.setdefault(collection, {})
        kind = "MODIFIED" if key in known else "ADDED"
        self.versions += 1
        uid = known[key]["metadata"]["uid"] if key in known else f"uid-{self.versions}"
        made = {**content, "metadata": {"uid": uid, "generation": 1, **metadata, "resourceVersion": str(self.versions)}}
        known[key] = made
        self._happened(collection, kind, made)
        return made

    def drop(self, collection, key):
        gone = self.objects[collection].pop(key)
        self.versions += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.versions)}}
        self._happened(collection, "DELETED", gone)

    def bookmark(self, collection):
        self.versions += 1
        self._happened(collection, "BOOKMARK", {"metadata": {"resourceVersion": str(self.versions)}})

    def forget_events(self, collection):
        """Clients that are not connected miss what happened so far, as if the versions were compacted away."""
        self.oldest = self.versions

    def error(self, collection, code, reason):
        """An ERROR event in every watch of the collection."""
        self.versions += 1
        self._happened(collection, "ERROR", {"kind": "Status", "code": code, "reason": reason, "message": f"said {reason}"})

    def end_watches(self):
        """As the server does when a watch's time is up."""
        ended, self._ended = self._ended, trio.Event()
        ended.set()

    async def cut(self):
        """Every connection breaks."""
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    def asked(self, text):
        return [request for request in self.requests if text in request[1] or text in json.dumps(request[2])]

    async def wait(self, condition):
        """Until `condition()` holds; looked at after each request and change."""
        while not condition():
            await self._changed.wait()

    # -------------------------------------------------------------------------------------------------------- serving it

    async def serve(self, *, tls=None, task_status=trio.TASK_STATUS_IGNORED):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        if tls is not None:
            listeners = [trio.SSLListener(each, tls, https_compatible=True) for each in listeners]
        async with trio.open_nursery() as nursery:
            made = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            nursery.start_soon(trio.serve_listeners, self._connection, listeners)
            task_status.started(made)
            await trio.sleep_forever()

    def _happened(self, collection, kind, content):
        self.history.append((self.versions, collection, kind, content))
        self._notify()

    def _notify(self):
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def _connection(self, stream):
        self._streams.add(stream)
        connection = h11.Connection(h11.SERVER)
        try:
            await self._requests(stream, connection)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, h11.LocalProtocolError):
            pass  # the client left, as clients do
        finally:
            self._streams.discard(stream)
            await trio.aclose_forcefully(stream)

    async def _requests(self, stream, connection):
        while True:
            request, body = await self._request(stream, connection)
            if request is None:
                return
            await self._answer(stream, connection, request, body)
            connection.start_next_cycle()

    async def _request(self, stream, connection):
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return request, body
            else:
                return None, b""

    async def _answer(self, stream, connection, request, body):
        target = urllib.parse.urlsplit(request.target.decode())
        parameters = {name: values[-1] for name, values in urllib.parse.parse_qs(target.query).items()}
        authorization = dict(request.headers).get(b"authorization", b"").decode()
        self.requests.append((request.method.decode(), target.path, parameters, authorization))
        self._notify()
        await self.answering.wait()
        if self.tokens is not None and authorization.removeprefix("Bearer ") not in self.tokens:
            await self._say(stream, connection, 401, _status(401, "Unauthorized"))
        elif target.path in self.refusals:
            status, reason = self.refusals[target.path]
            await self._say(stream, connection, status, _status(status, reason))
        elif request.method == b"PATCH":
            await self._say(stream, connection, *self._patch(target.path, json.loads(body)))
        elif parameters.get("watch"):
            await self._watch(stream, connection, target.path, int(parameters["resourceVersion"]))
        else:
            await self._say(stream, connection, *self._read(target.path, parameters))

    def _read(self, path, parameters):
        if path in self.contents:
            return 200, {"resources": self.contents[path]}
        parts = path.split("/")
        if parts[1] == "apis" and len(parts) == 3:
            versions = [{"version": version} for version in self.groups.get(parts[2], ())]
            return (200, {"versions": versions, "preferredVersion": versions[0]}) if versions else (404, _status(404, "NotFound"))
        return self._list(path, parameters)

    def _list(self, path, parameters):
        start, version = 0, self.versions
        if "continue" in parameters:
            start, version = (int(part) for part in parameters["continue"].split(":"))
            if version < self.oldest:
                return 410, _status(410, "Expired")
        items = [item for _, item in sorted(self._within(path).items())]
        size = self.page_size or math.inf
        size = int(min(size, int(parameters.get("limit", 0)) or len(items) + 1)) if "limit" in parameters else len(items) + 1
        more = f"{start + size}:{version}" if start + size < len(items) else ""
        return 200, {"metadata": {"resourceVersion": str(version), "continue": more}, "items": items[start : start + size]}

    def _within(self, path):
        collection, namespace = _split(path)
        return {
            key: item for key, item in self.objects.get(collection, {}).items() if not namespace or key.startswith(f"{namespace}/")
        }

    async def _watch(self, stream, connection, path, version):
        if version < self.oldest:
            await self._say(stream, connection, 410, _status(410, "Expired"))
            return
        collection, namespace = _split(path)
        await stream.send_all(connection.send(h11.Response(status_code=200, headers=[("transfer-encoding", "chunked")])))
        ended = self._ended
        async with trio.open_nursery() as nursery:

            async def end():
                await ended.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end)
            while True:
                changed = self._changed
                for number, where, kind, content in list(self.history):
                    inside = not namespace or content["metadata"].get("namespace") == namespace
                    if where == collection and number > version and inside:
                        line = json.dumps({"type": kind, "object": content}).encode() + b"\n"
                        await stream.send_all(connection.send(h11.Data(data=line)))
                    version = max(version, number)
                await changed.wait()
        await stream.send_all(connection.send(h11.EndOfMessage()))

    def _patch(self, path, body):
        collection, _, name = path.removesuffix("/status").rpartition("/")
        collection, namespace = _split(collection)
        found = self.objects.get(collection, {}).get(f"{namespace}/{name}")
        if found is None:
            return 404, _status(404, "NotFound")
        wanted = body.get("metadata", {}).get("resourceVersion", found["metadata"]["resourceVersion"])
        if wanted != found["metadata"]["resourceVersion"]:
            return 409, _status(409, "Conflict")
        self.patches.append((path, body))
        return 200, self.put(collection, {**found, "status": {**found.get("status", {}), **body["status"]}})

    async def _say(self, stream, connection, status, content):
        data = json.dumps(content).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(data)))]
        await stream.send_all(connection.send(h11.Response(status_code=status, headers=headers)))
        await stream.send_all(connection.send(h11.Data(data=data)))
        await stream.send_all(connection.send(h11.EndOfMessage()))


def _split(path):
    """`/api/v1/namespaces/shop/services` → (`/api/v1/services`, `shop`)."""
    before, found, after = path.partition("/namespaces/")
    if not found or "/" not in after:
        return path, ""
    namespace, _, rest = after.partition("/")
    return f"{before}/{rest}", namespace


def _status(code, reason):
    return {"kind": "Status", "code": code, "reason": reason, "message": f"the test said {reason}"}


# ------------------------------------------------------------------------------------------------------------------ objects


def service(name, *, namespace="shop", ports=None, labels=None, created="2026-01-01T00:00:00Z", status=None, **spec):
    written = ports if ports is not None else [{"name": "http", "port": 80, "targetPort": 8080}]
    content = {
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}, "creationTimestamp": created},
        "spec": {"clusterIP": "10.96.0.1", "ports": written, **spec},
    }
    return {**content, **({"status": status} if status else {})}


def slice_of(owner, *addresses, name="", namespace="shop", ports=None, family="IPv4", labels=None, **fields):
    """addresses: texts, or (address, fields of the endpoint)."""
    endpoints = [
        {"addresses": [each], "conditions": {"ready": True}} if isinstance(each, str) else _endpoint(*each) for each in addresses
    ]
    return {
        "metadata": {
            "name": name or f"{owner}-1",
            "namespace": namespace,
            "labels": labels or {"kubernetes.io/service-name": owner},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports if ports is not None else [{"name": "http", "port": 8080, "protocol": "TCP"}],
        **fields,
    }


def _endpoint(address, fields):
    pod = fields.pop("pod", None)
    made = {"addresses": [address], "conditions": {"ready": True}, **fields}
    return {**made, "targetRef": {"kind": "Pod", "name": pod}} if pod else made


def pod(name, *, namespace="shop", account="default", **labels):
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": {"serviceAccountName": account}}


def node(name, *, zone="", region="", address="10.77.9.1", ready=True, labels=None):
    found = {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": region}
    return {
        "metadata": {"name": name, "labels": {key: value for key, value in {**found, **(labels or {})}.items() if value or labels}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
        },
    }


def kubeconfig(folder, server, *, user=None, cluster=None, name="kubeconfig"):
    """The path of a kubeconfig (JSON is YAML) for that server."""
    path = folder / name
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "here", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "me", "user": user or {}}],
        "contexts": [{"name": "it", "context": {"cluster": "here", "user": "me", "namespace": "shop"}}],
    }
    path.write_text(json.dumps(written))
    return str(path)
