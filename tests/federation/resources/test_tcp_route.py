"""tls and tcp routes: what may be written."""

import pytest
from written import assert_one_error, spec, warnings

TO_A = "route: [{destination: {host: a}}]"


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("tcp: [{}]", "tcp[0].route", "leads nowhere"),
        ("tcp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]", "tcp[0].route", "weights add up to 0"),
        ("tcp: [{route: [{destination: {host: a}, weight: -1}]}]", "tcp[0].route[0].weight", "0 or more"),
        (f"tcp: [{{match: [{{port: 70000}}], {TO_A}}}]", "tcp[0].match[0].port", "1..65535"),
        (
            f"tcp: [{{match: [{{destinationSubnets: [10.0.0.0/33]}}], {TO_A}}}]",
            "tcp[0].match[0].destinationSubnets[0]",
            "no subnet",
        ),
        (f"tcp: [{{match: [{{gateways: [a/b/c]}}], {TO_A}}}]", "tcp[0].match[0].gateways[0]", "names no Gateway"),
        (f"tcp: [{{match: [{{sniHosts: [x.a]}}], {TO_A}}}]", "tcp[0].match[0].sniHosts", "unknown field"),
        (f"tls: [{{{TO_A}}}]", "tls[0].match", "at least one match"),
        (f"tls: [{{match: [{{sniHosts: []}}], {TO_A}}}]", "tls[0].match[0].sniHosts", "at least one server name"),
        (f"tls: [{{match: [{{port: 1}}], {TO_A}}}]", "tls[0].match[0].sniHosts", "is required"),
        (f"tls: [{{match: [{{sniHosts: [x.*.a]}}], {TO_A}}}]", "tls[0].match[0].sniHosts[0]", "left-most"),
        (f"tls: [{{match: [{{sniHosts: [other.b]}}], {TO_A}}}]", "tls[0].match[0].sniHosts[0]", "within none of the hosts"),
    ],
)
def test_mistakes(body, path, part):
    assert_one_error("VirtualService", f"hosts: ['*.a']\ngateways: [g]\n{body}", f"spec.{path}", part)


def test_routes():
    said = spec(
        "VirtualService",
        f"""
        hosts: ['*.a', b]
        gateways: [g]
        tls:
        - match: [{{sniHosts: [x.a, '*.y.a', B], port: 443, destinationSubnets: [10.0.0.1, 'fd00::/8'], gateways: [g]}}]
          {TO_A}
        tcp:
        - match: [{{port: 3306}}, {{sourceSubnet: 10.0.0.0/8}}]
          {TO_A}
        """,
    )
    assert said.tls[0].match[0].sni_hosts == ("x.a", "*.y.a", "B")
    assert said.tcp[0].match[0].port == 3306


def test_warnings():
    body = f"""
    hosts: ['*.a', 10.0.0.1]
    gateways: [g]
    tls: [{{match: [{{sniHosts: [10.0.0.1], sourceLabels: {{a: b}}, sourceNamespace: c}}], {TO_A}}}]
    tcp: [{{{TO_A}}}, {{match: [{{port: 1}}], {TO_A}}}]
    """
    found = warnings("VirtualService", body)
    assert set(found) == {
        "spec.tls[0].match[0].sniHosts[0]",
        "spec.tls[0].match[0].sourceLabels",
        "spec.tls[0].match[0].sourceNamespace",
        "spec.tcp[1]",
    }
    assert "clients send no address" in found["spec.tls[0].match[0].sniHosts[0]"]
    assert "tcp[0] has no match" in found["spec.tcp[1]"]
