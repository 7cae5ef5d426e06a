"""Consul's API as this project uses it: catalog, health, keys, transactions, read by blocking queries.

Theory of operation. A read gives an Answer with an index; asked again with that index, Consul holds the request until something changed or
WAIT is over (it adds up to a sixteenth, so that a thousand clients do not come back at once). Three rules keep a wrong answer from being
believed:
- The first read (index 0) is *consistent*: a server that has just started answers others from what it has replayed so far, which may be
  nothing at all. The next ones may be stale, that is answered by any server, unless it has lost its leader.
- An index that goes backwards (a restore, a server that lags) ends the sequence: the answer is thrown away and the first read begins anew.
- An error is never an answer: it raises, and whoever asked keeps what he knew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import msgspec
from consul.base import Consul, Response  # type: ignore[import-untyped]
from consul.exceptions import ConsulException  # type: ignore[import-untyped]

from discovery.clients.consul_checks import Check, decode_checks
from discovery.clients.consul_session import ANSWER_WITHIN, ConsulConnection, Http, Refused, Session, TooStale, Unreachable

__all__ = [
    "MOST_OPERATIONS",
    "Answer",
    "ConsulClient",
    "ConsulConnection",
    "Failed",
    "Refused",
    "Transacted",
    "Unreachable",
]

WAIT = 60.0  # seconds a query blocks: consul-template's; a connection that died unnoticed is found out no later
MOST_CONNECTIONS = 128  # Consul takes 200 from one address (http_max_conns_per_client), and this gateway is not alone on its host
MOST_OPERATIONS = 64  # of a transaction: Consul's least limit (128 from 1.13 on)

Failed = (Unreachable, Refused)
"""What every call may raise."""

T = TypeVar("T")


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """index: to ask with the next time, 1 or more. restarted: the index had gone backwards, this is the first read of a new sequence."""

    index: int
    data: T
    restarted: bool = False


class Transacted(msgspec.Struct, frozen=True):
    """results: what each operation left behind. errors: what kept it from being done, `OpIndex` and `What`."""

    results: tuple[Mapping[str, Any], ...] = ()
    errors: tuple[Mapping[str, Any], ...] = ()


def _body(response: Response) -> tuple[str, bytes]:
    """The answer as it came; b"" for one that lists nothing."""
    return str(response.headers.get("X-Consul-Index", "")), b"" if response.body.strip() in (b"[]", b"null") else response.body


class _Api(Consul):  # type: ignore[misc]  # py-consul has no types
    """py-consul over one session, in one consistency mode."""

    def __init__(self, session: Session, mode: str, within: Callable[[], float]) -> None:
        self._made = Http(session, mode, within)
        super().__init__(host="consul", port=0, scheme="http")
        self.token = None  # the session sends it, from its file, never from the environment nor in a URL

    async def all_checks(self, *, index: int = 0, wait: str = "") -> tuple[str, bytes]:
        """As py-consul's health.state("any"), still to be decoded."""
        params = [("index", index), ("wait", wait)] if index else []
        return cast(tuple[str, bytes], await self._made.get(_body, "/v1/health/state/any", params))

    def http_connect(self, *_: object, **__: object) -> Http:
        return self._made


