"""Kubernetes objects in files; and that a Secret's content shows nowhere."""

import base64
import json

import msgspec
import pytest
from written import assert_one_error, errors, load, raw_documents, spec, warnings, written

from federation.resources.kubernetes import Secret, ServiceType
from federation.resources.read import judge

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_service_as_kubectl_prints_it():
    said = spec(
        "Service",
        """
        clusterIP: 10.96.0.7
        clusterIPs: [10.96.0.7]
        internalTrafficPolicy: Cluster
        ipFamilies: [IPv4]
        ipFamilyPolicy: SingleStack
        sessionAffinity: None
        type: LoadBalancer
        externalTrafficPolicy: Local
        selector: {app: reviews}
        ports:
        - {name: http, port: 9080, protocol: TCP, targetPort: web, nodePort: 30080, appProtocol: http}
        - {name: raw, port: 9000, targetPort: 9001}
        """,
    )
    assert said.type is ServiceType.LOAD_BALANCER
    assert [(port.port, port.target_port) for port in said.ports] == [(9080, "web"), (9000, 9001)]


def test_a_headless_service_needs_no_ports():
    assert spec("Service", "clusterIP: None").ports == ()


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("{}", "ports", "at least one port"),
        ("ports: [{port: 0}]", "ports[0].port", "1..65535"),
        ("ports: [{port: 80, targetPort: true}]", "ports[0].targetPort", "port number or the name"),
        ("ports: [{port: 80, targetPort: 70000}]", "ports[0].targetPort", "1..65535"),
        ("ports: [{port: 80}, {port: 81}]", "ports[1].name", "each needs a name"),
        ("ports: [{port: 80, name: a}, {port: 81, name: a}]", "ports[1].name", "used twice"),
        ("ports: [{port: 80, name: a}, {port: 80, name: b}]", "ports[1].port", "port 80 TCP is written twice"),
        ("ports: [{port: 80, protocol: HTTP}]", "ports[0].protocol", "one of TCP, UDP, SCTP"),
        ("ports: [{port: 80}]\nclusterIP: abc", "clusterIP", "no IP"),
        ("ports: [{port: 80}]\ntrafficDistribution: PreferClose", "trafficDistribution", "not supported yet"),
        ("ports: [{port: 80}]\ntype: ExternalName", "externalName", "the host is empty"),
        ("ports: [{port: 80}]\ntype: ExternalName\nexternalName: 10.0.0.1", "externalName", "is an address"),
        ("ports: [{port: 80}]\ntype: ExternalName\nexternalName: '*.a'", "externalName", "wildcard"),
        ("port: [{port: 80}]", "port", "did you mean `ports`"),
    ],
)
def test_mistakes_of_a_service(body, path, part):
    assert_one_error("Service", body, f"spec.{path}", part)


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("ports: [{port: 80}]\nsessionAffinity: ClientIP", "sessionAffinity", "consistentHash: {useSourceIp: true}"),
        ("ports: [{port: 80}]\nexternalName: a.example", "externalName", "of type ExternalName only"),
        ("type: ExternalName\nexternalName: a.example.", "ports", "nothing can be sent to a name outside"),
    ],
)
def test_what_does_nothing_in_a_service_is_said(body, path, part):
    ((where, message),) = warnings("Service", body).items()
    assert where == f"spec.{path}"
    assert part in message


def test_an_external_name_is_read():
    said = spec("Service", "type: ExternalName\nexternalName: a.example\nports: [{port: 80}]")
    assert (said.is_external_name, said.external_name) == (True, "a.example")


SLICE = """
apiVersion: {version}
kind: EndpointSlice
metadata: {{name: reviews-abc, labels: {{kubernetes.io/service-name: reviews}}}}
addressType: IPv4
endpoints:
- addresses: [10.0.0.1]
  conditions: {{ready: true, serving: true, terminating: false}}
  nodeName: n1
  zone: us-a
  targetRef: {{kind: Pod, name: p}}
- addresses: [10.0.0.2]
  conditions: {{}}
ports: [{{name: http, port: 9080, protocol: TCP}}]
"""


@pytest.mark.parametrize("version", ["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"])
def test_an_endpoint_slice(version):
    found = load(SLICE.format(version=version))
    assert found.problems == found.notes == ()
    said = found.endpoint_slices[0].spec
    assert [endpoint.conditions.ready for endpoint in said.endpoints] == [True, None]
    assert (said.endpoints[0].zone, said.ports[0].port) == ("us-a", 9080)


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("endpoints: []", "addressType", "is required"),
        ("addressType: FQDN", "addressType", "`FQDN` is not supported yet"),
        ("addressType: IPv4\nendpoints: [{addresses: ['::1']}]", "endpoints[0].addresses[0]", "no IPv4 address"),
        ("addressType: IPv6\nendpoints: [{addresses: [a]}]", "endpoints[0].addresses[0]", "no IPv6 address"),
        ("addressType: IPv4\nendpoints: [{addresses: []}]", "endpoints[0].addresses", "1 to 100"),
        ("addressType: IPv4\nendpoints: [{}]", "endpoints[0].addresses", "is required"),
        (
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: 'yes'}}]",
            "endpoints[0].conditions.ready",
            "true or false",
        ),
        ("addressType: IPv4\nports: [{port: 70000}]", "ports[0].port", "1..65535"),
        ("addressType: IPv4\nports: [{port: 1}, {port: 2}]", "ports[1].name", "used twice"),
        ("addressType: IPv4\nspec: {}", "spec", "unknown field `spec`"),
    ],
)
def test_mistakes_of_an_endpoint_slice(body, path, part):
    assert_one_error("EndpointSlice", body, path, part)


