"""A client of Nomad's HTTP API: GET with blocking queries, over httpx2 on trio.

Theory of operation. A blocking query names the index that is known and is answered when a higher one exists, or when `wait` is over. What
is read the first time, or after an index went backwards (the servers were restored), is asked consistently: a server that was just
restarted answers stale reads with what of its log it has replayed so far, which may be nothing. Blocking queries that follow are stale
reads, which any server answers without its leader.

Files (token, certificates) are looked at before each request and read anew when they changed; with new certificates a new pool of
connections takes over, and requests under way end on the old one.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from discovery.clients.agent import read_whole, tls_context

T = TypeVar("T")

DEFAULT_ADDRESS = "http://127.0.0.1:4646"
# Nomad's agents refuse a client's 101st connection (limits.http_max_conns_per_client), and the address is shared with whoever else runs here.
MOST_CONNECTIONS = 88
# A dead agent is noticed after this and a bit, one that is alive costs one request a minute and query; Nomad's own limit is 10 minutes.
WAIT = 60.0
# Beyond `wait` a server adds up to a sixteenth so that not all queries end at once; the rest is for a loaded machine.
_WAIT_GRACE = WAIT / 16 + 10.0
_CONNECT = 5.0  # an agent is on this machine or in this network
_READ = 10.0  # Nomad forwards to servers and to other clients, each with its own timeouts of seconds
# A list of 10,000 services is 1 MB; a job of an allocation may have megabytes of templates.
MOST_BYTES = 64 * 1024 * 1024


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
        self._token = ""
        self._token_stamp: object = None
        self._tls_stamp: object = None
        self._http: httpx2.AsyncClient | None = None
        self._old: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> NomadClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in (self._http, self._old):
            if client is not None:
                await client.aclose()

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
        params: dict[str, str] = {}
        if namespace:
            params["namespace"] = namespace
        if self.options.region:
            params["region"] = self.options.region
        if stale:
            params["stale"] = ""
        read = _READ
        if index > 0:
            params |= {"index": str(index), "wait": f"{wait:.0f}s"}
            read = wait + _WAIT_GRACE
        body, headers = await self._fetch(path, params, read)
        try:
            value = decoder.decode(body)
        except msgspec.DecodeError as error:
            raise NomadUnreachable(f"{self._where(path)} gave an answer that is none of Nomad's: {error}") from None
        return Answer(value, max(1, _number(headers.get("x-nomad-index", ""))))

    async def _fetch(self, path: str, params: Mapping[str, str], read: float) -> tuple[bytes, httpx2.Headers]:
        try:
            client = await self._client()
            headers = {"X-Nomad-Token": self._token} if self._token else {}
            timeout = httpx2.Timeout(connect=_CONNECT, read=read, write=_CONNECT, pool=_READ)
            async with client.stream("GET", path, params=dict(params), headers=headers, timeout=timeout) as response:
                body = await self._read(path, response)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise NomadUnreachable(f"{self._where(path)}: {_words(error)}; check that a Nomad agent answers there") from None
        if response.status_code != 200:
            raise NomadRefused(self._refusal(path, response.status_code, body), response.status_code)
        return body, response.headers

    async def _read(self, path: str, response: httpx2.Response) -> bytes:
        body = await read_whole(response, MOST_BYTES)
        if body is None:
            raise NomadUnreachable(f"{self._where(path)} answers with more than {MOST_BYTES >> 20} MiB; read fewer namespaces")
        return body

    def _refusal(self, path: str, status: int, body: bytes) -> str:
        said = " ".join(body[:200].decode("utf-8", "replace").split())
        if self._token:
            said = said.replace(self._token, "[redacted]")
        advice = ""
        if status == 403:
            source = self.options.token_file or "no token (tokenFile is not written)"
            advice = f"; check the token of {source}: it needs `read-job` in the namespaces, and `node:read` for localities"
        return f"{self._where(path)} answered {status}: {said}{advice}"

    # ------------------------------------------------------------------------------------------------- files and pool

    async def _client(self) -> httpx2.AsyncClient:
        """The pool to use now. Raises OSError (ssl.SSLError too) for files that cannot be read."""
        self._read_token()
        options = self.options
        stamp = tuple(_stamp(path) for path in (options.ca_file, options.cert_file, options.key_file))
        if self._http is None or stamp != self._tls_stamp:
            fresh = self._pool()
            replaced, self._old = self._old, self._http
            self._http, self._tls_stamp = fresh, stamp
            if replaced is not None:
                await replaced.aclose()
        return self._http

    def _read_token(self) -> None:
        path = self.options.token_file
        stamp = _stamp(path)
        if stamp == self._token_stamp:
            return
        self._token = Path(path).read_text().strip() if path else ""
        self._token_stamp = stamp

    def _pool(self) -> httpx2.AsyncClient:
        options = self.options
        unix = options.address.startswith("unix://")
        verify: ssl.SSLContext | bool = False
        if options.address.startswith("https://"):
            verify = tls_context(options.ca_file, options.cert_file, options.key_file)
        transport = httpx2.AsyncHTTPTransport(
            verify=verify,
            trust_env=False,  # a proxy that is set for the web knows nothing of an agent
            uds=options.address.removeprefix("unix://") if unix else None,
            limits=httpx2.Limits(
                max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS, keepalive_expiry=30.0
            ),
        )
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost" if unix else options.address, trust_env=False)

    def _where(self, path: str) -> str:
        return f"Nomad at {self.options.address}{path}"

    def __repr__(self) -> str:
        return f"<NomadClient {self.options.address}>"


def part(text: str) -> str:
    """One part of a path."""
    return quote(text, safe="")


def _stamp(path: str) -> object:
    """Differs when the file was written or replaced. Raises OSError when it cannot be looked at."""
    if not path:
        return None
    found = Path(path).stat()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _words(error: BaseException) -> str:
    """httpx2's errors are often empty of words; those of what caused them are not."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}{f' ({cause.filename})' if cause.filename else ''}"
        if str(cause):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
