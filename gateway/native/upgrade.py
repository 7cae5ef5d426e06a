"""From HTTP to bytes: WebSocket and other upgrades, CONNECT, extended CONNECT (RFC 9110 section 7.8, 9.3.6; RFC 8441).

Theory of operation. Such a request goes its usual way through routing, balancing and retries; once an endpoint has agreed (101, or 2xx to
CONNECT), the client is told so in its own protocol's words and both connections become byte streams, relayed by `tunnel`. The two
sides may speak different versions of HTTP: an upgrade of HTTP/1 and an extended CONNECT of HTTP/2 are the same here; the WebSocket key
and its proof, which HTTP/2 does without, are made or dropped at that border.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any

from gateway.errors import UpstreamProtocolError
from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.http2_stream import Http2Tunnel
from gateway.native.reactor import NEVER
from gateway.native.tunnel import Counts, Ended, relay

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

IDLE = 3600.0
"""Seconds without a byte either way: Istio's HTTP idle timeout; WebSockets in use ping more often."""

_PROOF = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def wants_tunnel(head: RequestHead) -> bool:
    """Whether this request asks for one."""
    return bool(head.upgrade) or head.method == b"CONNECT"


def upgrade_lines(head: RequestHead) -> bytes:
    """What is added to the head towards an endpoint of HTTP/1, each line after its CR LF."""
    if not head.upgrade:
        return b""
    out = b"\r\nconnection: Upgrade\r\nupgrade: " + head.upgrade
    if head.minor == 2 and head.upgrade.lower() == b"websocket" and not head.values(b"sec-websocket-key"):
        out += b"\r\nsec-websocket-key: " + base64.b64encode(os.urandom(16))
    return out


def agreed(head: RequestHead, response: ResponseHead, *, multiplexed: bool) -> bool:
    """Whether this answer begins the tunnel. multiplexed: it came over HTTP/2."""
    if head.upgrade and not multiplexed:
        return response.status == 101
    return (bool(head.upgrade) or head.method == b"CONNECT") and 200 <= response.status < 300


def proof(head: RequestHead) -> list[bytes]:
    """Sec-WebSocket-Accept for a client of HTTP/1 whose endpoint was asked over HTTP/2."""
    key = head.values(b"sec-websocket-key")
    if len(key) != 1:
        return []
    digest = hashlib.sha1(key[0] + _PROOF, usedforsecurity=False).digest()
    return [b"sec-websocket-accept: " + base64.b64encode(digest)]


async def tunnel(x: Exchange, head: RequestHead, response: ResponseHead, upstream: Any) -> bool:
    """Tell the client, relay, and end both connections. Always False: the client's cannot carry another request.

    Raises OSError when the client is gone. Interrupted, the exchange closes the endpoint's connection."""
    x.begun = True
    x.answered_at = x.strand.reactor.now
    x.status = response.status
    x.keep = False
    lines = proof(head) if upstream.multiplexed and head.minor != 2 and head.upgrade.lower() == b"websocket" else []
    client, ahead = await x.open_tunnel(head, response, lines)
    if upstream.multiplexed:
        endpoint: Any = Http2Tunnel(upstream)
        back = b""
    else:
        endpoint, back = upstream.stream, upstream.codec.buffer
        upstream.codec.buffer = b""
    counts = Counts()
    state = x.state
    limit = state.backend.max_connection_ms / 1000 if state is not None else 0.0
    try:
        how = await relay(x.strand, client, endpoint, idle=IDLE, limit=limit, counts=counts, ahead=(ahead, back))
    finally:
        x.strand.until(NEVER)
        x.received += counts.received
        x.sent += counts.sent
    if how is Ended.WELL:
        for side in (client, endpoint):
            if isinstance(side, Http2Tunnel):
                side.finish()  # the direction that ended last: a socket is told by its close
    elif how is Ended.RESET_BY_B:
        x.flag, x.detail = b"UC", b"upstream_reset_after_response_started{connection_termination}"
        x.abort()
    elif how is Ended.RESET_BY_A:
        x.flag, x.detail = b"DC", b"downstream_remote_disconnect"
    else:
        x.flag, x.detail = (b"SI", b"stream_idle_timeout") if how is Ended.IDLE else (b"DT", b"max_duration_timeout")
    return False


def refuse_unable(client: Any, head: RequestHead) -> None:
    """Raises UpstreamProtocolError where an endpoint of HTTP/2 did not say that it takes extended CONNECT (RFC 8441 section 3)."""
    if head.upgrade and not client.codec.peer_connects:
        raise UpstreamProtocolError("upstream_reset_before_response_started{extended_connect_not_supported}")
