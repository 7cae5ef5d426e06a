"""`fedgate analyze`: what is said of documents together, in istioctl's form."""

from datetime import UTC, datetime

import pytest

from discovery.document import Origin
from federation.analyze.finding import Finding, Level
from federation.analyzing import at_least, findings_in, message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODE = """apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate, labels: {istio: ingressgateway}}
spec: {cluster: east%s}
---
"""
GATEWAY = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
"""
ROUTE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: shop}
spec: {hosts: [a.example], gateways: [web], http: [{route: [
  {destination: {
    host: b.example}}]}]}
---
"""
ENTRY = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b, namespace: shop}
spec: {hosts: [b.example], resolution: %s, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: %s}]}
---
"""


@pytest.fixture
def analyzed(tmp_path):
    def found(*texts):
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.yaml").write_text(text)
        return [str(message(each)).replace(f"{tmp_path}/", "") for each in findings_in([tmp_path], NOW)]

    return found


def test_documents_of_several_files_are_judged_together(analyzed):
    assert analyzed(NODE % "" + GATEWAY, ROUTE, ENTRY % ("STATIC", "127.0.0.1")) == []
    (line,) = analyzed(NODE % "" + GATEWAY, ROUTE, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")
    assert line.startswith("Error [IST0101] (VirtualService shop/vs 1.yaml:6) spec.http[0].route[0].destination.host: nobody knows")


def test_a_service_whose_endpoints_are_names_is_known(analyzed):
    assert analyzed(NODE % "" + GATEWAY + ROUTE + ENTRY % ("DNS", "b.internal")) == []
    dns = ", sources: [{name: d, dns: {services: [{host: b.example, ports: [{number: 80, name: http, protocol: HTTP}]}]}}]"
    assert analyzed(NODE % dns + GATEWAY + ROUTE) == []


def test_what_registries_may_know_is_not_judged(analyzed):
    (line,) = analyzed(NODE % ", sources: [{name: hashi, consul: {}}]" + GATEWAY + ROUTE)
    assert line.startswith("Info [FG0003] (Node fedgate/gw 0.yaml:1) sources are not asked (hashi): ")
    (line,) = analyzed(NODE % ", resources: [{consul: {prefix: a}}]" + GATEWAY + ENTRY % ("STATIC", "127.0.0.1"))
    assert line.startswith("Info [FG0003] (Node fedgate/gw 0.yaml:1) the documents of spec.resources are not read")


def test_without_a_node_every_gateway_is_meant(analyzed):
    (line,) = analyzed(GATEWAY + ROUTE + ENTRY % ("STATIC", "127.0.0.1"))
    assert line.startswith("Info [FG0003] (Node any) no Node is among the documents")
    assert analyzed(ENTRY % ("STATIC", "127.0.0.1")) == []


def test_every_node_is_asked_and_what_they_all_say_is_said_once(analyzed):
    two = NODE % "" + (NODE % ", defaults: istio").replace("name: gw", "name: other")
    found = analyzed(two + GATEWAY + ROUTE)
    assert [line[:16] for line in found] == ["Error [IST0101] "]


def test_the_gravest_come_first_with_faults_and_warnings_of_single_documents(analyzed):
    rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: %s}\nspec: {host: h, %s}\n---\n"
    found = analyzed(
        NODE % "" + "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n",
        rule % ("warned", "trafficPolicy: {outlierDetection: {consecutiveErrors: 5}}") + rule % ("wrong", "hots: a"),
        "a: [",
    )
    assert [line.partition(")")[0] for line in found] == [
        "Error [IST0106] (DestinationRule wrong 1.yaml:9",
        "Error [IST0106] (2.yaml:1",
        "Warning [IST0133] (DestinationRule warned 1.yaml:4",
        "Info [IST0133] (Deployment d 0.yaml:7",
    ]


def test_what_cannot_be_read_is_a_finding(tmp_path):
    (found,) = findings_in([tmp_path / "gone.yaml"], NOW)
    assert (found.code, found.level, found.origin.file) == ("IST0106", Level.ERROR, str(tmp_path / "gone.yaml"))


def test_levels():
    found = [Finding("C", level, "K", "n", "m", Origin("f", 1)) for level in Level]
    assert [each.level for each in at_least(Level.INFO, found)] == list(Level)
    assert [each.level for each in at_least(Level.WARNING, found)] == [Level.ERROR, Level.WARNING]
    assert [each.level for each in at_least(Level.ERROR, found)] == [Level.ERROR]


def test_a_message_without_a_place_has_no_parentheses():
    assert str(message(Finding("C", Level.INFO, "", "", "m", Origin("")))) == "Info [C] m"
