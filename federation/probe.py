"""One health check of one endpoint: over TCP, HTTP or gRPC, in TLS when its backend is.

A client of our own in some forty lines, not a library's: a check wants one fresh connection (a pooled one would say nothing about who
does not accept any more), the status line and nothing else, and hard bounds on what it reads from an endpoint that may be anything.
"""

from __future__ import annotations

import re

import msgspec
import trio

from discovery.supervise import describe
from federation.peering.tls import TlsStream
from federation.probe_http2 import CHECK, Unanswered, question, request, verdict
from gateway.native.tls import ClientTls
from gateway.snapshot import HealthCheck

MAX_STATUS_LINE = 1024  # bytes; the longest reason phrase anyone sends is far shorter

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")


class Target(msgspec.Struct, frozen=True):
    """What is checked, and how. host: for the Host header, and for TLS without a name of its own. port 0: a unix socket. source: the address
    of this machine that it leaves from. http2: the endpoint speaks nothing else."""

    address: str
    port: int
    check: HealthCheck
    host: str = ""
    source: str = ""
    http2: bool = False


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
        if target.check.kind == "grpc":
            await _ask(stream, target, tls=tls is not None)
        elif target.check.kind == "http":
            await (_get_http2(stream, target, tls=tls is not None) if target.http2 else _get(stream, target))
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
        if target.source and family is not trio.socket.AF_UNIX:
            await sock.bind((target.source, 0))
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
    _expect(int(match[1]), target.check)


async def _get_http2(stream: trio.abc.Stream, target: Target, *, tls: bool) -> None:
    head = [
        (":method", "GET"),
        (":scheme", "https" if tls else "http"),
        (":authority", target.host),
        (":path", target.check.path),
        ("user-agent", "fedgate-health"),
        ("accept", "*/*"),
    ]
    try:
        answer = await request(stream, head)
    except Unanswered as error:
        raise ProbeFailed(f"http check: {error}") from None
    _expect(answer.status, target.check)


async def _ask(stream: trio.abc.Stream, target: Target, *, tls: bool) -> None:
    head = [
        (":method", "POST"),
        (":scheme", "https" if tls else "http"),
        (":authority", target.host),
        (":path", CHECK),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "fedgate-health"),
        ("grpc-timeout", f"{target.check.timeout_ms}m"),
    ]
    try:
        reason = verdict(await request(stream, head, question(target.check.service)))
    except Unanswered as error:
        reason = str(error)
    if reason:
        raise ProbeFailed(f"grpc check: {reason}")


def _expect(status: int, check: HealthCheck) -> None:
    """Raises ProbeFailed."""
    if not any(low <= status < high for low, high in check.statuses):
        wanted = ", ".join(str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in check.statuses)
        raise ProbeFailed(f"http check: status {status}, expected {wanted}")
