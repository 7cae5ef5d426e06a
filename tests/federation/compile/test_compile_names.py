"""Hosts: resolving, covering, the narrower of two, and the names made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Endpoint, Locality
from federation.compile import names


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("Reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.other", "reviews.other"),
        ("api.example.com", "api.example.com"),
        ("*", "*"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_only_names_without_a_dot_are_short(host: str, full: str) -> None:
    assert names.resolve(host, "shop", "cluster.local") == full


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("*", "a.example.com", True),
        ("*", "*.example.com", True),
        ("a.example.com", "a.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "*.b.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),  # trap 1
        ("*.b.example.com", "*.example.com", False),
        ("a.example.com", "*.example.com", False),
        ("a.example.com", "b.example.com", False),
        ("*.example.com", "badexample.com", False),
    ],
)
def test_covers(pattern: str, host: str, covered: bool) -> None:
    assert names.covers(pattern, host) is covered


_labels = st.sampled_from(["a", "b", "c"])
_patterns = st.builds(
    lambda wild, parts: ("*." if wild else "") + ".".join(parts), st.booleans(), st.lists(_labels, min_size=1, max_size=4)
)


@given(_patterns, _patterns)
def test_the_intersection_is_covered_by_both_and_does_not_depend_on_the_order(first: str, second: str) -> None:
    common = names.intersection(first, second)
    assert common == names.intersection(second, first)
    if common is not None:
        assert names.covers(first, common)
        assert names.covers(second, common)


def test_the_most_specific_pattern_wins() -> None:
    patterns = ["*", "*.example.com", "*.shop.example.com", "a.shop.example.com"]
    assert names.most_specific(patterns, "a.shop.example.com") == "a.shop.example.com"
    assert names.most_specific(patterns, "b.shop.example.com") == "*.shop.example.com"
    assert names.most_specific(patterns, "example.org") == "*"
    assert names.most_specific(["*.example.com"], "example.com") is None


@pytest.mark.parametrize(
    ("export_to", "viewer", "seen"),
    [
        ([], "edge", True),
        (["*"], "edge", True),
        (["."], "edge", False),
        (["."], "shop", True),
        (["edge"], "edge", True),
        (["~"], "shop", False),
    ],
)
def test_export_to(export_to: list[str], viewer: str, seen: bool) -> None:
    assert names.visible(export_to, "shop", viewer) is seen


def test_gateway_hosts_carry_a_namespace() -> None:
    assert names.split_gateway_host("shop/A.example.com", "edge") == ("shop", "a.example.com")
    assert names.split_gateway_host("./a.example.com", "edge") == ("edge", "a.example.com")
    assert names.split_gateway_host("*/a.example.com", "edge") == ("*", "a.example.com")
    assert names.split_gateway_host("a.example.com", "edge") == ("*", "a.example.com")


def test_names_of_backends_endpoints_and_snis_are_istios() -> None:
    assert names.backend_name("a.b", 80, "v1") == "outbound|80|v1|a.b"
    assert names.backend_name("a.b", 80, direction="inbound") == "inbound|80||a.b"
    assert names.service_sni("web.ns.svc.cluster.local", 80) == "outbound_.80_._.web.ns.svc.cluster.local"
    assert names.service_sni("web.ns.svc.cluster.local", 80, "v1") == "outbound_.80_.v1_.web.ns.svc.cluster.local"
    assert names.gateway_identity("west.example.com") == "spiffe://west.example.com/ns/fedgate/sa/gateway"
    assert names.endpoint_id(Endpoint("10.0.0.1"), 80) == "10.0.0.1:80"
    assert names.endpoint_id(Endpoint("fd00::1"), 80) == "[fd00::1]:80"
    assert names.endpoint_id(Endpoint("/run/app.sock"), 0) == "/run/app.sock"
    far = Endpoint("192.0.2.1", peer="west", locality=Locality("us-west", "a"))
    assert names.endpoint_id(far, 15443) == "west/us-west/a/192.0.2.1:15443"
    assert names.endpoint_group(far) == "west/us-west/a"
