"""gRPC calls (content-type application/grpc), over either version of HTTP: how one is known, how one ended, how one is answered here.

Errors of the gateway are `grpc-status` in a head with status 200, as from Envoy. Over HTTP/1 no gRPC library speaks; proxies do, in front of
this one, and what they translate back must be an answer of gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from gateway.errors import to_grpc
from gateway.native.codec.events import RequestHead
from gateway.native.codec.fields import Kind

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

CALL = int(Kind.GRPC)  # the kind of the header line that makes a request a call
_STATUS = b"grpc-status:"
_SAFE = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"  # of a message: all that is printable but `%` (gRPC's PROTOCOL-HTTP2.md)


def is_call(head: RequestHead) -> bool:
    return any(field[0] == CALL for field in head.specials)


def judge(x: Exchange, lines: list[bytes]) -> bool:
    """Whether these lines of a call's answer say how it ended; then the exchange knows it too."""
    for line in lines:
        if line[:12].lower() == _STATUS:
            value = line[12:].strip()
            x.grpc_status = value if value.isdigit() else b""
            return True
    return False


def told(x: Exchange, status: int, body: bytes, headers: tuple[bytes, ...], grpc: int | None) -> list[bytes]:
    """The header lines of an answer to a call, whose status is 200 and which has no body ("Trailers-Only"): what the body of a plain answer
    says is its message. The others are of the plain answer; grpc: the code, None = what the status means."""
    code = to_grpc(status) if grpc is None else grpc
    x.grpc_status = b"%d" % code
    lines = [line for line in headers if not line.startswith(b"content-type:")]
    lines += (b"content-type: application/grpc", b"grpc-status: %d" % code)
    if body:
        lines.append(b"grpc-message: " + quote_from_bytes(body, safe=_SAFE).encode())
    return lines
