"""A scripted HTTP server that answers as Consul does: indices, blocking queries, refusals, silence. Real sockets on 127.0.0.1.

`say(path, data)` sets what a path answers and bumps the index; a blocking query on it returns then. `scripted` answers go first, one
a request: each a Scripted. `requests` is everything that was asked.
"""

import base64
import json
import urllib.parse
from dataclasses import dataclass, field

import trio

LIST = "/v1/catalog/services"
HEALTH = "/v1/health/service/"
CHECKS = "/v1/health/state/any"


@dataclass
class Asked:
    method: str
    path: str
    params: dict
    headers: dict
    body: bytes

    @property
    def index(self):
        return int(self.params.get("index", 0))

    @property
    def mode(self):
        return next((mode for mode in ("stale", "consistent") if mode in self.params), "")


@dataclass
class Scripted:
    """status 0: never answer; -1: close the connection."""

    data: object = None
    status: int = 200
    index: int | None = None
    headers: dict = field(default_factory=dict)


class ScriptedConsul:
    def __init__(self):
        self.requests = []
        self.index = 10
        self.answers = {}  # path (and ?peer=) → (index, data)
        self.scripted = {}
        self.handler = None  # (asked) → Scripted or None, for writes
        self.open = 0
        self.most_open = 0
        self._changed = trio.Event()

    async def serve(self, *, task_status=trio.TASK_STATUS_IGNORED):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            task_status.started(self.address)

    def say(self, path, data, *, index=None):
        self.index = index if index is not None else self.index + 1
        self.answers[path] = (self.index, data)
        self.wake()

    def wake(self):
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def instances(self, name, *entries, peer=""):
        """Set a service's instances, and the list with them."""
        path = HEALTH + name + (f"?peer={peer}" if peer else "")
        self.say(path, list(entries))
        listed = "/v1/internal/ui/services" + f"?peer={peer}" if peer else LIST
        if peer:
            found = [each for each in self.answers.get(listed, (0, []))[1] if each["Name"] != name]
            if entries:
                found.append({"Name": name, "PeerName": peer, "Tags": None})
            self.answers[listed] = (self.index, found)
            return
        names = dict(self.answers.get(LIST, (0, {}))[1])
        names.pop(name, None)
        if entries:
            names[name] = sorted({tag for entry in entries for tag in entry["Service"]["Tags"]})
        self.answers[LIST] = (self.index, names)
        self.answers[CHECKS] = (
            self.index,
            [check for p, (_, d) in self.answers.items() if p.startswith(HEALTH) for e in d for check in e["Checks"]],
        )
        self.wake()

    async def wait_asked(self, condition):
        """Wait until a request fulfils the condition; returns it."""
        while True:
            for asked in self.requests:
                if condition(asked):
                    return asked
            await self._changed.wait()

    async def _serve(self, stream):
        """One connection, until the client closes it, also while an answer is waited for."""
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            send, receive = trio.open_memory_channel(100)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, stream, send, nursery.cancel_scope)
                await self._converse(stream, receive)
                nursery.cancel_scope.cancel()
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _read(self, stream, send, scope):
        try:
            async for data in stream:
                await send.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def _converse(self, stream, receive):
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                buffer += await receive.receive()
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            line, *fields = head.decode().split("\r\n")
            method, target, _ = line.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
            length = int(headers.get("content-length", 0))
            while len(buffer) < length:
                buffer += await receive.receive()
            body, buffer = buffer[:length], buffer[length:]
            path, _, query = target.partition("?")
            params = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
            asked = Asked(method, urllib.parse.unquote(path), params, headers, body)
            self.requests.append(asked)
            self.wake()
            if not await self._answer(stream, asked):
                return

    async def _answer(self, stream, asked):
        key = asked.path + (f"?peer={asked.params['peer']}" if "peer" in asked.params else "")
        if self.scripted.get(key):
            scripted = self.scripted[key].pop(0)
        elif asked.method != "GET" and self.handler is not None:
            scripted = self.handler(asked)
        else:
            scripted = await self._blocking(key, asked)
        if scripted.status == 0:
            await trio.sleep_forever()
        if scripted.status < 0:
            return False
        text = scripted.data if isinstance(scripted.data, str) else json.dumps(scripted.data)
        fields = {
            "Content-Length": len(text.encode()),
            "X-Consul-Index": scripted.index or self.index,
            "X-Consul-KnownLeader": "true",
            "X-Consul-LastContact": 0,
            **scripted.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await stream.send_all(f"HTTP/1.1 {scripted.status} OK\r\n{head}\r\n{text}".encode())
        return True

    async def _blocking(self, key, asked):
        while True:
            index, data = self.answers.get(key, (1, None))
            if not asked.index or index != asked.index:
                empty = [] if key.startswith(HEALTH) or key == CHECKS or "internal" in key else {}
                missing = data is None and key.startswith("/v1/kv/")
                return Scripted(empty if data is None else data, index=index, status=404 if missing else 200)
            await self._changed.wait()


def entry(ident, address, port, *, name="web", node="n1", status="passing", tags=(), meta=None, **service):
    """What the health endpoint says of one instance."""
    checks = (
        []
        if status is None
        else [{"Node": node, "CheckID": f"c-{ident}", "Status": status, "ServiceID": ident, "ServiceName": name}]
    )
    return {
        "Node": {"Node": node, "Address": "10.0.0.9", "Datacenter": "dc1", "Meta": None, "TaggedAddresses": None},
        "Service": {
            "ID": ident,
            "Service": name,
            "Address": address,
            "Port": port,
            "Tags": list(tags),
            "Meta": meta,
            "Weights": {"Passing": 1, "Warning": 1},
            "Connect": {},
            "Proxy": {},
            **service,
        },
        "Checks": checks,
    }


def pair(key, value, index):
    """One key of the KV store."""
    return {"Key": key, "Value": base64.b64encode(value).decode() if value else None, "ModifyIndex": index, "CreateIndex": index}
