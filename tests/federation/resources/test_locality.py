"""distribute, failoverPriority and zone-aware settings as they are written (FIELD i3 to i7)."""

import pytest
from written import assert_one_error, errors, spec, warnings

from federation.resources.locality import overlaps

SETTING = "host: a\ntrafficPolicy: {outlierDetection: {}, loadBalancer: {%s: {%s}}}"
AT = "spec.trafficPolicy.loadBalancer"


def locality(text: str) -> str:
    return SETTING % ("localityLbSetting", text)


def test_every_field():
    said = spec("DestinationRule", locality("enabled: true, distribute: [{from: r1/z1/*, to: {r1/z1/*: 80, 'r2/*': 20}}]"))
    (rule,) = said.traffic_policy.load_balancer.locality_lb_setting.distribute
    assert (rule.from_, rule.to) == ("r1/z1/*", {"r1/z1/*": 80, "r2/*": 20})
    said = spec("DestinationRule", locality("failoverPriority: [topology.istio.io/network, 'v=1']"))
    assert said.traffic_policy.load_balancer.locality_lb_setting.failover_priority == ("topology.istio.io/network", "v=1")
    said = spec(
        "DestinationRule",
        SETTING % ("zoneAwareLbSetting", "enabled: true, minClusterSize: 3, failover: [{from: a, to: b}], failoverPriority: [x]"),
    )
    assert said.traffic_policy.load_balancer.zone_aware_lb_setting.min_cluster_size == 3


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("distribute: [{from: a, to: {a: 101}}]", "", "in range [1, 100]"),
        ("distribute: [{from: a, to: {a: 0, b: 100}}]", ".distribute[0].to.a", "locality weight must be in range [1, 100]"),
        ("distribute: [{from: a, to: {a: 60, b: 30}}]", ".distribute[0].to", "total locality weight 90 != 100"),
        ("distribute: [{from: a}]", ".distribute[0].to", "total locality weight 0 != 100"),
        ("distribute: [{to: {a: 100}}]", ".distribute[0].from", "is empty"),
        ("distribute: [{from: a/*/c, to: {a: 100}}]", ".distribute[0].from", "must be in the end"),
        ("distribute: [{from: a//c, to: {a: 100}}]", ".distribute[0].from", "must not contain empty"),
        ("distribute: [{from: a/b/c/d, to: {a: 100}}]", ".distribute[0].from", "region/zone/subzone"),
        ("distribute: [{from: a, to: {a: 100}}, {from: a/b, to: {a: 100}}]", ".distribute[1].from", "overlap"),
        ("distribute: [{from: a, to: {a: 50, a/b: 50}}]", ".distribute[0].to.a/b", "overlap"),
        (
            "distribute: [{from: a, to: {a: 100}}], failover: [{from: a, to: b}]",
            "",
            "simultaneously specify 'distribute' and 'failover'",
        ),
        (
            "failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/region]",
            ".failoverPriority[0]",
            "can not simultaneously set 'failover' and topology label",
        ),
        ("failoverPriority: ['']", ".failoverPriority[0]", "is empty"),
        ("failoverPriority: [a, a]", ".failoverPriority[1]", "written twice"),
    ],
)
def test_mistakes(text, path, part):
    found = errors("DestinationRule", locality(text))
    assert any(part in message and where.startswith(f"{AT}.localityLbSetting{path}") for where, message in found.items()), found


@pytest.mark.parametrize("label", ["topology.kubernetes.io/region", "topology.kubernetes.io/zone=z", "topology.istio.io/subzone"])
def test_zone_aware_ranks_no_zones(label):
    text = SETTING % ("zoneAwareLbSetting", f"failoverPriority: ['{label}']")
    assert_one_error("DestinationRule", text, f"{AT}.zoneAwareLbSetting.failoverPriority[0]", "topology label")


def test_both_settings_exclude_each_other():
    text = "host: a\ntrafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}, zoneAwareLbSetting: {enabled: true}}}"
    assert_one_error("DestinationRule", text, AT, "only one of")


def test_distribute_makes_labels_idle():
    text = locality("distribute: [{from: a, to: {a: 100}}], failoverPriority: [x]")
    assert "does nothing" in str(warnings("DestinationRule", text))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a", "a/b", True),
        ("a/*", "a/b/c", True),
        ("*", "x", True),
        ("a/b", "a/c", False),
        ("a", "ab", False),
        ("a/b/*", "a/b", True),
    ],
)
def test_overlap(one, other, expected):
    assert overlaps(one, other) is overlaps(other, one) is expected
