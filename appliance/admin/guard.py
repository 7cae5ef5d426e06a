"""Who may ask the admin API: browsers of other sites may not, and `/api/` answers to this machine only.

DNS rebinding: a page on evil.example may make its own name resolve to 127.0.0.1 and read what answers there; the request's Host is
then evil.example, which no gateway is called. An address cannot be rebound, so a Host that is one is good, and so is localhost.
A request that a page of another origin sends says so in Origin.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Scraped from other machines where the operator binds the admin port wider; nothing in them tells who talks to whom from where.
_FOR_ALL = ("/metrics", "/healthz/ready")


class Guard:
    """An ASGI application before another. Of a unix socket the file's mode decides, so it is not asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fault = refusal(dict(scope["headers"]), scope["path"], scope.get("client"))
        if fault:
            await JSONResponse({"error": fault}, status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refusal(headers: dict[bytes, bytes], path: str, client: tuple[str, int] | None) -> str:
    """Why a request is not answered; "" when it is."""
    host = headers.get(b"host", b"").decode("latin-1")
    if not _is_address_or_localhost(host):
        return f"Host {host!r} is refused (it could be a rebound DNS name); use the gateway's address, or localhost"
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
        return "a page of another origin may not ask this"
    if path not in _FOR_ALL and client is not None and not _is_loopback(client[0]):
        return f"{path} is read on this machine only; /metrics and /healthz/ready from anywhere"
    return ""


def _is_address_or_localhost(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(client: str) -> bool:
    try:
        return ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False
