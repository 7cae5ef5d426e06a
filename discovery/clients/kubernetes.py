"""The Kubernetes API, as far as a gateway needs it: list in pages, watch, read one, patch a status.

Theory of operation. Requests go over HTTP/1.1 by httpx2 on trio, each made with the login of that moment: when a certificate was rotated,
new requests take new connections, while watches under way end on the old ones by themselves within minutes. A 401 asks for a
fresh login once and tries again.

A watch is a callback per event, called in the very step that read it from the socket: what the registry pushes costs no task switch
here. The server is asked for bookmarks and to end the watch after some minutes. A watch that says nothing for longer than bookmarks
take is ended from this side, as from the server's: the connection may be one that a firewall forgot.
"""

from __future__ import annotations

import random
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import httpx2
import msgspec
import trio

from discovery.clients.connections import Connections
from discovery.clients.kubeconfig import Credentials, Login

T = TypeVar("T")

_CONNECT = 5.0  # seconds for TCP and TLS each; a node in another region needs 0.5
_ANSWER = 60.0  # seconds for the next bytes of an answer: the API server's own limit for a request (--request-timeout)
_SILENCE = 120.0  # seconds without an event or bookmark, which comes every minute or so
_WATCH = (290, 590)  # seconds a watch lasts, drawn as client-go does, so that a thousand do not come back at once
PAGE = 200  # objects: with 100 endpoints a slice some 5 MB, decoded in about 15 ms
_MOST_BYTES = 64 << 20  # of one answer or event: far above any page, and above etcd's 1.5 MB an object
_CONNECTIONS = httpx2.Limits(max_connections=256, max_keepalive_connections=8, keepalive_expiry=30.0)
# A peer that vanished is found within 15 + 3 * 5 seconds, below the silence that is waited for.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class KubernetesError(Exception):
    """The API server said no, or something that is no answer. status: HTTP's. reason: Kubernetes' word for it, such as Expired."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Status(msgspec.Struct):
    """Kubernetes' own form of an error."""

    message: str = ""
    reason: str = ""
    code: int = 0


class Event(msgspec.Struct):
    """type: ADDED, MODIFIED, DELETED, BOOKMARK; ERROR is raised instead."""

    type: str
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    next: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    """A part of a list; the items are still to be decoded."""

    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class ApiResource(msgspec.Struct, rename="camel", frozen=True):
    """One line of a group's table of contents; a status that can be written is a line of its own, `virtualservices/status`."""

    name: str
    kind: str = ""
    namespaced: bool = False


class _ResourceList(msgspec.Struct):
    resources: list[ApiResource] | None = None


class _GroupVersion(msgspec.Struct):
    version: str


class _Group(msgspec.Struct, rename="camel"):
    versions: list[_GroupVersion] | None = None
    preferred_version: _GroupVersion | None = None


class Kubernetes:
    """One API server, by as many tasks as like. Use it as a context manager; leaving it closes every connection."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._connections = Connections()
        self._server = ""

    async def __aenter__(self) -> Kubernetes:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.aclose()

    async def namespace(self) -> str:
        """That of our login: the Pod's, or the context's; "" when neither says. Raises CredentialsError."""
        return (await self._credentials.login()).namespace

    async def versions(self, group: str) -> tuple[str, ...]:
        """A group's versions, the preferred one first; () if the server has no such group."""
        try:
            path = f"/apis/{group}"
            found = _decoded(path, await self._read("GET", path), _Group)
        except KubernetesError as error:
            if error.status == 404:
                return ()
            raise
        preferred = [found.preferred_version.version] if found.preferred_version else []
        return tuple(dict.fromkeys((*preferred, *(each.version for each in found.versions or ()))))

    async def resources(self, path: str) -> tuple[ApiResource, ...]:
        """The table of contents of `/apis/GROUP/VERSION`."""
        return tuple(_decoded(path, await self._read("GET", path), _ResourceList).resources or ())

    async def page(self, path: str, parameters: Mapping[str, str], *, limit: int = PAGE, after: str = "") -> Page:
        """One part of a list. limit 0: all of it. Raises KubernetesError, 410 when `after` is outdated."""
        asked = {**parameters, **({"limit": str(limit)} if limit else {}), **({"continue": after} if after else {})}
        return _decoded(path, await self._read("GET", path, asked), Page)

    async def watch(
        self, path: str, parameters: Mapping[str, str], version: str, take: Callable[[Event], None], *, begun: Callable[[], None]
    ) -> None:
        """Call `take` with each event after `version`, in their order; `begun` once the server has agreed. Returns when the server ended
        the watch, or it said nothing for too long: go on from the last version seen. Raises KubernetesError (410: the version is too
        old, list again) and httpx2.TransportError. Cancellation ends the watch."""
        asked = {
            **parameters,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(random.randint(*_WATCH)),
        }
        async with self._send("GET", path, asked, silence=_SILENCE) as response:
            begun()
            lines = _Lines()

            def taken(chunk: bytes) -> None:
                for line in lines.add(chunk):
                    take(_event(line))

            with suppress(httpx2.ReadTimeout):
                await _feed(response, taken)

    async def patch_status(self, path: str, body: Mapping[str, Any]) -> None:
        """JSON merge patch of `path`/status. Raises KubernetesError: 409 when somebody was faster, 404 when there is no such thing."""
        await self._read("PATCH", f"{path}/status", body=msgspec.json.encode(body))

    async def _read(self, method: str, path: str, parameters: Mapping[str, str] | None = None, *, body: bytes = b"") -> bytes:
        async with self._send(method, path, parameters or {}, body=body, silence=_ANSWER) as response:
            return await _whole(response)

    @asynccontextmanager
    async def _send(
        self, method: str, path: str, parameters: Mapping[str, str], *, silence: float, body: bytes = b""
    ) -> AsyncIterator[httpx2.Response]:
        """A good answer's head; a bad one is a KubernetesError. A login that was refused is renewed once."""
        for last in (False, True):
            login = await self._credentials.login()
            self._server = login.server
            async with self._connections.of((login.tls, login.proxy), partial(_client, login)) as client:
                request = self._request(client, login, method, path, parameters, silence=silence, body=body)
                response = await client.send(request, stream=True)
                try:
                    if response.status_code == 401 and not last:
                        self._credentials.refused(login)
                        continue
                    if response.status_code >= 300:
                        raise await _refusal(response, method, path)
                    yield response
                    return
                finally:
                    await response.aclose()

    def _request(
        self,
        client: httpx2.AsyncClient,
        login: Login,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        silence: float,
        body: bytes,
    ) -> httpx2.Request:
        headers = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": "fedgate"}
        if login.token:
            headers["authorization"] = f"Bearer {login.token}"
        if body:
            headers["content-type"] = "application/merge-patch+json"
        name = login.tls.material.server_name
        return client.build_request(
            method,
            login.server + path,
            params=dict(parameters),
            headers=headers,
            content=body or None,
            timeout=httpx2.Timeout(_CONNECT, read=silence, write=_ANSWER, pool=_ANSWER),
            extensions={"sni_hostname": name} if name else None,
        )

    def __repr__(self) -> str:
        return f"<Kubernetes {self._server or 'not connected'}>"


