"""Lines of the access log for relayed connections: Istio's text format and JSON as Envoy fills them in when there is no request, "-" for
what only requests have and response code 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.native.accesslog import downstream_json, downstream_text, upstream_json, upstream_text

if TYPE_CHECKING:
    from gateway.native.tcp import Connection


def text_line(c: Connection, start: bytes, duration: int) -> bytes:
    """duration in ms."""
    return b'[%b] "- - -" 0 %b - %b "%b" %d %d %d - "-" "-" "-" "-" %b %b -\n' % (
        start,
        c.flag,
        c.termination,
        c.transport_failure,
        c.counts.received,
        c.counts.sent,
        duration,
        upstream_text(*_upstream(c)),
        downstream_text(*_downstream(c)),
    )


def json_line(c: Connection, start: bytes, duration: int) -> bytes:
    """Istio's 24 keys; what is not known is null."""
    return (
        b'{"start_time":"%b","method":null,"path":null,"protocol":null,"response_code":0,"response_flags":"%b",'
        b'"response_code_details":null,"connection_termination_details":%b,"upstream_transport_failure_reason":%b,"bytes_received":%d,'
        b'"bytes_sent":%d,"duration":%d,"upstream_service_time":null,"x_forwarded_for":null,"user_agent":null,"request_id":null,'
        b'"authority":null,%b,%b,"route_name":null}\n'
    ) % (
        start,
        c.flag,
        _word(c.termination),
        _word(c.transport_failure),
        c.counts.received,
        c.counts.sent,
        duration,
        upstream_json(*_upstream(c)),
        downstream_json(*_downstream(c)),
    )


def _upstream(c: Connection) -> tuple[bytes, bytes, bytes]:
    host = c.host.key.encode() if c.host is not None else b"-"
    return host, c.backend_name.encode() or b"-", c.local


def _downstream(c: Connection) -> tuple[bytes, bytes, bytes]:
    context = c.context
    return context.local.encode(), context.peer.encode(), context.sni.encode()


def _word(value: bytes) -> bytes:
    """Words of our own: nothing in them wants escaping."""
    return b"null" if value == b"-" else b'"%b"' % value
