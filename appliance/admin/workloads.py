"""Registration of workloads over HTTP: who stands behind a WorkloadGroup says so, again and again.

    PUT    /api/v1/workloads/NAMESPACE/GROUP/ADDRESS   {"ports": {"http": 8080}, "labels": {…}, "lease": 30, …}
    DELETE /api/v1/workloads/NAMESPACE/GROUP/ADDRESS
    GET    /api/v1/workloads

Two doors. `routes` are for the admin API's unix socket, whose file mode says who may. `registration` is an application of its own, on the
socket REGISTRATION beside it, for workloads on other machines: a Gateway, a VirtualService and a ServiceEntry with that socket's path lead
there, so that TLS, limits and logs are those of all traffic. Each request there carries `Authorization: Bearer TOKEN`, a token whose SHA-256
the WorkloadGroup names. ADDRESS `self` is the client that the gateway saw. A group that does not exist and a token that is wrong are answered
alike. What such a workload may say of itself: `federation.workloads.elsewhere`.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from appliance.anyip import AnyIp
from federation.resources.document import Document
from federation.resources.workload_group import WorkloadGroup
from federation.workloads import elsewhere
from federation.workloads.desk import Claim, GroupKey, Refused
from federation.workloads.office import WorkloadRow

REGISTRATION = "registration.sock"  # in the state directory
PATH = "/api/v1/workloads"
_ONE = PATH + "/{namespace}/{group}/{address}"
_BODY_LIMIT = 64 * 1024  # labels and ports of one workload are some hundred bytes
_CLAIM = msgspec.json.Decoder(Claim)


class Registry(Protocol):
    """Who registers them: federation.workloads.office."""

    @property
    def desk(self) -> Admission: ...

    def register(self, namespace: str, group: str, address: str, claim: Claim) -> WorkloadRow:
        """Raises Refused."""
        ...

    def deregister(self, namespace: str, group: str, address: str) -> bool: ...
    def rows(self) -> Sequence[WorkloadRow]: ...


class Admission(Protocol):
    @property
    def groups(self) -> Mapping[GroupKey, Document[WorkloadGroup]]: ...
    def admits(self, namespace: str, group: str, token: str) -> bool: ...


def routes(registry: Registry) -> list[Route]:
    """For the unix socket: whoever can open it may do everything."""
    return [*_writes(registry), Route(PATH, _rows(registry), methods=["GET"])]


def registration(registry: Registry) -> ASGIApp:
    """For workloads on other machines: with a token, and only to come, renew and leave."""
    return Starlette(
        routes=[Route(_ONE, _admitted(registry, route.endpoint), methods=route.methods) for route in _writes(registry, remote=True)]
    )


Endpoint = Callable[[Request], Awaitable[Response]]


def _admitted(registry: Registry, endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        namespace, group = request.path_params["namespace"], request.path_params["group"]
        if kind.lower() != "bearer" or not registry.desk.admits(namespace, group, token.strip()):
            return _json({"error": f"this token does not register workloads of {namespace}/{group}"}, status=403)
        return await endpoint(request)

    return answer


def _writes(registry: Registry, *, remote: bool = False) -> list[Route]:
    async def register(request: Request) -> Response:
        try:
            claim = _CLAIM.decode(await _body(request) or b"{}")
            namespace, group, address = _where(request)
            if remote and (found := registry.desk.groups.get((namespace, group))) is not None:
                elsewhere.check(found, address, claim, own=_own(address))
            row = registry.register(namespace, group, address, claim)
        except msgspec.DecodeError as error:
            return _json({"error": f"the body is no claim: {error}"}, status=400)
        except Refused as error:
            return _json({"error": str(error)}, status=error.status)
        return _json(row)

    async def deregister(request: Request) -> Response:
        if registry.deregister(*_where(request)):
            return _json({"deregistered": True})
        return _json({"error": "it is not registered (any more)"}, status=404)

    return [Route(_ONE, register, methods=["PUT"]), Route(_ONE, deregister, methods=["DELETE"])]


def _rows(registry: Registry) -> Endpoint:
    async def answer(request: Request) -> Response:
        return _json({"items": registry.rows()})

    return answer


def _where(request: Request) -> tuple[str, str, str]:
    parameters = request.path_params
    address = parameters["address"]
    if address == "self":
        # What the worker appended last; what a client may have written of itself stands before it.
        address = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return parameters["namespace"], parameters["group"], address


def _own(address: str) -> bool:
    """Whether it is an IP of this machine."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return AnyIp().has(str(getattr(found, "ipv4_mapped", None) or found))


async def _body(request: Request) -> bytes:
    """Raises msgspec.DecodeError when it is too long."""
    body = b""
    async with contextlib.aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > _BODY_LIMIT:
                raise msgspec.DecodeError(f"longer than {_BODY_LIMIT} bytes")
    return body


def _json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
