"""HTTP to an agent of Consul or of Nomad, on trio: connections, TLS, the token, limits. What is asked is its client's matter.

Theory of operation. Token and certificates are files that others replace while we run, so their stat is looked at before each request
(microseconds beside a request's milliseconds), and what changed is read anew: a new token is sent from the next request on, new
certificates are used by new connections. Whatever keeps a request from being answered is one exception, in words that never hold the token.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

import httpx2
import msgspec
import trio

from discovery.clients.connections import Connections
from discovery.signature import signature

CONNECT_WITHIN = 5.0  # seconds: an agent is near; a farther one is still a second away at worst
LEASE_WITHIN = 30.0  # for a free connection: the limits of who asks keep far below it, so that this is a fault of ours
MOST_BYTES = 64 << 20  # of an answer: 100,000 instances of one Consul service are 70 MB, a list of 10,000 services of Nomad is 1 MB
# A host that went away without a word is noticed after 25 s, not when the blocking query would have ended.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class Reached(Protocol):
    """What every agent's options say. address: http://, https:// or unix:///path. Paths "": none."""

    @property
    def address(self) -> str: ...
    @property
    def token_file(self) -> str: ...
    @property
    def ca_file(self) -> str: ...
    @property
    def cert_file(self) -> str: ...
    @property
    def key_file(self) -> str: ...


class NoAnswer(Exception):
    """A request was not made, or not answered in time and size: why, and what to do."""


class Answered(msgspec.Struct, frozen=True):
    """status, headers: HTTP's. body: the whole of it."""

    status: int
    headers: httpx2.Headers
    body: bytes


class Agent:
    """One agent, for as many tasks as like; `aclose` it after them. kind: `Consul`, `Nomad`. connections: at once, at most. narrow: what to
    do about answers that are too large."""

    def __init__(self, kind: str, to: Reached, *, connections: int, narrow: str) -> None:
        self._kind, self._to, self._narrow = kind, to, narrow
        self._token = TokenFile(to.token_file)
        self._limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30.0)
        self._connections = Connections()

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def request(
        self, method: str, path: str, params: Sequence[tuple[str, Any]], *, within: float, body: bytes = b""
    ) -> Answered:
        """One request and its whole answer, whatever its status. path: quoted. within: seconds that the answer may take. Raises NoAnswer.
        Cancelled, it closes the connection; a write may have happened or not."""
        token = self._token.read()
        headers = {f"X-{self._kind}-Token": token} if token else {}
        timeout = httpx2.Timeout(within, connect=CONNECT_WITHIN, pool=LEASE_WITHIN)
        files = tuple(signature(path) for path in (self._to.ca_file, self._to.cert_file, self._to.key_file))
        try:
            with trio.fail_after(within + CONNECT_WITHIN + LEASE_WITHIN):
                async with (
                    self._connections.of(files, self._connect) as client,
                    client.stream(method, path, params=[*params], content=body, headers=headers, timeout=timeout) as answer,
                ):
                    compressed = answer.headers.get("content-encoding", "identity") != "identity"
                    found = await _whole(answer)
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError, trio.TooSlowError) as error:
            raise NoAnswer(f"{_words(error)}; check that the {self._kind} agent runs and answers") from None
        if compressed:
            raise NoAnswer("the answer is compressed, which was not asked for; check what stands between us and the agent")
        if found is None:
            raise NoAnswer(f"the answer is larger than {MOST_BYTES >> 20} MiB; {self._narrow}")
        return Answered(answer.status_code, answer.headers, found)

    def redacted(self, body: bytes) -> bytes:
        """Without our token, which whoever answers may have sent back. Before it is cut: of half a token nothing is found."""
        return body.replace(token.encode(), b"[redacted]") if (token := self._token.last) else body

    def _connect(self) -> httpx2.AsyncClient:
        address, path = self._to.address.rstrip("/"), None
        if address.startswith("unix://"):
            address, path = "http://localhost", address.removeprefix("unix://")
        transport = httpx2.AsyncHTTPTransport(
            verify=tls_context(self._to) if address.startswith("https:") else False,
            trust_env=False,  # a proxy that is set for the web knows nothing of an agent
            limits=self._limits,
            uds=path,
            socket_options=None if path else _KEEPALIVE,
        )
        # Agents would compress each answer, which takes longer than to send it to one that is near.
        headers = {"User-Agent": "fedgate", "Accept-Encoding": "identity"}
        return httpx2.AsyncClient(transport=transport, base_url=address, trust_env=False, headers=headers)


class TokenFile:
    """The token as its file has it now; "" for a path that is "". `last`: what was read last. A file that is gone or empty for a moment (a
    secret being swapped, or written) keeps that: to one without a token, an agent shows less, and says that this is all there is."""

    def __init__(self, path: str) -> None:
        self.last = ""
        self._path = path
        self._seen: object = ""  # no signature: not even that of no file

    def read(self) -> str:
        """Raises NoAnswer if there never was one, and for one that cannot be sent."""
        if self._path and (now := signature(self._path)) != self._seen:
            try:
                with open(self._path, encoding="utf-8") as file:
                    token = file.read(4096).strip()
            except (OSError, UnicodeDecodeError) as error:
                if not self.last:
                    words = error.strerror if isinstance(error, OSError) else "is not text"
                    raise NoAnswer(f"the token file {self._path} cannot be read: {words}; write the token there") from None
                return self.last
            if not all("!" <= each <= "~" for each in token):  # an HTTP client's own words for that would show it
                raise NoAnswer(
                    f"the token file {self._path} holds a space, a line break or what is no ASCII; write the token alone"
                )
            if not token:
                if not self.last:
                    raise NoAnswer(f"the token file {self._path} is empty; write the token there, or leave tokenFile out")
                return self.last
            self.last, self._seen = token, now
        return self.last


def tls_context(to: Reached) -> ssl.SSLContext:
    """ca_file "": the system's authorities; cert_file "": no certificate is shown. Raises NoAnswer."""
    try:
        context = ssl.create_default_context(cafile=to.ca_file or None)
        if to.cert_file:
            context.load_cert_chain(to.cert_file, to.key_file or None)
    except OSError as error:  # ssl.SSLError too
        files = ", ".join(filter(None, (to.ca_file, to.cert_file, to.key_file)))
        raise NoAnswer(f"TLS cannot be used: {error}; check {files}") from None
    return context


async def _whole(response: httpx2.Response) -> bytes | None:
    """The body as it was sent; None when it has more than MOST_BYTES, and then no more of it is read. Raises what httpx2 raises."""
    parts, size = [], 0
    with trio.CancelScope() as scope:  # cancelled rather than left, so that every generator of httpx2 ends where it waits
        async for part in response.aiter_raw():
            size += len(part)
            if size > MOST_BYTES:
                scope.cancel()
            else:
                parts.append(part)
    return b"".join(parts) if size <= MOST_BYTES else None


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