def _client(login: Login) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(
        verify=login.tls.context, proxy=login.proxy or None, limits=_CONNECTIONS, socket_options=_KEEPALIVE, trust_env=False
    )
    # trust_env off: a .netrc or proxy variable of the machine must not change where the token goes
    return httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)


class _Lines:
    """Cuts a stream into lines. A line's pieces are joined once, however many there are."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> list[bytes]:
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._pieces, whole[0]))
            self._pieces, self._size = [], 0
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
        if self._size > _MOST_BYTES:
            raise KubernetesError(0, "TooLarge", f"an event of a watch is larger than {_MOST_BYTES >> 20} MiB")
        return [line for line in whole if line]


def _event(line: bytes) -> Event:
    try:
        event = msgspec.json.decode(line, type=Event)
        status = msgspec.json.decode(event.object, type=Status) if event.type == "ERROR" else None
    except msgspec.MsgspecError:
        raise KubernetesError(
            0, "NoEvent", "the server sent something in a watch that is no event; is it a Kubernetes API?"
        ) from None
    if status is not None:
        raise KubernetesError(status.code, status.reason, f"the watch ended: {status.message or status.reason}")
    return event


async def _refusal(response: httpx2.Response, method: str, path: str) -> KubernetesError:
    """What the server says of it, shortened: its words hold names, never credentials."""
    try:
        status = msgspec.json.decode(await _whole(response), type=Status)
    except (msgspec.MsgspecError, KubernetesError):
        status = Status()
    said = status.message[:300] or response.reason_phrase
    return KubernetesError(response.status_code, status.reason, f"{method} {path}: {response.status_code} {said}")


async def _whole(response: httpx2.Response) -> bytes:
    content = bytearray()

    def taken(chunk: bytes) -> None:
        content.extend(chunk)
        if len(content) > _MOST_BYTES:
            text = f"{response.url.path} answered with more than {_MOST_BYTES >> 20} MiB; narrow `namespaces`"
            raise KubernetesError(0, "TooLarge", text)

    await _feed(response, taken)
    return bytes(content)


async def _feed(response: httpx2.Response, take: Callable[[bytes], None]) -> None:
    """Give every piece of the body to `take`, unpacked. What it raises is raised when the stream has ended: out of the midst of the loop
    it would leave the stream's nested generators to the garbage collector, which cannot close them."""
    failure: Exception | None = None
    unpack = _unpacker(response)
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            if failure is None:
                try:
                    take(unpack(chunk))
                except zlib.error:
                    failure = _strange(response.url.path, "its body is no gzip")
                    scope.cancel()
                except Exception as error:
                    failure = error
                    scope.cancel()
    if failure is not None:
        raise failure


def _unpacker(response: httpx2.Response) -> Callable[[bytes], bytes]:
    """httpx2's own raises out of the midst of the stream, see `_feed`."""
    kind = response.headers.get("content-encoding", "identity")
    if kind == "gzip":
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress
    if kind != "identity":
        raise _strange(response.url.path, f"its body is packed with {kind[:40]}")
    return lambda chunk: chunk


def _decoded(path: str, body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:  # says the path and the types, never the value
        raise _strange(path, str(error)) from None


def _strange(path: str, words: str) -> KubernetesError:
    return KubernetesError(0, "NoAnswer", f"{path}: the answer is none of a Kubernetes API ({words}); check the server's address")
