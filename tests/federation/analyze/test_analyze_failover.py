"""Failover that would not happen."""

import pytest
from analysed import findings
from hypothesis import given
from hypothesis import strategies as st

from federation.analyze.failover import ejectable_of, kept_percent
from federation.analyze.finding import Level


def service(localities: list[str]) -> str:
    endpoints = ", ".join(f"{{address: 10.0.0.{number}, locality: {place}}}" for number, place in enumerate(localities, 1))
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a, namespace: shop}}
spec:
  hosts: [a.example]
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{endpoints}]
---
"""


def rule(policy: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a, namespace: shop}}
spec:
  host: a.example
  trafficPolicy: {{{policy}}}
---
"""


TWO_AND_TWO = service(["us-east/a", "us-east/a", "us-west/a", "us-west/a"])


def codes(text, defaults="istio"):
    return [finding.code for finding in findings(text, defaults)]


def test_istios_trap_is_named():
    (finding,) = findings(TWO_AND_TWO, "istio")
    assert (finding.code, finding.level, finding.kind) == ("FG0001", Level.WARNING, "Node")
    assert "inert" in finding.message
    assert "us-east/a, us-west/a alike" in finding.message
    (finding,) = findings(TWO_AND_TWO + rule("loadBalancer: {simple: RANDOM}"), "istio")
    assert (finding.kind, finding.name) == ("DestinationRule", "a")


@pytest.mark.parametrize(
    "policy",
    [
        "outlierDetection: {maxEjectionPercent: 100}",
        "loadBalancer: {localityLbSetting: {enabled: false}}",
        "loadBalancer: {localityLbSetting: {distribute: [{from: '*', to: {us-east: 80, us-west: 20}}]}}",
        "loadBalancer: {zoneAwareLbSetting: {enabled: true}}",
    ],
)
def test_no_trap_where_it_was_sprung_or_is_wanted(policy):
    assert codes(TWO_AND_TWO + rule(policy)) == []


def test_no_trap_in_one_place_nor_under_our_defaults():
    assert codes(service(["us-east/a", "us-east/a"])) == []
    assert codes(TWO_AND_TWO, "fedgate") == []


def test_a_cap_that_makes_failover_impossible_is_shown_with_its_arithmetic():
    (finding,) = findings(TWO_AND_TWO + rule("outlierDetection: {}"), "istio")
    assert finding.code == "FG0002"
    assert "impossible for 4 endpoints: 10 % of 4 ejects 0, the nearest locality has 2" in finding.message
    assert "min(100, 140·2/2) = 100 %" in finding.message


def test_a_cap_that_makes_it_incomplete():
    (finding,) = findings(TWO_AND_TWO + rule("outlierDetection: {maxEjectionPercent: 25}"), "fedgate")
    assert finding.code == "FG0002"
    assert "incomplete for 4 endpoints: 25 % of 4 ejects 1" in finding.message
    assert "= 70 % of the traffic" in finding.message


def test_a_cap_that_does_not_matter():
    assert codes(TWO_AND_TWO + rule("outlierDetection: {maxEjectionPercent: 50}")) == []
    assert codes(service(["us-east/a", "us-east/a"]) + rule("outlierDetection: {}")) == []  # nowhere to go
    assert codes(service(["us-west/a", "us-west/a"]) + rule("outlierDetection: {}")) == []


def test_active_checks_are_not_held_back_by_the_cap():
    checked = """
apiVersion: fedgate.io/v1
kind: ServicePolicy
metadata: {name: a}
spec: {hosts: [a.example], healthCheck: {tcp: {}}}
"""
    assert codes(TWO_AND_TWO + rule("outlierDetection: {}") + checked) == []


# Envoy 1.40, tried: of 3 hosts 34 and 66 % eject 1, 67 % ejects 2, 10 % none.
@pytest.mark.parametrize(
    ("hosts", "percent", "ejected"), [(3, 10, 0), (3, 34, 1), (3, 66, 1), (3, 67, 2), (10, 10, 1), (4, 100, 4)]
)
def test_how_many_may_be_ejected(hosts, percent, ejected):
    assert ejectable_of(hosts, percent) == ejected


@given(st.integers(1, 1000), st.integers(0, 100))
def test_ejecting_follows_envoys_condition(hosts, percent):
    ejected = 0
    while ejected < hosts and 100 * (ejected + 1) / hosts <= percent:
        ejected += 1
    assert ejectable_of(hosts, percent) == ejected


@pytest.mark.parametrize(("near", "ejected", "kept"), [(3, 1, 93), (3, 2, 46), (4, 1, 100), (7, 2, 100), (10, 3, 98), (2, 2, 0)])
def test_what_a_priority_keeps(near, ejected, kept):
    assert kept_percent(near, ejected) == kept