def test_too_many_endpoints_in_a_slice():
    many = ", ".join(["{addresses: [10.0.0.1]}"] * 1001)
    assert_one_error("EndpointSlice", f"addressType: IPv4\nendpoints: [{many}]", "endpoints", "1000 at most")


def test_a_slice_of_no_service_is_warned_about():
    assert "belongs to no Service" in warnings("EndpointSlice", "addressType: IPv4")["metadata.labels"]


@pytest.mark.parametrize(
    "fields",
    [
        {
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": encoded(CERTIFICATE), "tls.key": encoded(KEY), "ca.crt": encoded(CERTIFICATE)},
        },
        {"type": "Opaque", "data": {"cert": encoded(CERTIFICATE), "key": encoded(KEY), "cacert": encoded(CERTIFICATE)}},
        {"stringData": {"tls.crt": CERTIFICATE, "tls.key": KEY, "ca.crt": CERTIFICATE}, "immutable": True},
        {"data": {"tls.key": encoded("old")}, "stringData": {"tls.crt": CERTIFICATE, "tls.key": KEY, "cacert": CERTIFICATE}},
    ],
)
def test_certificates_by_the_names_istio_looks_for(fields):
    said = spec("Secret", "\n".join(f"{name}: {json.dumps(value)}" for name, value in fields.items()))
    assert (said.certificate, said.private_key.reveal(), said.ca) == (CERTIFICATE, KEY.encode(), CERTIFICATE)


def test_other_secrets_are_nobodys_business():
    said = spec("Secret", f"data: {{password: {encoded('TOPSECRET')}}}")
    assert (said.certificate, said.private_key, said.ca) == ("", None, "")


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("type: kubernetes.io/tls\nstringData: {tls.key: TOPSECRET}", "", "needs tls.crt"),
        (f"type: kubernetes.io/tls\nstringData: {{tls.crt: {json.dumps(CERTIFICATE)}}}", "", "needs tls.key"),
        ("stringData: {ca.crt: TOPSECRET}", "stringData.ca.crt", "no PEM certificate"),
        (f"stringData: {{tls.crt: {json.dumps(CERTIFICATE)}, tls.key: TOPSECRET}}", "stringData.tls.key", "no PEM private key"),
        ("data: {tls.key: 'TOPSECRET*'}", "data.tls.key", "not base64"),
        ("data: {tls.key: 12345}", "data.tls.key", "must be base64 text"),
        ("stringData: {tls.key: 12345}", "stringData.tls.key", "must be text"),
        ("dat: {tls.key: TOPSECRET}", "dat", "did you mean `data`"),
        ("data: TOPSECRET", "data", "must be a mapping, not text"),
        ("data: [TOPSECRET]", "data", "must be a mapping, not a list"),
        ("type: [TOPSECRET]", "type", "must be text"),
    ],
)
def test_mistakes_of_a_secret_name_no_content(body, path, part):
    from discovery.document import path_of

    keys = tuple(path.split(".", 1)) if "." in path else (path,) if path else ()
    assert_one_error("Secret", body, path_of(keys), part)
    assert "TOPSECRET" not in str(written("Secret", body).errors)


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_a_secrets_content_is_in_no_text(field):
    key = encoded(KEY) if field == "data" else KEY
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{field}: {{tls.key: {json.dumps(key)}, password: {json.dumps(key)}}}\n"
    (raw,) = raw_documents(text)
    document = judge(raw).document
    found = load(text)
    for shown in (repr(document), str(document), repr(found), str(document.spec), repr(document.spec), f"{document.spec}"):
        assert "TOPSECRET" not in shown
        assert encoded(KEY)[:40] not in shown
        assert "[redacted]" in shown
    with pytest.raises(TypeError):
        msgspec.json.encode(document.spec)
    with pytest.raises(Exception, match=r"(?i)serialize|Secret"):
        document.spec.model_dump_json()
    assert errors("Secret", f"{field}: {{tls.key: {json.dumps(key)}}}") == {}


def test_bytes_that_are_no_text_do_not_break_the_reading():
    assert Secret.model_validate({"data": {"ca.crt": base64.b64encode(b"\xff\xfe").decode()}}).ca
