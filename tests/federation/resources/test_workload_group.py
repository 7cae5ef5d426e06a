"""WorkloadGroup documents: as Istio's reference shows them, and what is wrong with others."""

import pytest
from written import assert_one_error, spec

from discovery.document import parse
from discovery.model import Locality
from federation.resources.read import read
from federation.resources.workload_group import NETWORKS, TOKENS, networks, token_sums

WHOLE = """
metadata:
  labels: {app.kubernetes.io/name: reviews, version: v3}
  annotations: {note: old}
template:
  ports: {grpc: 3550, http: 8080}
  serviceAccount: default
  locality: eu/eu-1
  labels: {class: vm}
  weight: 2
probe:
  initialDelaySeconds: 5
  timeoutSeconds: 3
  periodSeconds: 4
  successThreshold: 3
  failureThreshold: 2
  httpGet: {path: /foo/bar, host: 127.0.0.1, port: 3100, scheme: HTTPS, httpHeaders: [{name: Lit-Header, value: Im-The-Best}]}
"""


def test_a_whole_one():
    group = spec("WorkloadGroup", WHOLE)
    assert group.template.ports == {"grpc": 3550, "http": 8080}
    assert group.template.locality == Locality("eu", "eu-1")
    assert (group.probe.timeout, group.probe.period, group.probe.failure_threshold) == (3.0, 4.0, 2)
    assert group.probe.http_get.scheme == "HTTPS"
    assert group.probe.http_get.http_headers[0].name == "Lit-Header"


def test_numbers_that_are_not_written_are_kubernetes_own():
    probe = spec("WorkloadGroup", "template: {}\nprobe: {tcpSocket: {port: 80}}").probe
    assert (probe.timeout, probe.period) == (1.0, 10.0)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("metadata: {}", "spec.template", "required"),
        ("template: {address: 10.0.0.1}", "spec.template.address", "its own address"),
        ("template: {ports: {'@': 1}}", "spec.template.ports.@", "no port name"),
        ("template: {ports: {a: 70000}}", "spec.template.ports.a", "70000"),
        ("template: {}\nprobe: {exec: {command: [ls]}}", "spec.probe.exec", "cannot run commands on the workload; write httpGet"),
        ("template: {}\nprobe: {}", "spec.probe", "in one way, this one in 0"),
        ("template: {}\nprobe: {tcpSocket: {port: 1}, grpc: {port: 1}}", "spec.probe", "in one way, this one in 2"),
        ("template: {}\nprobe: {tcpSocket: {port: 0}}", "spec.probe.tcpSocket.port", "0"),
        ("template: {}\nprobe: {tcpSocket: {port: 1, host: a.example}}", "spec.probe.tcpSocket.host", "must be an IP"),
        ("template: {}\nprobe: {periodSeconds: -1, tcpSocket: {port: 1}}", "spec.probe.periodSeconds", "-1"),
        ("template: {}\nprobe: {httpGet: {port: 1, path: healthz}}", "spec.probe.httpGet.path", "begin it with /"),
        ("template: {}\nprobe: {httpGet: {port: 1, path: '/a b'}}", "spec.probe.httpGet.path", "percent-encoded"),
        ("template: {}\nprobe: {httpGet: {port: 1, scheme: FTP}}", "spec.probe.httpGet.scheme", "HTTP or HTTPS"),
        (
            "template: {}\nprobe: {httpGet: {port: 1, httpHeaders: [{name: 'a b'}]}}",
            "spec.probe.httpGet.httpHeaders[0].name",
            "no header name",
        ),
        (
            'template: {}\nprobe: {httpGet: {port: 1, httpHeaders: [{name: a, value: "x\\ny"}]}}',
            "spec.probe.httpGet.httpHeaders[0].value",
            "no header value",
        ),
    ],
)
def test_what_is_wrong_is_said(text, path, words):
    assert_one_error("WorkloadGroup", text, path, words)


def test_several_tokens_may_be_named():
    one, two = "a" * 64, "B" * 64
    assert token_sums({TOKENS: f"{one}, {two}"}) == (one, two.lower())
    assert token_sums({}) == ()


GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata:
  name: reviews
  annotations:
    {annotation}: "{value}"
spec: {{template: {{}}}}
"""


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (TOKENS, "a" * 64, []),
        (TOKENS, f"{'a' * 64}, {'B' * 64}", []),
        (TOKENS, "", []),
        (TOKENS, f"{'a' * 64},open-sesame", ["sum 2 is not 64 hexadecimal digits"]),
        (TOKENS, "a" * 63, ["`fedgate workload token` makes a token and its sum"]),
        (NETWORKS, "10.1.0.0/16, fd00::/8", []),
        (NETWORKS, "10.1.0.0/16, 10.2.0.0/33, x", ["`10.2.0.0/33` is no network", "`x` is no network"]),
        (NETWORKS, "", ["`` is no network"]),
    ],
)
def test_annotations_that_open_nothing_are_faults_with_their_place(annotation, value, words):
    documents, _ = parse(GROUP.format(annotation=annotation, value=value), "group.yaml")
    read_ = read(documents)
    assert len(read_.problems) == len(words)
    assert len(read_.workload_groups) == (not words)
    for problem, word in zip(read_.problems, words, strict=True):
        assert problem.path == f"metadata.annotations.{annotation}"
        assert problem.line == 7
        assert word in problem.message
        assert "open-sesame" not in str(problem)  # it may be the token itself


@pytest.mark.parametrize("value", ["", "nonsense"])
def test_what_is_no_network_holds_no_address(value):
    assert networks({NETWORKS: value}) == ()
    assert networks({}) is None
