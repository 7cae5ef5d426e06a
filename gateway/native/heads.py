"""Heads as they leave: what is stripped, replaced and added on the way through.

Most heads pass whole (`RequestHead.raw`), with a few lines appended; these functions make the others. Always gone: Connection and
what it nominates, Keep-Alive, Proxy-Connection, Proxy-Authorization, TE, Trailer, Upgrade (RFC 9110 section 7.6.1). From clients
outside (`edge`) also what only a proxy may say: x-forwarded-client-cert, x-envoy-*, x-fedgate-hops; x-forwarded-for is continued and
x-forwarded-proto set, as Envoy does with use_remote_address and no trusted proxies (FIELD a10). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.codec.fields import Kind, memo
from gateway.native.connection import ConnectionContext
from gateway.snapshot import ListenerKind, TlsMode
from gateway.table import Operations

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

_HOP_BY_HOP = frozenset((int(Kind.UPGRADE), int(Kind.STRIP), int(Kind.CONNECTION), int(Kind.TIMEOUT)))
_FROM_EDGE = _HOP_BY_HOP | {
    int(Kind.FORWARDED_FOR),
    int(Kind.FORWARDED_PROTO),
    int(Kind.CLIENT_CERT),
    int(Kind.ENVOY),
    int(Kind.HOPS),
}
_FROM_MESH = _HOP_BY_HOP | {int(Kind.CLIENT_CERT), int(Kind.HOPS)}
_FROM_PEER = _HOP_BY_HOP | {int(Kind.HOPS)}
_HOST = int(Kind.HOST)
_EXPECT = int(Kind.EXPECT)
_CODING = int(Kind.TRANSFER_ENCODING)
# Framing and Host are decided by codec and route: a Connection header that nominates them would cut a message loose from its end.
_NEVER_NOMINATED = frozenset((b"host", b"content-length", b"transfer-encoding"))


class Additions:
    """What one downstream connection adds to every request, ready as bytes.

    with_id: ends where a request id is to follow; without_id: for requests that have one. trusted: proxies before this one may be
    believed about x-forwarded-proto. appends: our element of x-forwarded-client-cert goes behind those that came.
    """

    __slots__ = ("address", "appends", "certificate", "peer", "proto", "stripped", "trusted", "with_id", "without_id")

    def __init__(self, context: ConnectionContext, *, trusted: bool = False, client_cert: str = "SANITIZE_SET") -> None:
        """client_cert: Node.client_cert."""
        kind = context.listener.kind
        edge = kind is ListenerKind.GATEWAY
        self.address = context.peer_address.encode() if edge else b""
        self.proto = context.scheme.encode()
        self.trusted = trusted
        own = _client_certificate(context) if edge else b""
        self.certificate = own if client_cert in ("SANITIZE_SET", "APPEND_FORWARD") else b""
        self.appends = client_cert == "APPEND_FORWARD"
        self.stripped = {ListenerKind.GATEWAY: _FROM_EDGE, ListenerKind.EAST_WEST: _FROM_PEER}.get(kind, _FROM_MESH)
        # What came is passed on to whom it may: always, or only from who proved himself (Envoy's forward_client_cert_details).
        if edge and (client_cert == "ALWAYS_FORWARD_ONLY" or (own and client_cert in ("FORWARD_ONLY", "APPEND_FORWARD"))):
            self.stripped -= {int(Kind.CLIENT_CERT)}
        self.peer = kind is ListenerKind.EAST_WEST  # whose gateway has said all of this
        self.without_id = self.lines(b"", proto_known=self.peer)
        self.with_id = self.without_id + b"\r\nx-request-id: "

    def lines(self, forwarded_for: bytes, *, proto_known: bool, certificates: bytes = b"") -> bytes:
        """The added lines, each after its CR LF. forwarded_for, certificates: what the client sent and goes before ours."""
        out = b""
        if self.address:
            chain = forwarded_for + b"," + self.address if forwarded_for else self.address
            out += b"\r\nx-forwarded-for: " + chain
        if not proto_known:
            out += b"\r\nx-forwarded-proto: " + self.proto
        if self.certificate:
            before = certificates + b"," if certificates else b""
            out += b"\r\nx-forwarded-client-cert: " + before + self.certificate
        return out


def _client_certificate(context: ConnectionContext) -> bytes:
    """Envoy's XFCC element with what Istio's gateways set in it: Subject, Cert, DNS and URI of a certificate that was asked for."""
    certificate = context.certificate
    chain = context.chain
    if certificate is None or chain is None or chain.tls is None or chain.tls.mode is TlsMode.SIMPLE:
        return b""
    subject = certificate.subject.replace("\\", "\\\\").replace('"', '\\"')
    parts = [f"By={certificate.by}"] if certificate.by else []
    parts.append(f"Hash={certificate.hash}")
    if certificate.pem:
        parts.append(f'Cert="{quote(certificate.pem, safe="")}"')
    parts.append(f'Subject="{subject}"')
    parts += [f"URI={uri}" for uri in certificate.uris]
    parts += [f"DNS={name}" for name in certificate.dns]
    text = ";".join(parts)
    return "".join(c for c in text if c.isprintable()).encode()


def _kept(lines: Iterable[bytes], kinds: frozenset[int], nominated: tuple[bytes, ...]) -> list[bytes]:
    kept = []
    for line in lines:
        field = memo[line]
        if field is not None and field[0] in kinds:
            continue
        kept.append(line)
    names = frozenset(nominated) - _NEVER_NOMINATED - {b"close", b"keep-alive"}
    return _without(kept, names) if names else kept


def _without(lines: Iterable[bytes], names: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line[: line.index(b":")].lower() not in names]


def operate(lines: list[bytes], operations: Operations, x: Exchange | None, status: int = 0) -> list[bytes]:
    """The lines after these operations: of x's request, or of its answer with that status. x may be None where no value has operators."""
    for gone, added in operations.steps:
        if gone:
            lines = _without(lines, gone)
        if isinstance(added, tuple):
            lines += added
        else:
            assert x is not None
            lines = added.applied(lines, x.facts(lines, status))
    return lines


