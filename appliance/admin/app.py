"""The admin API: what a gateway knows, as JSON, and its metrics.

Two applications over one view. `reading` is bound to `listen.admin` and only reads; `writing` also changes things, and is bound to
the unix socket in the state directory, whose mode decides who may. A list is `{"items": […]}`, so that fields can be added beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from appliance.admin.guard import Guard
from appliance.admin.rows import (
    BackendRow,
    CertificateRow,
    DocumentRow,
    EndpointRow,
    ListenerRow,
    PeerRow,
    PublisherRow,
    RouteRow,
    Row,
    ServiceRow,
    SnapshotRow,
    SourceRow,
    WinnerRow,
)
from appliance.telemetry import logs
from federation.publishing import StillPublished

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# A body of a write is a word or two.
_BODY_LIMIT = 64 * 1024


class View(Protocol):
    """What the API shows: one gateway, at this moment."""

    async def refresh(self) -> None:
        """Take a fresh reading of the workers' counters."""
        ...

    def ready(self) -> str:
        """ "" when traffic is served, else why not."""
        ...

    def services(self) -> Sequence[ServiceRow]: ...
    def service(self, hostname: str) -> ServiceRow | None: ...
    def winners(self, hostname: str) -> Sequence[WinnerRow] | None:
        """None when there is no such service."""
        ...

    def backends(self) -> Sequence[BackendRow]: ...
    def routes(self) -> Sequence[RouteRow]: ...
    def listeners(self) -> Sequence[ListenerRow]: ...
    def endpoints(self, backend: str) -> Sequence[EndpointRow]: ...
    def peers(self) -> Sequence[PeerRow]: ...
    def certificates(self) -> Sequence[CertificateRow]: ...
    def sources(self) -> Sequence[SourceRow]: ...
    def publishers(self) -> Sequence[PublisherRow]: ...
    def documents(self) -> Sequence[DocumentRow]: ...
    def snapshot(self) -> SnapshotRow: ...
    def dump(self) -> bytes:
        """The Snapshot's canonical JSON."""
        ...

    def metrics(self) -> bytes: ...


class Hands(Protocol):
    """What the API changes."""

    def reload(self) -> None: ...
    async def leave(self) -> None:
        """Take back what was published, for good. Raises StillPublished."""
        ...

    def set_level(self, level: str) -> None:
        """Raises ValueError."""
        ...


def reading(view: View) -> ASGIApp:
    """What is bound to the admin port."""
    return Guard(Starlette(routes=_reads(view), exception_handlers={404: _not_found}))


def writing(view: View, hands: Hands, more: Sequence[Route] = ()) -> ASGIApp:
    """What is bound to the unix socket. more: of what else can be changed there."""
    return Starlette(routes=[*_reads(view), *_writes(hands), *more], exception_handlers={404: _not_found})


def _reads(view: View) -> list[Route]:
    lists: dict[str, Callable[[Request], Sequence[Row]]] = {
        "backends": lambda request: view.backends(),
        "routes": lambda request: view.routes(),
        "listeners": lambda request: view.listeners(),
        "endpoints": lambda request: view.endpoints(request.query_params.get("backend", "")),
        "peers": lambda request: view.peers(),
        "certificates": lambda request: view.certificates(),
        "sources": lambda request: view.sources(),
        "publishers": lambda request: view.publishers(),
        "services": lambda request: view.services(),
        "config": lambda request: view.documents(),
    }
    return [
        Route("/healthz/ready", _ready(view)),
        Route("/metrics", _metrics(view)),
        *(Route(f"/api/v1/{name}", _list(view, rows)) for name, rows in lists.items()),
        Route("/api/v1/services/{hostname:path}", _winners(view)),
        Route("/api/v1/snapshot", _snapshot(view)),
    ]


Endpoint = Callable[[Request], Awaitable[Response]]


def _list(view: View, rows: Callable[[Request], Sequence[Row]]) -> Endpoint:
    async def answer(request: Request) -> Response:
        await view.refresh()
        if request.url.path.endswith(
            "/services"
        ):  # of 10,000 services rows take a third of a second, and links do not wait so long
            return await trio.to_thread.run_sync(lambda: json({"items": rows(request)}))
        return json({"items": rows(request)})

    return answer


def _winners(view: View) -> Endpoint:
    async def answer(request: Request) -> Response:
        hostname = request.path_params["hostname"].lower()
        winners = view.winners(hostname)
        if winners is None:
            return json({"error": f"there is no service {hostname!r}; /api/v1/services lists them"}, status=404)
        return json({"service": view.service(hostname), "why": winners})

    return answer


def _snapshot(view: View) -> Endpoint:
    async def answer(request: Request) -> Response:
        if request.query_params.get("full"):
            return Response(await trio.to_thread.run_sync(view.dump), media_type="application/json")
        return json(view.snapshot())

    return answer


def _ready(view: View) -> Endpoint:
    async def answer(request: Request) -> Response:
        fault = view.ready()
        return Response(f"{fault or 'ready'}\n", status_code=503 if fault else 200, media_type="text/plain")

    return answer


def _metrics(view: View) -> Endpoint:
    async def answer(request: Request) -> Response:
        await view.refresh()
        # Text of many series takes longer than links may wait for this process.
        return Response(await trio.to_thread.run_sync(view.metrics), headers={"content-type": _METRICS_TYPE})

    return answer


def _writes(hands: Hands) -> list[Route]:
    async def reload(request: Request) -> Response:
        hands.reload()
        return json({"reload": "started"}, status=202)

    async def leave(request: Request) -> Response:
        try:
            await hands.leave()
        except StillPublished as exc:
            return json({"error": f"not taken back: {exc}"}, status=502)
        return json({"published": "taken back"})

    async def level(request: Request) -> Response:
        body = await _body(request)
        try:
            hands.set_level(msgspec.json.decode(body, type=dict[str, str]).get("level", ""))
        except (ValueError, msgspec.DecodeError) as exc:
            return json({"error": str(exc)}, status=400)
        return json({"level": "set"})

    async def levels(request: Request) -> Response:
        return json({"level": logs.level(), "levels": logs.LEVELS})

    return [
        Route("/api/v1/reload", reload, methods=["POST"]),
        Route("/api/v1/leave", leave, methods=["POST"]),
        Route("/api/v1/log", level, methods=["PUT"]),
        Route("/api/v1/log", levels, methods=["GET"]),
    ]


async def _body(request: Request) -> bytes:
    body = b""
    async with contextlib.aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > _BODY_LIMIT:
                return b""
    return body


async def _not_found(request: Request, exc: Exception) -> Response:
    return json({"error": f"there is no {request.url.path}"}, status=404)


def json(value: object, *, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
