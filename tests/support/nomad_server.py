"""A Nomad agent by script, on a real socket: keeps registrations, allocations, checks and nodes, and blocks as the real one does.

`port = await nursery.start(nomad.serve)`. `change()` raises the index and lets blocked queries look again. `refuse[path prefix] = status`
answers with that. `asked` is every request's target, in order, with what its token was.
"""

import contextlib
import json
from urllib.parse import parse_qs, unquote, urlsplit

import trio


class ScriptedNomad:
    def __init__(self):
        self.index = 10
        self.services = {}  # (namespace, name) → list of registrations
        self.touched = {}  # (namespace, name) → index of its last change
        self.allocations = {}
        self.checks = {}
        self.nodes = {}
        self.namespaces = [{"Name": "default"}]
        self.refuse = {}
        self.asked = []
        self.tokens = []
        self.silent = False
        self._changed = trio.Event()
        self.connections = 0
        self._blocked = {}

    def register(self, name, alloc, address, port, *, namespace="default", tags=(), node="n1", datacenter="dc1", status="running"):
        one = {
            "ID": f"_nomad-{alloc}-{name}-{port}",
            "ServiceName": name,
            "Namespace": namespace,
            "NodeID": node,
            "Datacenter": datacenter,
            "JobID": name,
            "AllocID": alloc,
            "Tags": list(tags),
            "Address": address,
            "Port": port,
            "CreateIndex": self.index,
            "ModifyIndex": self.index + 1,
        }
        self.services.setdefault((namespace, name), []).append(one)
        if alloc not in self.allocations:
            self.allocations[alloc] = {"ID": alloc, "ClientStatus": status, "TaskGroup": "g", "Job": job(0)}
        self.nodes.setdefault(node, {"ID": node, "Name": node, "Datacenter": datacenter, "ModifyIndex": 5})
        self.change((namespace, name))

    def deregister(self, name, alloc, *, namespace="default"):
        key = (namespace, name)
        self.services[key] = [each for each in self.services[key] if each["AllocID"] != alloc]
        if not self.services[key]:
            del self.services[key]
        self.change(key)

    def check(self, alloc, service, status, *, check="alive", declared=1):
        self.allocations[alloc]["Job"] = job(declared)
        result = {"Service": service, "Check": check, "Status": status, "Mode": "healthiness", "Group": "x.g[0]", "Timestamp": 1}
        self.checks.setdefault(alloc, {})[f"{service}/{check}"] = result

    def change(self, *keys, index=None):
        self.index = self.index + 1 if index is None else index
        for key in keys:
            self.touched[key] = self.index
        self.wake()

    def wake(self):
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def serve(self, *, task_status=trio.TASK_STATUS_IGNORED):
        await trio.serve_tcp(self._talk, 0, host="127.0.0.1", task_status=_port(task_status))

    async def _talk(self, stream):
        self.connections += 1
        data = b""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while b"\r\n\r\n" not in data:
                    more = await stream.receive_some(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                target = lines[0].split(" ")[1]
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
                self.asked.append(target)
                self.tokens.append(headers.get("x-nomad-token", ""))
                async with trio.open_nursery() as nursery:
                    # a client that leaves while its query blocks ends it
                    answered = trio.Event()
                    nursery.start_soon(self._answer, stream, target, nursery.cancel_scope, answered)
        await trio.aclose_forcefully(stream)

    async def _answer(self, stream, target, scope, answered):
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path)
        status = next((code for prefix, code in self.refuse.items() if path.startswith(prefix)), 200)
        if self.silent:
            await trio.sleep_forever()
        if status == 200:
            await self._block(path, query)
            status, value = self._value(path, query)
            body = json.dumps(value).encode()
        else:
            body = b"refused by script"
        await stream.send_all(
            f"HTTP/1.1 {status} x\r\nX-Nomad-Index: {self.index}\r\nX-Nomad-KnownLeader: true\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def _block(self, path, query):
        """As the real one: a service's query is not woken by another's change."""
        known = int(query.get("index", 0))
        key = (query.get("namespace", "default"), path.rpartition("/")[2])
        while known:
            if path.startswith("/v1/service/"):
                newest = self.touched.get(key, 0)
            elif path == "/v1/services":
                newest = max(self.touched.values(), default=0)
            else:
                newest = max((node["ModifyIndex"] for node in self.nodes.values()), default=0)
            if newest > known or self.index < known:
                return
            self._blocked.setdefault(path, trio.Event()).set()
            await self._changed.wait()

    async def wait_blocked(self, path):
        """Until somebody's query on this path blocks (or did once)."""
        await self._blocked.setdefault(path, trio.Event()).wait()

    def _value(self, path, query):
        namespace = query.get("namespace", "default")
        last = path.rpartition("/")[2]
        if path == "/v1/services":
            spaces = sorted({ns for ns, _ in self.services if namespace in ("*", ns)})
            return 200, [
                {"Namespace": space, "Services": [{"ServiceName": name, "Tags": []} for ns, name in self.services if ns == space]}
                for space in spaces
            ]
        if path.startswith("/v1/service/"):
            return 200, self.services.get((namespace, last), [])
        if path.endswith("/checks"):
            return 200, self.checks.get(path.split("/")[-2])
        if path.startswith("/v1/allocation/"):
            return (200, self.allocations[last]) if last in self.allocations else (404, "alloc not found")
        if path == "/v1/nodes":
            return 200, list(self.nodes.values())
        if path.startswith("/v1/node/"):
            return (200, self.nodes[last]) if last in self.nodes else (404, "node not found")
        if path == "/v1/namespaces":
            return 200, self.namespaces
        return 404, "no such path"


def job(checks):
    return {
        "TaskGroups": [
            {"Name": "g", "Services": [{"Name": "x", "Provider": "nomad", "Checks": [{"Name": str(n)} for n in range(checks)]}]},
            {"Name": "other", "Services": [{"Provider": "nomad", "Checks": [{}]}], "Tasks": [{"Services": None}]},
        ]
    }


class _port:
    """Tells the port in place of the listeners."""

    def __init__(self, status):
        self._status = status

    def started(self, listeners):
        self._status.started(listeners[0].socket.getsockname()[1])
