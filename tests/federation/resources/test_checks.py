"""Rules that several messages share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.resources import checks


@pytest.mark.parametrize("host", ["reviews", "a.b", "*", "*.example.com", "A.b-c.example", "a.b.", "x" * 63 + ".y", "1a.b"])
def test_hosts(host):
    assert checks.host_fault(host) is None


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("", "empty"),
        ("a.*.b", "left-most"),
        ("*a.b", "left-most"),
        ("*.", "left-most"),
        ("*.*.b", "left-most"),
        ("**", "left-most"),
        ("a..b", "label"),
        ("-a.b", "label"),
        ("a_b.c", "label"),
        ("x" * 64, "label"),
        ("a.5", "number"),
        ("10.0.0.1", "number"),
        ("a b", "label"),
        ("a.b\n", "label"),
        ("x." * 200, "characters"),
    ],
)
def test_no_hosts(host, part):
    assert part in checks.host_fault(host)


def test_a_wildcard_where_a_name_is_needed():
    assert "wildcard" in checks.host_fault("*.a.b", wildcard=False)


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("(?=a)", "RE2 refuses"),
        (r"(a)\1", "RE2 refuses"),
        ("[", "missing ]"),
        ("", "empty"),
        ("a" * 1025, "1025 characters"),
        ("\udc80", "RE2 refuses"),
    ],
)
def test_refuses_the_regex_that_re2_refuses_with_its_reason(pattern, part, capfd):
    assert part in checks.regex_fault(pattern)
    assert capfd.readouterr().err == ""  # RE2 does not log by itself


def test_accepts_what_re2_accepts():
    assert checks.regex_fault(r"/v\d+/(?i:items)/.*") is None


@pytest.mark.parametrize("value", ["a\nb", "\x00", "\x7f"])
def test_header_values_without_control_characters(value):
    assert checks.header_value_fault(value)


def test_header_values():
    assert checks.header_value_fault("100%% tab\t ü") is None
    assert checks.header_name_fault("x-Ok_1") is None
    assert "no header name" in checks.header_name_fault("a b")
    assert "no header name" in checks.header_name_fault("")


def paths(faults):
    return [(one.path, one.warning) for one in faults]


def test_labels():
    right = {"app": "x", "app.kubernetes.io/name": "a_b.c-d", "empty": ""}
    assert paths(checks.label_faults(right, ("labels",))) == []
    wrong = {"-a": "x", "a": "b c", "/a": "x", "A_/a": "x", "b/": "x", "c": "x" * 64}
    assert [path[1] for path, _ in paths(checks.label_faults(wrong, ("labels",)))] == list(wrong)


@pytest.mark.parametrize("values", [(), ("*",), (".",)])
def test_export_to(values):
    assert paths(checks.export_to_faults(values)) == []


@pytest.mark.parametrize(
    ("values", "part"),
    [
        (("~",), "no namespace"),
        (("a_b",), "no namespace"),
        (("shop", "shop"), "twice"),
        ((".", "."), "twice"),
        (("*", "."), "already means everywhere"),
    ],
)
def test_no_export_to(values, part):
    (fault,) = checks.export_to_faults(values)
    assert part in fault.message


def test_gateway_names():
    assert paths(checks.gateway_name_faults(["mesh", "a", "ns/a"])) == []
    assert paths(checks.gateway_name_faults(["a.ns", "a/b/c", "/a", "A", ""])) == [
        (("gateways", 0), True),
        (("gateways", 1), False),
        (("gateways", 2), False),
        (("gateways", 3), False),
        (("gateways", 4), False),
    ]


def test_ranges_and_ports():
    assert checks.range_fault(None, 1) is None
    assert checks.range_fault(0, 0) is None
    assert "0..100" in checks.range_fault(101, 0, 100)
    assert "or more" in checks.range_fault(-1, 0)
    assert "at most" in checks.range_fault(2**31, 0)
    assert "that many digits" in checks.range_fault(10**5000, 0)
    assert checks.port_fault(0, zero=True) is None
    assert all("1..65535" in checks.port_fault(number) for number in (0, -1, 65536))


def test_resource_names():
    assert checks.resource_name_fault("a.b-c") is None
    assert all(checks.resource_name_fault(name) for name in ("", "A", "a_b", "a" * 254, "-a", "a."))


def test_duplicates_say_where_the_later_one_stands():
    assert list(checks.duplicates(["a", "b", "a", "a"])) == [(2, "a"), (3, "a")]


@given(st.text())
def test_no_text_makes_a_rule_raise(text):
    for rule in (
        checks.host_fault,
        checks.regex_fault,
        checks.header_name_fault,
        checks.header_value_fault,
        checks.resource_name_fault,
    ):
        assert rule(text) is None or isinstance(rule(text), str)
    list(checks.label_faults({text: text}, ()))
