"""Consul's HTTP API by one agent: py-consul over our own HTTP. What is asked is `discovery.clients.consul`'s matter.

Theory of operation. py-consul knows Consul's paths, parameters and answers and leaves the HTTP to whoever plugs a client in; `Http` is
that client, and `Session` is what several of them share: one `Agent` with its connections, token and certificates.

What fails is one of two: Unreachable, nobody answered in time; Refused, somebody answered with an error. Neither says the token.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from consul.base import HTTPClient, Response  # type: ignore[import-untyped]

from discovery.clients.agent import Agent, NoAnswer

ANSWER_WITHIN = 10.0  # a server holds a request up to 7 s while it waits for a leader (Consul's rpc_hold_timeout), then says so

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
        self._agent = Agent("Consul", to, connections=connections, narrow="narrow what is read")

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._agent.aclose()

    async def request(
        self, method: str, path: str, params: Sequence[tuple[str, Any]], *, body: bytes = b"", within: float = ANSWER_WITHIN
    ) -> Response:
        """One request and its whole answer, its status below 400, or 404 (there is none), or 409 (a transaction's no). within: seconds
        that the answer may take. Raises Unreachable, Refused. Cancelled, it closes the connection; a write may have happened or not."""
        what, asked = f"{method} {path}", [*params, *self.to.scope]
        try:
            answer = await self._agent.request(method, urllib.parse.quote(path, safe="/:"), asked, body=body, within=within)
        except NoAnswer as error:
            raise Unreachable(f"{self.to.address}: {what}: {error}") from None
        if answer.status >= 300 and answer.status not in (404, 409):
            said = self._agent.redacted(answer.body)[:800].decode("utf-8", "replace")
            raise Refused(answer.status, _refusal(self.to.address, what, answer.status, said))
        return Response(answer.status, answer.headers, answer.body)

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
            raise Refused(403, _refusal(self._session.to.address, f"GET {path}", 403, "all of it is hidden from this token"))
        return found

    async def _send(self, method: str, callback: Callback, path: str, params: Params, data: str | bytes) -> Any:
        body = data.encode() if isinstance(data, str) else data
        return callback(await self._session.request(method, path, params or [], body=body))


def _lost_leader(headers: Any) -> bool:
    """Whether a stale answer is too old to be believed. 10 s: a server that can hear a leader hears it ten times a second, an election
    takes two seconds; a server cut off for longer does not learn what has gone."""
    last = str(headers.get("X-Consul-LastContact") or "0")
    return headers.get("X-Consul-KnownLeader") == "false" or (last.isdigit() and int(last) > 10_000)


def _refusal(address: str, what: str, status: int, said: str) -> str:
    remedy = (
        "check the address: Consul sends nobody elsewhere"
        if status < 400
        else {
            401: "turn ACLs on in Consul, or take the token out",
            403: "give the token the rights for it (service:read, node:read, key:read; to publish also the writes)",
            429: "raise Consul's limits (http_max_conns_per_client), or follow fewer services",
        }.get(status, "look into Consul's own log" if status >= 500 else "this is a bug, please report it")
    )
    return f"{address}: {what}: Consul answered {status}: {' '.join(said.split())[:200]}; {remedy}"
