"""All rules together."""

from analysed import findings, inputs, shop

from federation.analyze.analyze import RULES, analyze


def test_findings_come_once_and_in_order():
    text = shop(destination="{host: many, subset: v9}", gateways="[web, gone]", credential="elsewhere")
    found = findings(text)
    assert [finding.code for finding in found] == ["IST0101", "IST0101", "IST0101", "IST0112"]
    assert [finding.origin for finding in found] == sorted(finding.origin for finding in found)
    assert len(set(found)) == len(found)
    assert analyze(inputs(text)) == found


def test_every_rule_says_what_it_looks_for():
    assert all(rule.__doc__ for rule in RULES)
    assert len(set(RULES)) == len(RULES)
