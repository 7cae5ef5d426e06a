"""Gateway documents: the good load, and each mistake is named."""

import pytest
from written import assert_one_error, errors, spec, warnings

from discovery.model import Protocol
from federation.resources.gateway import ServerTlsMode, TlsProtocol

PORT = "port: {number: 80, name: http, protocol: HTTP}"
HTTPS = "port: {number: 443, name: https, protocol: HTTPS}"
TLS = "port: {number: 443, name: tls, protocol: TLS}"
TCP = "port: {number: 5432, name: tcp, protocol: TCP}"
UNIX_PORT = "port: {number: 0, name: http, protocol: HTTP}"


def server(rest: str) -> str:
    return "servers:\n- " + rest.replace("\n", "\n  ")


def test_a_gateway_as_istio_users_write_it():
    said = spec(
        "Gateway",
        """
        selector: {istio: ingressgateway}
        servers:
        - port: {number: 80, name: http, protocol: HTTP}
          hosts: ['*', shop/*.example.com, ./a.example.com, 10.0.0.1]
          tls: {httpsRedirect: true}
          name: plain
        - port: {number: 443, name: https, protocol: https}
          bind: 127.0.0.1
          hosts: [web.example.com]
          tls: {mode: SIMPLE, credentialName: web, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3}
        - port: {number: 444, name: mutual, protocol: HTTPS}
          hosts: [m.example.com]
          tls: {mode: MUTUAL, serverCertificate: a.pem, privateKey: a.key, caCertificates: ca.pem, subjectAltNames: [x]}
        - port: {number: 445, name: mesh, protocol: HTTPS}
          hosts: [i.example.com]
          tls: {mode: ISTIO_MUTUAL}
        """,
    )
    plain, simple, mutual, istio = said.servers
    assert said.selector == {"istio": "ingressgateway"}
    assert plain.tls.https_redirect
    assert plain.tls.mode is None
    assert (simple.port.protocol, simple.tls.mode) == (Protocol.HTTPS, ServerTlsMode.SIMPLE)
    assert simple.tls.max_protocol_version is TlsProtocol.TLSV1_3
    assert mutual.tls.subject_alt_names == ("x",)
    assert istio.tls.mode is ServerTlsMode.ISTIO_MUTUAL


@pytest.mark.parametrize(
    ("rest", "path", "part"),
    [
        ("hosts: [a.b]", "port", "is required"),
        (PORT, "hosts", "is required"),
        (f"{PORT}\nhosts: []", "hosts", "at least one host"),
        (f"{PORT}\nhosts: [reviews]", "hosts[0]", "short name"),
        (f"{PORT}\nhosts: [a.b, a.*.b]", "hosts[1]", "left-most"),
        (f"{PORT}\nhosts: ['*foo.com']", "hosts[0]", "left-most"),
        (f"{PORT}\nhosts: [a_b/x.y]", "hosts[0]", "namespace"),
        (f"{PORT}\nhosts: [/x.y]", "hosts[0]", "namespace"),
        (f"{PORT}\nhosts: [a.b]\nbind: gw.example", "bind", "no IP"),
        (f"{UNIX_PORT}\nhosts: [a.b]\nbind: unix://run/x", "bind", "names no unix socket"),
        (f"{UNIX_PORT}\nhosts: [a.b]\nbind: unix:///run/x/", "bind", "names no unix socket"),
        (f"{UNIX_PORT}\nhosts: [a.b]\nbind: unix://@", "bind", "names no unix socket"),
        (f"{UNIX_PORT}\nhosts: [a.b]\nbind: unix:///{'x' * 107}", "bind", "too long"),
        (f"{PORT}\nhosts: [a.b]\nbind: unix:///run/x", "port.number", "write 0 instead of 80"),
        (f"{PORT}\nhosts: [a.b]\nhots: [a]", "hots", "did you mean `hosts`"),
        ("port: {number: 70000, name: a, protocol: HTTP}\nhosts: [a.b]", "port.number", "1..65535"),
        ("port: {number: 0, name: a, protocol: HTTP}\nhosts: [a.b]", "port.number", "1..65535"),
        ("port: {number: 80, name: '', protocol: HTTP}\nhosts: [a.b]", "port.name", "empty"),
        ("port: {number: 80, name: a, protocol: HTTP, targetPort: 8}\nhosts: [a.b]", "port.targetPort", "no meaning"),
        ("port: {number: 80, name: a, protocol: UDP}\nhosts: [a.b]", "port.protocol", "`UDP` is not carried by a gateway"),
        ("port: {number: 80, name: a, protocol: UNKNOWN}\nhosts: [a.b]", "port.protocol", "not carried"),
        ("port: {number: 80, name: a, protocol: HTTQ}\nhosts: [a.b]", "port.protocol", "did you mean `HTTP"),
        (f"{HTTPS}\nhosts: [a.b]", "tls", "needs `tls`"),
        (f"{TLS}\nhosts: [a.b]", "tls", "needs `tls`"),
        (f"{PORT}\nhosts: [a.b]\ntls: {{mode: SIMPLE, credentialName: a}}", "tls", "no TLS settings but httpsRedirect"),
        (f"{PORT}\nhosts: [a.b]\ntls: {{serverCertificate: a}}", "tls", "no TLS settings but httpsRedirect"),
        (f"{TCP}\nhosts: [a.b]\ntls: {{mode: SIMPLE, credentialName: a}}", "tls", "write protocol TLS"),
    ],
)
def test_mistakes_of_a_server(rest, path, part):
    assert_one_error("Gateway", server(rest), f"spec.servers[0].{path}", part)