def forwarded_for(head: RequestHead) -> bytes:
    """The x-forwarded-for that the client sent, all of it."""
    return b",".join(field[2] for field in head.special(Kind.FORWARDED_FOR))


def request_lines(
    head: RequestHead,
    additions: Additions,
    *,
    request_id: bytes,
    authority: bytes,
    operations: Operations,
    x: Exchange | None = None,
) -> bytes:
    """All header lines of a request that cannot pass as it came. authority: replaces Host if not empty. x: as in
    `operate`."""
    kinds = additions.stripped
    certificates = b""
    if additions.appends and additions.certificate:
        certificates = b",".join(field[2] for field in head.special(Kind.CLIENT_CERT))
        kinds |= {int(Kind.CLIENT_CERT)}
    if additions.trusted and head.special(Kind.FORWARDED_PROTO):
        kinds -= {int(Kind.FORWARDED_PROTO)}
    if authority or not head.authority:
        kinds |= {_HOST}
    if not head.expect:
        kinds |= {_EXPECT}  # 100-continue of a client that cannot mean it (HTTP/1.0, no body), or an expectation nobody knows
    lines = _kept(head.lines, kinds, head.nominated)
    if _HOST in kinds:
        lines.insert(0, b"host: " + authority)
    known = additions.peer or ((not additions.address or additions.trusted) and bool(head.special(Kind.FORWARDED_PROTO)))
    added = additions.lines(forwarded_for(head), proto_known=known, certificates=certificates)
    lines += added.split(b"\r\n")[1:]
    if not head.request_id:
        lines.append(b"x-request-id: " + request_id)
    if operations:
        lines = operate(lines, operations, x)
    return b"\r\n".join(lines)


def response_lines(
    head: ResponseHead,
    operations: Operations | None,
    x: Exchange | None = None,
    *,
    unchunked: bool = False,
    added: tuple[bytes, ...] = (),
) -> bytes:
    """`response_list` as it goes out over HTTP/1, each line with its CR LF. added: lines about the connection."""
    lines = response_list(head, operations, x, unchunked=unchunked)
    lines += added
    return b"".join([line + b"\r\n" for line in lines])


def response_list(
    head: ResponseHead, operations: Operations | None, x: Exchange | None = None, *, unchunked: bool = False
) -> list[bytes]:
    """All header lines of a response that cannot pass as it came. unchunked: its body will not go in chunks, or it has none and must
    not say so."""
    kinds = _HOP_BY_HOP | {_CODING} if unchunked else _HOP_BY_HOP
    lines = _kept(head.lines, kinds, head.nominated)
    if operations:
        lines = operate(lines, operations, x, head.status)
    return lines
