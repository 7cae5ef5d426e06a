"""HTTP to one Consul agent, on trio: connections, TLS, the token, timeouts. What is asked is `discovery.clients.consul`'s matter.

Theory of operation. py-consul knows Consul's paths, parameters and answers and leaves the HTTP to whoever plugs a client in; `Http` is
that client, and `Session` is what several of them share: one pool of connections. Token and certificates are files that others replace
while we run, so their stat is looked at before each request (microseconds beside a request's milliseconds), and what changed is read
anew: a new token is sent from the next request on, new certificates are used by new connections.

What fails is one of two: Unreachable, nobody answered in time; Refused, somebody answered with an error. Neither says the token.
"""

from __future__ import annotations

import socket
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx2
import msgspec
import trio
from consul.base import HTTPClient, Response  # type: ignore[import-untyped]

from discovery.clients.agent import read_whole, tls_context
from discovery.signature import signature

CONNECT_WITHIN = 5.0  # seconds: an agent is near; a farther one is still a second away at worst
ANSWER_WITHIN = 10.0  # a server holds a request up to 7 s while it waits for a leader (Consul's rpc_hold_timeout), then says so
LEASE_WITHIN = 30.0  # for a free connection of the pool: our own limits keep far below it, so that this is a fault of ours
MOST_BYTES = 64 << 20  # of an answer: 100,000 instances of one service are 70 MB, and nobody runs those
_RETIRED = 4  # pools with former certificates: these change once an hour at most, and a blocking query ends in minutes
# A host that went away without a word is noticed after 25 s, not when the blocking query would have ended.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]

Params = list[tuple[str, Any]] | None
Callback = Callable[[Response], Any]


class ConsulConnection(msgspec.Struct, frozen=True):
    """address: URL of an agent, http, https or unix. datacenter "": the agent's own. namespace, partition: Consul Enterprise's, "" for the
    token's. token_file: read anew when it changes. ca_file "": the system's authorities."""

    address: str = "http://127.0.0.1:8500"
    datacenter: str = ""
    namespace: str = ""
    partition: str = ""
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def scope(self) -> list[tuple[str, str]]:
        """The parameters that every request carries."""
        named = (("dc", self.datacenter), ("ns", self.namespace), ("partition", self.partition))
        return [(name, value) for name, value in named if value]


class Unreachable(OSError):
    """Nobody answered, or not in time: whom we asked for what, why it failed."""


