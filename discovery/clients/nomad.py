"""A client of Nomad's HTTP API: GET with blocking queries, over httpx2 on trio.

Theory of operation. A blocking query names the index that is known and is answered when a higher one exists, or when `wait` is over. What
is read the first time, or after an index went backwards (the servers were restored), is asked consistently: a server that was just
restarted answers stale reads with what of its log it has replayed so far, which may be nothing. Blocking queries that follow are stale
reads, which any server answers without its leader.

Token and certificates are files that are read anew when they change: see `discovery.clients.agent`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Generic, TypeVar
from urllib.parse import quote

import msgspec

from discovery.clients.agent import Agent, NoAnswer

T = TypeVar("T")

DEFAULT_ADDRESS = "http://127.0.0.1:4646"
# Nomad's agents refuse a client's 101st connection (limits.http_max_conns_per_client), and the address is shared with whoever else runs here.
MOST_CONNECTIONS = 88
# A dead agent is noticed after this and a bit, one that is alive costs one request a minute and query; Nomad's own limit is 10 minutes.
WAIT = 60.0
# Beyond `wait` a server adds up to a sixteenth so that not all queries end at once; the rest is for a loaded machine.
_WAIT_GRACE = WAIT / 16 + 10.0
_ANSWER = 10.0  # Nomad forwards to servers and to other clients, each with its own timeouts of seconds


class NomadOptions(msgspec.Struct, frozen=True):
    """Where and as whom. address: http://, https:// or unix:///path of an agent. region "": the agent's own. Paths "": none."""

    address: str = DEFAULT_ADDRESS
    region: str = ""
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class NomadUnreachable(Exception):
    """Nobody answered, or what answered is no Nomad."""


class NomadRefused(Exception):
    """Nomad answered with an error. status: of HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """index: to be named in the next blocking query, 1 at least (0 would not block)."""

    value: T
    index: int


class NomadClient:
    """`async with` it. Requests may be made from several tasks at once; leaving ends those under way."""

    def __init__(self, options: NomadOptions) -> None:
        """Raises nothing: files are read by the first request."""
        self.options = options
        self._agent = Agent("Nomad", options, connections=MOST_CONNECTIONS, narrow="read fewer namespaces")

    async def __aenter__(self) -> NomadClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._agent.aclose()

    async def get(
        self,
        path: str,
        decoder: msgspec.json.Decoder[T],
        *,
        namespace: str = "",
        index: int = 0,
        stale: bool = False,
        wait: float = WAIT,
    ) -> Answer[T]:
        """The decoded answer of GET `path` (whose parts are quoted already, see `part`). index: what is known; above 0 the query blocks up to
        `wait` seconds. Raises NomadRefused, NomadUnreachable; cancelled, it leaves nothing open."""
        params: list[tuple[str, str]] = []
        if namespace:
            params.append(("namespace", namespace))
        if self.options.region:
            params.append(("region", self.options.region))
        if stale:
            params.append(("stale", ""))
        within = _ANSWER
        if index > 0:
            params += [("index", str(index)), ("wait", f"{wait:.0f}s")]
            within = wait + _WAIT_GRACE
        try:
            answer = await self._agent.request("GET", path, params, within=within)
        except NoAnswer as error:
            raise NomadUnreachable(f"{self._where(path)}: {error}") from None
        if answer.status != 200:
            raise NomadRefused(self._refusal(path, answer.status, answer.body), answer.status)
        try:
            value = decoder.decode(answer.body)
        except msgspec.DecodeError as error:
            raise NomadUnreachable(f"{self._where(path)} gave an answer that is none of Nomad's: {error}") from None
        return Answer(value, max(1, _number(answer.headers.get("x-nomad-index", ""))))

    def _refusal(self, path: str, status: int, body: bytes) -> str:
        said = " ".join(self._agent.redacted(body)[:200].decode("utf-8", "replace").split())
        advice = ""
        if status == 403:
            source = self.options.token_file or "no token (tokenFile is not written)"
            advice = f"; check the token of {source}: it needs `read-job` in the namespaces, and `node:read` for localities"
        return f"{self._where(path)} answered {status}: {said}{advice}"

    def _where(self, path: str) -> str:
        return f"Nomad at {self.options.address}{path}"

    def __repr__(self) -> str:
        return f"<NomadClient {self.options.address}>"


def part(text: str) -> str:
    """One part of a path."""
    return quote(text, safe="")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