@pytest.mark.parametrize("protocol", ["HTTP", "HTTP2", "GRPC", "GRPC-Web", "grpc-web", "TCP", "MONGO", "Mongo", "REDIS", "MYSQL"])
def test_protocols_that_need_no_tls(protocol):
    found = spec("Gateway", server(f"port: {{number: 80, name: a, protocol: {protocol}}}\nhosts: ['*']")).servers[0]
    assert found.port.protocol is (Protocol.TCP if protocol in ("REDIS", "MYSQL") else Protocol(protocol.upper()))
    assert not found.secure


@pytest.mark.parametrize(("bind", "unix"), [("unix:///run/gw.sock", True), ("unix://@gw", True), ("'::1'", False)])
def test_where_a_server_listens(bind, unix):
    port = UNIX_PORT if unix else PORT
    assert spec("Gateway", server(f"{port}\nhosts: [a.b]\nbind: {bind}")).servers[0].on_unix is unix


@pytest.mark.parametrize(
    ("settings", "protocol", "through"),
    [
        ("mode: PASSTHROUGH", "TLS", True),
        ("mode: AUTO_PASSTHROUGH", "TLS", True),
        ("mode: PASSTHROUGH", "HTTPS", True),
        ("minProtocolVersion: TLSV1_2", "HTTPS", True),
        ("mode: OPTIONAL_MUTUAL, credentialName: a", "TLS", False),
        ("httpsRedirect: true", "HTTP", False),
        ("mode: PASSTHROUGH", "HTTP", False),
    ],
)
def test_what_passes_through(settings, protocol, through):
    text = f"port: {{number: 443, name: a, protocol: {protocol}}}\nhosts: [a.b]\ntls: {{{settings}}}"
    assert spec("Gateway", server(text)).servers[0].passthrough is through


def test_a_gateway_without_servers_and_with_one_port_name_twice():
    assert_one_error("Gateway", "servers: []", "spec.servers", "at least one server")
    assert_one_error("Gateway", "{}", "spec.servers", "is required")
    twice = f"servers:\n- {PORT}\n  hosts: [a.b]\n- {PORT}\n  hosts: [c.d]"
    assert_one_error("Gateway", twice, "spec.servers[1].port.name", "used twice")
    assert_one_error("Gateway", f"selector: {{'a b': c}}\n{server(PORT)}\n  hosts: [a.b]", "spec.selector.a b", "no label key")


@pytest.mark.parametrize(
    ("rest", "path", "part"),
    [
        (f"{HTTPS}\nhosts: [a.b]\ntls: {{httpsRedirect: false}}", "tls.mode", "means PASSTHROUGH"),
        (f"{HTTPS}\nhosts: [a.b]\ntls: {{mode: SIMPLE, credentialName: a, httpsRedirect: true}}", "tls.httpsRedirect", "circle"),
        (f"{PORT}\nhosts: [a.b]\ndefaultEndpoint: 127.0.0.1:1", "defaultEndpoint", "does nothing"),
    ],
)
def test_warnings(rest, path, part):
    assert errors("Gateway", server(rest)) == {}
    assert part in warnings("Gateway", server(rest))[f"spec.servers[0].{path}"]


def test_a_servers_name_twice_is_a_warning():
    twice = f"servers:\n- {PORT}\n  hosts: [a.b]\n  name: x\n- {TCP}\n  hosts: [a.b]\n  name: x"
    assert "used twice" in warnings("Gateway", twice)["spec.servers[1].name"]
    assert errors("Gateway", twice) == {}
