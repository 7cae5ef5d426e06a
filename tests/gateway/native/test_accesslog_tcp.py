"""Lines of relayed connections, whole. How they come about: test_tcp.py."""

import msgspec
from test_observe_tcp import connection

from gateway.native.accesslog_tcp import json_line, text_line


def whole():
    c = connection()
    c.counts.received, c.counts.sent, c.local = 5, 11, b"10.0.0.9:4000"
    return c


def test_a_line_of_text_is_envoys():
    assert text_line(whole(), b"2026-01-02T03:04:05.678Z", 1500) == (
        b'[2026-01-02T03:04:05.678Z] "- - -" 0 - - - "-" 5 11 1500 - "-" "-" "-" "-" "127.0.0.1:9" outbound|1||a.test '
        b"10.0.0.9:4000 l:1 c:1 s -\n"
    )


def test_what_went_wrong_is_in_its_place():
    c = connection(host=False)
    c.flag, c.transport_failure, c.termination, c.backend_name = b"UF,URX", b"connection_timeout", b"details", ""
    assert text_line(c, b"T", 0) == (
        b'[T] "- - -" 0 UF,URX - details "connection_timeout" 0 0 0 - "-" "-" "-" "-" "-" - - l:1 c:1 s -\n'
    )


def test_json_has_the_same_and_null_for_what_only_requests_have():
    line = msgspec.json.decode(json_line(whole(), b"T", 7))
    assert {key: value for key, value in line.items() if value is not None} == {
        "start_time": "T",
        "response_code": 0,
        "response_flags": "-",
        "bytes_received": 5,
        "bytes_sent": 11,
        "duration": 7,
        "upstream_host": "127.0.0.1:9",
        "upstream_cluster": "outbound|1||a.test",
        "upstream_local_address": "10.0.0.9:4000",
        "downstream_local_address": "l:1",
        "downstream_remote_address": "c:1",
        "requested_server_name": "s",
    }
    assert len(line) == 24
    c = connection(host=False)
    c.flag, c.transport_failure, c.termination = b"UF,URX", b"connection_timeout", b"details"
    line = msgspec.json.decode(json_line(c, b"T", 7))
    assert (line["upstream_host"], line["upstream_transport_failure_reason"]) == (None, "connection_timeout")
    assert (line["response_flags"], line["connection_termination_details"]) == ("UF,URX", "details")