class Refused(Exception):
    """Consul answered with an error. status: HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TooStale(Exception):
    """A server that has lost its leader answered a stale read: what it says may be long outdated."""


class Session:
    """One pool of connections to an agent. Use it as a context; at most `connections` at once."""

    def __init__(self, to: ConsulConnection, *, connections: int) -> None:
        self.to = to
        self._limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._client: httpx2.AsyncClient | None = None
        self._retired: list[httpx2.AsyncClient] = []
        self._tls: object = None
        self._token = _TokenFile(to.token_file)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        clients = [*self._retired, *([self._client] if self._client else [])]
        self._client, self._retired = None, []
        for client in clients:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):  # closing writes TLS's goodbye, no more
                await client.aclose()

    async def request(
        self, method: str, path: str, params: Sequence[tuple[str, Any]], *, body: bytes = b"", within: float = ANSWER_WITHIN
    ) -> Response:
        """One request and its whole answer, its status below 400, or 404 (there is none), or 409 (a transaction's no). within: seconds
        that the answer may take. Raises Unreachable, Refused. Cancelled, it closes the connection; a write may have happened or not."""
        what = f"{method} {path}"
        timeout = httpx2.Timeout(within, connect=CONNECT_WITHIN, pool=LEASE_WITHIN)
        token = self._token.read()
        headers = {"X-Consul-Token": token} if token else {}
        url = urllib.parse.quote(path, safe="/:")
        try:
            with trio.fail_after(within + CONNECT_WITHIN + LEASE_WITHIN):
                async with (await self._connected()).stream(
                    method, url, params=[*params, *self.to.scope], content=body, headers=headers, timeout=timeout
                ) as answer:
                    found = await self._read(answer, what)
        except (httpx2.HTTPError, httpx2.StreamError, OSError, trio.TooSlowError) as error:
            raise Unreachable(f"{self.to.address}: {what}: {_words(error)}; check that the Consul agent runs and answers") from None
        if answer.status_code >= 400 and answer.status_code not in (404, 409):
            raise Refused(answer.status_code, _refusal(self.to.address, what, answer.status_code, found))
        return Response(answer.status_code, answer.headers, found)

    async def _read(self, answer: httpx2.Response, what: str) -> bytes:
        body = await read_whole(answer, MOST_BYTES)
        if body is None:
            raise Refused(0, f"{self.to.address}: {what}: the answer is larger than {MOST_BYTES >> 20} MiB; narrow what is read")
        return body

    async def _connected(self) -> httpx2.AsyncClient:
        tls = tuple(signature(path) for path in (self.to.ca_file, self.to.cert_file, self.to.key_file))
        if self._client is None or tls != self._tls:
            made = self._connect()
            if self._client is not None:
                self._retired.append(self._client)  # queries may be under way on it
            self._client, self._tls = made, tls
            while len(self._retired) > _RETIRED:
                await self._retired.pop(0).aclose()
            return made
        return self._client

    def _connect(self) -> httpx2.AsyncClient:
        address, path = self.to.address.rstrip("/"), None
        if address.startswith("unix://"):
            address, path = "http://consul", address.removeprefix("unix://")
        verify: ssl.SSLContext | bool = False
        if address.startswith("https:"):
            try:
                verify = tls_context(self.to.ca_file, self.to.cert_file, self.to.key_file)
            except (OSError, ssl.SSLError) as error:
                files = ", ".join(filter(None, (self.to.ca_file, self.to.cert_file, self.to.key_file)))
                raise Unreachable(f"{address}: TLS cannot be used: {error}; check {files}") from None
        transport = httpx2.AsyncHTTPTransport(
            verify=verify, trust_env=False, limits=self._limits, uds=path, socket_options=None if path else _KEEPALIVE
        )
        # Consul would compress each answer, which takes longer than to send it to an agent that is near.
        headers = {"User-Agent": "fedgate", "Accept-Encoding": "identity"}
        return httpx2.AsyncClient(transport=transport, base_url=address, trust_env=False, headers=headers)

    def __repr__(self) -> str:
        return f"<Session {self.to.address}>"


class Http(HTTPClient):  # type: ignore[misc]  # py-consul has no types
    """What py-consul calls: its answers are awaitables. mode: the consistency of every read, "", "stale" or "consistent"."""

    def __init__(self, session: Session, mode: str, within: Callable[[], float]) -> None:
        self._session = session
        self._mode = mode
        self._within = within

    def get(
        self, callback: Callback, path: str, params: Params = None, headers: object = None, raw: bool = False
    ) -> Awaitable[Any]:
        return self._get(callback, path, params or [])

    def put(
        self, callback: Callback, path: str, params: Params = None, data: str | bytes = "", headers: object = None
    ) -> Awaitable[Any]:
        return self._send("PUT", callback, path, params, data)

    def post(self, callback: Callback, path: str, params: Params = None, data: str = "", headers: object = None) -> Awaitable[Any]:
        return self._send("POST", callback, path, params, data)

    def delete(
        self, callback: Callback, path: str, params: Params = None, data: str = "", headers: object = None
    ) -> Awaitable[Any]:
        return self._send("DELETE", callback, path, params, data)

    def close(self) -> None:
        """The session is closed by who opened it."""

    async def _get(self, callback: Callback, path: str, params: list[tuple[str, Any]]) -> Any:
        mode = [(self._mode, "")] if self._mode else []
        blocking = any(name == "index" for name, _ in params)
        within = self._within() if blocking else ANSWER_WITHIN
        response = await self._session.request("GET", path, [*params, *mode], within=within)
        if self._mode == "stale" and _lost_leader(response.headers):
            raise TooStale
        found = callback(response)
        if response.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true" and not (
            found[1] if isinstance(found, tuple) else found
        ):
            raise Refused(403, _refusal(self._session.to.address, f"GET {path}", 403, b"all of it is hidden from this token"))
        return found

    async def _send(self, method: str, callback: Callback, path: str, params: Params, data: str | bytes) -> Any:
        body = data.encode() if isinstance(data, str) else data
        return callback(await self._session.request(method, path, params or [], body=body))


class _TokenFile:
    """The token as its file has it now. A file that is gone for a moment (a secret being swapped) keeps the last."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read: object = ""  # no signature: not even that of no file
        self._token = ""

    def read(self) -> str:
        """Raises Unreachable if there never was one."""
        if not self._path:
            return ""
        now = signature(self._path)
        if now != self._read:
            try:
                with open(self._path, encoding="utf-8") as file:
                    self._token = file.read(4096).strip()
                self._read = now
            except (OSError, UnicodeDecodeError) as error:
                if not self._token:
                    words = error.strerror if isinstance(error, OSError) else "is not text"
                    raise Unreachable(f"the token file {self._path} cannot be read: {words}; write the token there") from None
        return self._token


def _words(error: BaseException) -> str:
    """The first in the chain of causes that says anything: httpx2's own often say nothing."""
    seen: BaseException | None = error
    while seen is not None and not str(seen):
        seen = seen.__cause__ or seen.__context__
    return str(seen) if seen is not None else type(error).__name__


def _lost_leader(headers: Any) -> bool:
    """Whether a stale answer is too old to be believed. 10 s: a server that can hear a leader hears it ten times a second, an election
    takes two seconds; a server cut off for longer does not learn what has gone."""
    last = str(headers.get("X-Consul-LastContact") or "0")
    return headers.get("X-Consul-KnownLeader") == "false" or (last.isdigit() and int(last) > 10_000)


def _refusal(address: str, what: str, status: int, body: bytes) -> str:
    remedy = {
        401: "turn ACLs on in Consul, or take the token out",
        403: "give the token the rights for it (service:read, node:read, key:read; to publish also the writes)",
        429: "raise Consul's limits (http_max_conns_per_client), or follow fewer services",
    }.get(status, "look into Consul's own log" if status >= 500 else "this is a bug, please report it")
    return f"{address}: {what}: Consul answered {status}: {' '.join(body[:800].decode('utf-8', 'replace').split())[:200]}; {remedy}"
