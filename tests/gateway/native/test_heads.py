"""Heads as they leave."""

import pytest

from gateway.native.codec.h1 import ClientCodec, ServerCodec
from gateway.native.connection import ClientCertificate, ConnectionContext
from gateway.native.heads import Additions, request_lines, response_lines
from gateway.snapshot import CertificateRef, DownstreamTls, FilterChain, HeaderOperations, Listener, ListenerKind, TlsMode
from gateway.table import Operations

NOTHING = Operations()


def additions(kind=ListenerKind.GATEWAY, **known):
    return Additions(ConnectionContext(Listener("0.0.0.0", 80, kind), peer_address="10.0.0.9", **known))


def lines(*headers, kind=ListenerKind.GATEWAY, authority=b"", operations=NOTHING, version="1.1", **known):
    text = "".join(f"{header}\r\n" for header in headers)
    head = ServerCodec().next_event(f"POST / HTTP/{version}\r\n{text}\r\n".encode())
    made = request_lines(head, additions(kind, **known), request_id=b"id", authority=authority, operations=operations)
    return made.decode().split("\r\n")


def test_a_gateway_continues_what_clients_say_of_the_way_and_takes_what_they_must_not_say():
    way = ("X-Forwarded-For: 1.1.1.1", "x-forwarded-for: 2.2.2.2", "X-Forwarded-Proto: https")
    out = lines("Host: a", *way, "x-envoy-x: 1", "x-fedgate-hops: 1")
    assert out == ["Host: a", "x-forwarded-for: 1.1.1.1,2.2.2.2,10.0.0.9", "x-forwarded-proto: http", "x-request-id: id"]


def test_a_mesh_listener_leaves_the_way_alone():
    way = ("x-forwarded-for: 1.1.1.1", "x-forwarded-proto: https", "x-envoy-x: 1")
    assert lines("Host: a", *way, kind=ListenerKind.MESH) == ["Host: a", *way, "x-request-id: id"]


def test_peers_are_believed_and_hops_are_counted_elsewhere():
    out = lines("Host: a", "x-request-id: 7", "x-forwarded-client-cert: Hash=1", "x-fedgate-hops: 1", kind=ListenerKind.EAST_WEST)
    assert out == ["Host: a", "x-request-id: 7", "x-forwarded-client-cert: Hash=1"]


def test_hop_by_hop_headers_and_what_they_nominate_go_but_never_framing():
    hop_by_hop = ("Keep-Alive: 5", "TE: trailers", "Trailer: x", "Connection: x-a, content-length, close")
    out = lines("Host: a", "X-A: 1", "X-B: 2", "Content-Length: 1", *hop_by_hop)
    assert out[:3] == ["Host: a", "X-B: 2", "Content-Length: 1"]


@pytest.mark.parametrize(("header", "kept"), [("Expect: 100-continue", True), ("Expect: wonders", False)])
def test_only_an_expectation_that_is_known_passes(header, kept):
    assert (header in lines("Host: a", "Content-Length: 1", header)) is kept


def test_host_is_replaced_or_supplied():
    assert lines("Host: a", authority=b"b")[0] == "host: b"
    assert "Host: a" not in lines("Host: a", authority=b"b")
    assert lines(version="1.0", authority=b"here")[0] == "host: here"


def test_operations_come_last():
    operations = Operations(HeaderOperations(set=(("x-request-id", "mine"),), remove=("x-forwarded-for",), add=(("x-a", "1"),)))
    assert lines("Host: a", operations=operations) == ["Host: a", "x-forwarded-proto: http", "x-request-id: mine", "x-a: 1"]


def test_a_proven_client_certificate_is_told():
    tls = DownstreamTls(TlsMode.MUTUAL, (CertificateRef("c", "k"),))
    certificate = ClientCertificate(
        'CN=a "b"', ("spiffe://td/ns/x/sa/y",), ("a.test",), "00ff", pem="-----B C-----\n+/=\n", by="spiffe://td/ns/x/sa/gateway"
    )
    out = lines(
        "Host: a", "x-forwarded-client-cert: forged", chain=FilterChain("c", "t", tls=tls), certificate=certificate, scheme="https"
    )
    whom = 'Hash=00ff;Cert="-----B%20C-----%0A%2B%2F%3D%0A";Subject="CN=a \\"b\\"";URI=spiffe://td/ns/x/sa/y;DNS=a.test'
    assert f"x-forwarded-client-cert: By=spiffe://td/ns/x/sa/gateway;{whom}" in out
    assert not any("forged" in line for line in out)


def test_responses_lose_what_is_between_two_hops():
    head = ClientCodec().next_event(
        b"HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nX-B: 2\r\nUpgrade: h2\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert response_lines(head, None) == b"X-B: 2\r\nTransfer-Encoding: chunked\r\n"
    assert response_lines(head, None, unchunked=True, added=(b"connection: close",)) == b"X-B: 2\r\nconnection: close\r\n"


TLS = DownstreamTls(TlsMode.MUTUAL, (CertificateRef("c", "k"),))
PROVEN = {
    "chain": FilterChain("c", "t", tls=TLS),
    "certificate": ClientCertificate("CN=a", hash="ff"),
    "scheme": "https",
}
OURS = 'Hash=ff;Subject="CN=a"'


@pytest.mark.parametrize(
    ("mode", "proven", "expected"),
    [
        ("SANITIZE_SET", True, OURS),
        ("SANITIZE_SET", False, ""),
        ("SANITIZE", True, ""),
        ("FORWARD_ONLY", True, "Hash=1"),
        ("FORWARD_ONLY", False, ""),
        ("APPEND_FORWARD", True, "Hash=1," + OURS),
        ("APPEND_FORWARD", False, ""),
        ("ALWAYS_FORWARD_ONLY", True, "Hash=1"),
        ("ALWAYS_FORWARD_ONLY", False, "Hash=1"),
    ],
)
def test_what_is_told_of_client_certificates(mode, proven, expected):
    """Envoy's forward_client_cert_details."""
    context = ConnectionContext(
        Listener("0.0.0.0", 80, ListenerKind.GATEWAY), peer_address="10.0.0.9", **(PROVEN if proven else {})
    )
    head = ServerCodec().next_event(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: Hash=1\r\n\r\n")
    made = request_lines(head, Additions(context, client_cert=mode), request_id=b"id", authority=b"", operations=NOTHING).decode()
    found = [line.partition(": ")[2] for line in made.split("\r\n") if line.lower().startswith("x-forwarded-client-cert")]
    assert found == ([expected] if expected else [])


@pytest.mark.parametrize(("trusted", "expected"), [(True, "https"), (False, "http")])
def test_behind_a_trusted_proxy_its_word_about_the_protocol_holds(trusted, expected):
    context = ConnectionContext(Listener("0.0.0.0", 80, ListenerKind.GATEWAY), peer_address="10.0.0.9")
    head = ServerCodec().next_event(b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1.1.1.1\r\nx-forwarded-proto: https\r\n\r\n")
    made = request_lines(head, Additions(context, trusted=trusted), request_id=b"id", authority=b"", operations=NOTHING).decode()
    assert [line for line in made.split("\r\n") if line.startswith("x-forwarded-proto")] == [f"x-forwarded-proto: {expected}"]
    assert "x-forwarded-for: 1.1.1.1,10.0.0.9" in made
