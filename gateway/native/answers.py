"""Answers of the gateway's own: redirects, direct responses, errors. What the route, or CORS, wants of every answer holds for them
too, as in Envoy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import BadRequest, GatewayError, RequestTimeout
from gateway.native.codec.events import RequestHead
from gateway.native.codec.fields import UNSENT
from gateway.native.heads import operate
from gateway.native.replies import TEXT
from gateway.table import Direct, Redirection

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange


async def answer(x: Exchange, head: RequestHead, action: Redirection | Direct) -> bool:
    """What a route answers by itself. True if the client's connection can carry another request. Raises OSError, DeadlineExceeded."""
    if isinstance(action, Redirection):
        headers: tuple[bytes, ...] = (b"location: " + action.location(head, x.scheme, x.port),)
        body = b""
    else:
        headers, body = (), action.body
    x.detail = b"direct_response"
    return await x.reply(head, action.status, body, _headers(x, action.status, headers, body))


async def refuse(x: Exchange, head: RequestHead, error: GatewayError) -> bool:
    """Answer with an error, or reset the client's connection if an answer has begun. As `answer`."""
    x.unusual = True
    flag = error.flag.encode()
    x.flag, x.detail = flag if x.flag == b"-" else x.flag + b"," + flag, error.detail.encode()
    if x.begun:
        x.abort()
        return False
    if x.given is not None:
        x.give_up()
    if isinstance(error, BadRequest | RequestTimeout):
        head.keep_alive = False
    headers = error.headers
    if x.context.inbound is not None and error.flag in ("UH", "UF", "UO") and not x.exposed:
        headers += (UNSENT + b": 1",)
    return await x.reply(head, error.status, error.body, _headers(x, error.status, headers, error.body), error.grpc)


def _headers(x: Exchange, status: int, headers: tuple[bytes, ...], body: bytes) -> tuple[bytes, ...]:
    if body:
        headers += (TEXT,)
    if not x.operations.steps and x.cors is None:
        return headers
    lines = operate(list(headers), x.operations, x, status)
    if x.cors is not None and x.cors not in x.operations.steps:
        replaced, added = x.cors
        lines = [line for line in lines if line[: line.index(b":")].lower() not in replaced] + list(added)
    return tuple(lines)