class ConsulClient:
    """Use it as a context. stale: whether reads after the first may be answered by any server. wait: seconds a query blocks.
    Everything raises Unreachable or Refused; nothing retries by itself but what the theory of operation says."""

    def __init__(
        self, to: ConsulConnection, *, stale: bool = True, wait: float = WAIT, connections: int = MOST_CONNECTIONS
    ) -> None:
        self.to = to
        self._session = Session(to, connections=connections)
        self._wait = wait
        self._apis = {mode: _Api(self._session, mode, self._within) for mode in ("", "stale", "consistent")}
        self._following = "stale" if stale else ""

    async def __aenter__(self) -> ConsulClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.__aexit__(kind, error, trace)

    def _within(self) -> float:
        return self._wait * 17 / 16 + ANSWER_WITHIN

    # ------------------------------------------------------------------------------------------------------- reading

    async def names(self, index: int = 0) -> Answer[Mapping[str, Sequence[str]]]:
        """Every service's name and the union of its instances' tags. Changes with every instance that is registered or goes."""
        answer = await self._read(lambda api, **how: api.catalog.services(**how), index)
        return self._typed(answer, dict)

    async def instances(self, name: str, *, peer: str = "", index: int = 0) -> Answer[Sequence[Mapping[str, Any]]]:
        """Every instance of a service with its node and checks; none if there is no such service. peer: the one that exports it to us."""
        answer = await self._read(lambda api, **how: api.health.service(name, peer=peer or None, **how), index)
        return self._typed(answer, list)

    async def checks(self, index: int = 0) -> Answer[Sequence[Check]]:
        """Every check of the datacenter: megabytes where there are tens of thousands, of which as little as possible is made into objects,
        and that in slices."""
        answer = await self._read(lambda api, **how: api.all_checks(**how), index)
        try:
            return msgspec.structs.replace(answer, data=await decode_checks(answer.data) if answer.data else [])
        except msgspec.DecodeError as error:
            raise self._strange(f"not a list of checks: {error}") from None

    async def keys(self, prefix: str, index: int = 0) -> Answer[Sequence[Mapping[str, Any]]]:
        """Every key under the prefix with its value as bytes."""
        answer = await self._read(lambda api, **how: api.kv.get(prefix, recurse=True, **how), index)
        return self._typed(answer, list)

    async def key(self, key: str, index: int = 0) -> Answer[Mapping[str, Any]]:
        """One key, its value as bytes; an empty mapping if it is not there."""
        answer = await self._read(lambda api, **how: api.kv.get(key, **how), index)
        return self._typed(answer, dict)

    async def imported(self, peer: str) -> Mapping[str, Sequence[str]]:
        """Names and tags of the services that a cluster-peering peer exports to us and that have instances. Consul offers no
        blocking query that wakes for it. (`/v1/peering/NAME` lists them as well, but from its stream, which knows none after a restart.)"""
        data = await self._get("/v1/internal/ui/services", [("peer", peer)])
        found = data if isinstance(data, list) else []
        return {
            str(each["Name"]): each.get("Tags") or []
            for each in found
            if isinstance(each, Mapping) and each.get("PeerName") == peer
        }

    async def own_datacenter(self) -> str:
        """The agent's; "" if the token may not read the agent."""
        try:
            found = await self._get("/v1/agent/self", [])
        except Refused as refused:
            if refused.status == 403:
                return ""
            raise
        return str(self._mapping(self._mapping(found).get("Config")).get("Datacenter", ""))

    async def node(self, node: str) -> tuple[Mapping[str, Any] | None, Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
        """(the node, its services, its checks) as the leader sees them; (None, …) if there is no such node."""
        api = self._apis["consistent"]
        (_, found), (_, checks) = await self._call(api.catalog.node(node)), await self._call(api.health.node(node))
        found = self._mapping(found)
        if not found.get("Node"):
            return None, (), ()
        if not isinstance(checks, list | None):
            raise self._strange(f"checks of a node that are a {type(checks).__name__}")
        return self._mapping(found["Node"]), tuple(self._mapping(found.get("Services")).values()), tuple(checks or ())

    # ------------------------------------------------------------------------------------------------------- writing

    async def put(self, key: str, value: bytes, *, index: int) -> bool:
        """Write a key if its index is still this one, 0: if it is not there. False: it is not."""
        return bool(await self._call(self._apis[""].kv.put(key, value, cas=index)))

    async def transact(self, operations: Sequence[Mapping[str, Any]]) -> Transacted:
        """All of it (MOST_OPERATIONS at most) or, if there are errors, nothing."""
        response = await self._session.request("PUT", "/v1/txn", [], body=msgspec.json.encode(operations))
        found = self._mapping(self._decoded(response, "PUT /v1/txn"))
        return Transacted(tuple(found.get("Results") or ()), tuple(found.get("Errors") or ()))

    # ----------------------------------------------------------------------------------------------------- underneath

    async def _read(self, call: Callable[..., Awaitable[Any]], index: int) -> Answer[Any]:
        if index:
            try:
                found, data = await self._call(call(self._apis[self._following], index=index, wait=f"{self._wait:g}s"))
            except TooStale:
                found, data = await self._call(call(self._apis[""], index=index, wait=f"{self._wait:g}s"))
            if self._index(found) >= index:
                return Answer(self._index(found), data)
        found, data = await self._call(call(self._apis["consistent"]))
        return Answer(max(self._index(found), 1), data, restarted=bool(index))  # index 0 would not block

    def _index(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20):  # 64 bits
            raise self._strange(f"its index is {text[:40]!r}")
        return int(text)

    def _typed(self, answer: Answer[Any], kind: type) -> Answer[Any]:
        """The answer, with nothing where Consul says null. Raises Refused if it is of another kind: whatever answers is no Consul."""
        if isinstance(answer.data, kind):
            return answer
        if answer.data is None:
            return msgspec.structs.replace(answer, data=kind())
        raise self._strange(f"a {type(answer.data).__name__}")

    def _mapping(self, found: Any) -> Mapping[str, Any]:
        """Nothing where Consul says null. Raises Refused."""
        if not isinstance(found, dict | None):
            raise self._strange(f"a {type(found).__name__} where an object should be")
        return found or {}

    async def _get(self, path: str, params: list[tuple[str, str]]) -> Any:
        response = await self._session.request("GET", path, params)
        return None if response.code == 404 else self._decoded(response, f"GET {path}")

    def _decoded(self, response: Response, what: str) -> Any:
        try:
            return msgspec.json.decode(response.body)
        except msgspec.DecodeError as error:
            raise Refused(response.code, f"{self.to.address}: {what}: the answer is no JSON: {error}") from None

    async def _call(self, awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except (ConsulException, TypeError, LookupError, AttributeError, ValueError) as error:
            # py-consul's, and what it meets in an answer that is none of Consul's: it looks into it without looking at it.
            raise self._strange(str(error)[:200]) from None

    def _strange(self, words: str) -> Refused:
        return Refused(0, f"{self.to.address}: not an answer of Consul: {words}; check the address")

    def __repr__(self) -> str:
        return f"<ConsulClient {self.to.address} dc={self.to.datacenter or '-'}>"
