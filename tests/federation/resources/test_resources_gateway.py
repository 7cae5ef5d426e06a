"""Gateway documents: the good load, and each mistake is named."""

import pytest
from written import assert_one_error, errors, spec, warnings

from discovery.model import Protocol
from federation.resources.gateway import ServerTlsMode, TlsProtocol

PORT = "port: {number: 80, name: http, protocol: HTTP}"
HTTPS = "port: {number: 443, name: https, protocol: HTTPS}"


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
        (f"{PORT}\nhosts: [a.b]\nbind: unix:///run/x", "bind", "not supported yet"),
        (f"{PORT}\nhosts: [a.b]\ndefaultEndpoint: 127.0.0.1:1", "defaultEndpoint", "not supported yet"),
        (f"{PORT}\nhosts: [a.b]\nhots: [a]", "hots", "did you mean `hosts`"),
        ("port: {number: 70000, name: a, protocol: HTTP}\nhosts: [a.b]", "port.number", "1..65535"),
        ("port: {number: 0, name: a, protocol: HTTP}\nhosts: [a.b]", "port.number", "1..65535"),
        ("port: {number: 80, name: '', protocol: HTTP}\nhosts: [a.b]", "port.name", "empty"),
        ("port: {number: 80, name: a, protocol: HTTP, targetPort: 8}\nhosts: [a.b]", "port.targetPort", "no meaning"),
        ("port: {number: 80, name: a, protocol: TCP}\nhosts: [a.b]", "port.protocol", "`TCP` is not supported yet"),
        ("port: {number: 80, name: a, protocol: TLS}\nhosts: [a.b]", "port.protocol", "`TLS` is not supported yet"),
        ("port: {number: 80, name: a, protocol: MONGO}\nhosts: [a.b]", "port.protocol", "`MONGO` is not supported yet"),
        ("port: {number: 80, name: a, protocol: HTTQ}\nhosts: [a.b]", "port.protocol", "did you mean `HTTP"),
        (f"{HTTPS}\nhosts: [a.b]", "tls", "needs `tls`"),
        (f"{HTTPS}\nhosts: [a.b]\ntls: {{credentialName: a}}", "tls.mode", "`PASSTHROUGH` is not supported yet"),
        (f"{PORT}\nhosts: [a.b]\ntls: {{mode: SIMPLE, credentialName: a}}", "tls", "no TLS settings but httpsRedirect"),
        (f"{PORT}\nhosts: [a.b]\ntls: {{serverCertificate: a}}", "tls", "no TLS settings but httpsRedirect"),
    ],
)
def test_mistakes_of_a_server(rest, path, part):
    assert_one_error("Gateway", server(rest), f"spec.servers[0].{path}", part)


@pytest.mark.parametrize(
    ("tls", "path", "part"),
    [
        ("mode: PASSTHROUGH", ".mode", "`PASSTHROUGH` is not supported yet"),
        ("mode: AUTO_PASSTHROUGH", ".mode", "`AUTO_PASSTHROUGH` is not supported yet"),
        ("mode: OPTIONAL_MUTUAL", ".mode", "`OPTIONAL_MUTUAL` is not supported yet"),
        ("mode: SIMPEL", ".mode", "did you mean `SIMPLE`"),
        ("mode: SIMPLE, serverCertificate: a.pem", "", "`privateKey` is missing"),
        ("mode: SIMPLE, privateKey: a.key", "", "`serverCertificate` is missing"),
        ("mode: SIMPLE, credentialName: a, serverCertificate: a.pem", "", "keep one"),
        ("mode: SIMPLE, credentialName: 'kubernetes://a'", ".credentialName", "not supported yet"),
        ("mode: MUTUAL, serverCertificate: a.pem, privateKey: a.key", "", "`caCertificates`"),
        ("mode: ISTIO_MUTUAL, credentialName: a", "", "gateway's own certificate"),
        (
            "mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2",
            ".maxProtocolVersion",
            "below",
        ),
        ("mode: SIMPLE, credentialName: a, minProtocolVersion: TLS1", ".minProtocolVersion", "must be one of"),
        ("mode: SIMPLE, credentialName: a, cipherSuites: [x]", ".cipherSuites", "not supported yet"),
        ("mode: SIMPLE, credentialName: a, verifyCertificateHash: [x]", ".verifyCertificateHash", "not supported yet"),
        ("mode: SIMPLE, credentialName: a, caCrl: x", ".caCrl", "not supported yet"),
        ("mode: SIMPLE, credentialNames: [a, b], credentialName: a", ".credentialNames", "not supported yet"),
    ],
)
def test_mistakes_of_tls(tls, path, part):
    assert_one_error("Gateway", server(f"{HTTPS}\nhosts: [a.b]\ntls: {{{tls}}}"), f"spec.servers[0].tls{path}", part)


def test_a_gateway_without_servers_and_with_one_port_name_twice():
    assert_one_error("Gateway", "servers: []", "spec.servers", "at least one server")
    assert_one_error("Gateway", "{}", "spec.servers", "is required")
    twice = f"servers:\n- {PORT}\n  hosts: [a.b]\n- {PORT}\n  hosts: [c.d]"
    assert_one_error("Gateway", twice, "spec.servers[1].port.name", "used twice")
    assert_one_error("Gateway", f"selector: {{'a b': c}}\n{server(PORT)}\n  hosts: [a.b]", "spec.selector.a b", "no label key")


def test_warnings():
    old = server(f"{HTTPS}\nhosts: [a.b]\ntls: {{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_0}}")
    assert "not secure" in warnings("Gateway", old)["spec.servers[0].tls.minProtocolVersion"]
    circle = server(f"{HTTPS}\nhosts: [a.b]\ntls: {{mode: SIMPLE, credentialName: a, httpsRedirect: true}}")
    assert "circle" in warnings("Gateway", circle)["spec.servers[0].tls.httpsRedirect"]
    assert errors("Gateway", old) == errors("Gateway", circle) == {}
