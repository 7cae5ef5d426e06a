"""One health check of one endpoint: over TCP, or HTTP/1.1, in TLS when its backend is.

A client of our own in some forty lines, not a library's: a check wants one fresh connection (a pooled one would say nothing about who
does not accept any more), the status line and nothing else, and hard bounds on what it reads from an endpoint that may be anything.
"""

from __future__ import annotations

import re

import msgspec
import trio

from discovery.supervise import describe
from federation.peering.tls import TlsStream
from gateway.native.tls import ClientTls
from gateway.snapshot import HealthCheck

MAX_STATUS_LINE = 1024  # bytes; the longest reason phrase anyone sends is far shorter
HEALTHY_STATUS = 200  # Envoy's default: this and no other

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")


class Target(msgspec.Struct, frozen=True):
    """What is checked, and how. host: for the Host header. sni: for TLS without a name of its own. port 0: a unix socket."""

    address: str
    port: int
    check: HealthCheck
    host: str = ""


class ProbeFailed(Exception):
    """The check did not pass; the text says why."""


async def probe(target: Target, tls: ClientTls | None) -> None:
    """Raises ProbeFailed unless the endpoint passes within the check's timeout. Cancelled, it leaves nothing open."""
    timeout = target.check.timeout_ms / 1000
    try:
        with trio.fail_after(timeout):
            await _probe(target, tls)
    except trio.TooSlowError:
        raise ProbeFailed(f"{target.check.kind} check: no answer within {target.check.timeout_ms} ms") from None
    except (OSError, trio.BrokenResourceError) as error:
        cause = error.__cause__ or error
        raise ProbeFailed(f"{target.check.kind} check: {getattr(cause, 'strerror', None) or describe(cause)}") from None


async def _probe(target: Target, tls: ClientTls | None) -> None:
    stream = await _connect(target)
    try:
        if tls is not None:
            secured = TlsStream(stream, tls.context, server_side=False, hostname=tls.hostname(target.host))
            await secured.handshake()
            tls.prove(secured.tls)
            stream = secured
        if target.check.kind == "http":
            await _get(stream, target)
    finally:
        await trio.aclose_forcefully(stream)


async def _connect(target: Target) -> trio.abc.Stream:
    if target.address[0] in "/@":
        abstract = target.address[0] == "@"
        family, where = trio.socket.AF_UNIX, f"\0{target.address[1:]}" if abstract else target.address
    else:
        family = trio.socket.AF_INET6 if ":" in target.address else trio.socket.AF_INET
        where = (target.address, target.port)  # type: ignore[assignment]
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        await sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _get(stream: trio.abc.Stream, target: Target) -> None:
    head = [
        f"GET {target.check.path} HTTP/1.1",
        f"host: {target.host}",
        "user-agent: fedgate-health",
        "accept: */*",
        "connection: close",
    ]
    await stream.send_all("\r\n".join([*head, "", ""]).encode("ascii", "replace"))
    data = b""
    while b"\n" not in data and len(data) < MAX_STATUS_LINE:
        more = await stream.receive_some(MAX_STATUS_LINE)
        if not more:
            break
        data += more
    match = _STATUS.match(data)
    if match is None:
        raise ProbeFailed(f"http check: {'closed without an answer' if not data else 'the answer is not HTTP'}")
    if int(match[1]) != HEALTHY_STATUS:
        raise ProbeFailed(f"http check: status {int(match[1])}, expected {HEALTHY_STATUS}")
