"""What the command operators of header values are told of an exchange (`policy/substitution`). Made only where a value has operators."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.native.codec.events import RequestHead
from gateway.native.connection import ClientCertificate
from gateway.native.heads import request_lines
from gateway.table import Operations

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

_HOSTNAME = os.uname().nodename.encode()
_PROTOCOLS = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2")
_NOBODY = ClientCertificate()
_AUTHORITY = (b":authority", b"host")
_NOTHING = Operations()


class Facts:
    """Of one exchange, while `lines` are being changed: the request's on its way to the endpoint where status is 0, else the answer's.

    head: the request's as it came. In an answer the request is the one that was sent on (`Exchange.asked`); where none was, what would
    have been, unchanged."""

    __slots__ = ("_head", "_lines", "_request", "_status", "_x")

    def __init__(self, x: Exchange, head: RequestHead, lines: list[bytes], status: int) -> None:
        self._x, self._head, self._lines, self._status = x, head, lines, status
        self._request: list[bytes] | None = None if status else lines

    def requested(self, name: bytes) -> bytes | None:
        x, head, sent = self._x, self._head, self._status > 0
        if name == b":method":
            return head.method
        if name == b":scheme":
            return x.scheme
        if name == b":path":
            return x.asked.split(b" ", 2)[1] if sent and x.asked else head.target
        if name in _AUTHORITY:
            return (x.authority if sent else head.authority) or x.context.local.encode()
        if self._request is None:
            said = x.asked or b"\r\n" + request_lines(head, x.additions, request_id=_stream(x), authority=b"", operations=_NOTHING)
            self._request = said.split(b"\r\n")[1:]
        return _first(self._request, name)

    def answered(self, name: bytes) -> bytes | None:
        if not self._status:
            return None
        return b"%d" % self._status if name == b":status" else _first(self._lines, name)

    def told(self, fact: str) -> bytes:
        if fact in _LATER and not self._status:
            return b""
        return TOLD[fact](self._x)

    def began(self) -> float:
        return self._x.runtime.observer.wall_time(self._x.began)


def _first(lines: Iterable[bytes], name: bytes) -> bytes | None:
    start = name + b":"
    size = len(start)
    for line in lines:
        if line[:size].lower() == start:
            return line[size:].strip(b" \t")
    return None


def _stream(x: Exchange) -> bytes:
    """The request's id, which Envoy takes for the stream's; made if nobody has."""
    if not x.request_id:
        x.request_id = x.runtime.request_id()
    return x.request_id


def _remote(x: Exchange) -> tuple[str, str]:
    """(address and port, address) of the client. What a proxy before us says is believed as far as `Exchange.client_address` does; it
    names no port, which Envoy writes as 0."""
    context = x.context
    said = x.client_address(x.head)
    if said == context.peer_address:
        return context.peer, said
    try:
        version = ipaddress.ip_address(said).version
    except ValueError:  # nonsense: the connection's own, as in Envoy
        return context.peer, context.peer_address
    return (f"[{said}]:0" if version == 6 else f"{said}:0"), said


def _certificate(x: Exchange) -> ClientCertificate:
    return x.context.certificate or _NOBODY


def _bytes(text: str) -> bytes:
    """Names in certificates may hold anything; a header's value may not."""
    return "".join(c for c in text if c.isprintable()).encode("utf-8", "replace")


def _port(place: str) -> bytes:
    number = place.rpartition(":")[2]
    return number.encode() if number.isdigit() else b""


def _table() -> dict[str, Callable[[Exchange], bytes]]:
    return {
        "DOWNSTREAM_LOCAL_ADDRESS": lambda x: x.context.local.encode(),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda x: x.context.local_address.encode(),
        "DOWNSTREAM_LOCAL_PORT": lambda x: _port(x.context.local),
        "DOWNSTREAM_PEER_DNS_SAN": lambda x: _bytes(",".join(_certificate(x).dns)),
        "DOWNSTREAM_PEER_FINGERPRINT_256": lambda x: _certificate(x).hash.encode(),
        "DOWNSTREAM_PEER_SUBJECT": lambda x: _bytes(_certificate(x).subject),
        "DOWNSTREAM_PEER_URI_SAN": lambda x: _bytes(",".join(_certificate(x).uris)),
        "DOWNSTREAM_REMOTE_ADDRESS": lambda x: _remote(x)[0].encode(),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda x: _remote(x)[1].encode(),
        "DOWNSTREAM_REMOTE_PORT": lambda x: _port(_remote(x)[0]),
        "DOWNSTREAM_TLS_VERSION": lambda x: x.context.tls_version.encode(),
        "HOSTNAME": lambda x: _HOSTNAME,
        "PROTOCOL": lambda x: _PROTOCOLS[x.head.minor],
        "REQUESTED_SERVER_NAME": lambda x: _bytes(x.context.sni),
        "RESPONSE_CODE": lambda x: b"%d" % x.status,
        "RESPONSE_CODE_DETAILS": lambda x: x.detail,
        "RESPONSE_FLAGS": lambda x: x.flag,
        "ROUTE_NAME": lambda x: b"" if x.route_name == b"-" else x.route_name,
        "STREAM_ID": _stream,
        "UPSTREAM_CLUSTER": lambda x: b"" if x.state is None else x.state.backend.name.encode(),
        "UPSTREAM_HOST": lambda x: b"" if x.host is None else x.host.key.encode(),
    }


TOLD = _table()
"""What each of `policy/substitution.FACTS` is; b"" = not known."""

_LATER = frozenset(("RESPONSE_CODE_DETAILS", "UPSTREAM_HOST"))  # nobody knows them while the request goes up
