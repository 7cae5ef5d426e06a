"""Delegation: which matches are subsets, and what a delegate's route inherits (cases of Istio's own tests among them)."""

from __future__ import annotations

import pytest

from federation.compile.delegates import conflicts, merged_route
from federation.resources.destination import Destination
from federation.resources.header import HeaderOperations, Headers
from federation.resources.match import HTTPMatchRequest, StringMatch
from federation.resources.route import HTTPRetry, HTTPRewrite
from federation.resources.scalars import ms
from federation.resources.virtual_service import HTTPRoute


def exact(value: str) -> StringMatch:
    return StringMatch(exact=value)


def prefix(value: str) -> StringMatch:
    return StringMatch(prefix=value)


def regex(value: str) -> StringMatch:
    return StringMatch(regex=value)


@pytest.mark.parametrize(
    ("root", "leaf", "conflict"),
    [
        ({}, {}, False),
        ({"uri": prefix("/a")}, {}, False),
        ({}, {"uri": prefix("/a")}, False),
        ({"uri": prefix("/a")}, {"uri": prefix("/a/b")}, False),
        ({"uri": prefix("/a/b")}, {"uri": prefix("/a")}, True),
        ({"uri": prefix("/a")}, {"uri": exact("/a/b")}, False),
        ({"uri": prefix("/a")}, {"uri": exact("/b")}, True),
        ({"uri": exact("/a")}, {"uri": exact("/a")}, False),
        ({"uri": exact("/a")}, {"uri": exact("/b")}, True),
        ({"uri": exact("/a/b")}, {"uri": prefix("/a")}, True),
        ({"uri": regex("^/a")}, {"uri": exact("/a")}, True),
        ({"uri": regex("^/a")}, {"uri": regex("^/a")}, True),
        ({"uri": prefix("/a")}, {"uri": regex("/a.*")}, True),
        ({"method": exact("GET")}, {"method": exact("POST")}, True),
        ({"authority": prefix("a")}, {"authority": exact("ab")}, False),
        ({"scheme": exact("http")}, {"scheme": exact("https")}, True),
        ({"headers": {"h": exact("1")}}, {"headers": {"h": exact("2")}}, True),
        ({"headers": {"h": exact("1")}}, {"headers": {"i": exact("2")}}, False),
        ({"headers": {"h": StringMatch()}}, {"headers": {"h": exact("2")}}, True),  # as in Istio: presence compares with nothing
        ({"without_headers": {"h": prefix("1")}}, {"without_headers": {"h": prefix("2")}}, True),
        ({"query_params": {"q": exact("1")}}, {"query_params": {"q": exact("1")}}, False),
        ({"query_params": {"q": exact("1")}}, {"query_params": {"q": exact("2")}}, True),
        ({"port": 80}, {"port": 81}, True),
        ({"port": 80}, {}, False),
        ({"ignore_uri_case": True}, {}, True),
        ({"source_namespace": "a"}, {}, True),
        ({"source_namespace": "a"}, {"source_namespace": "a"}, False),
        ({"source_labels": {"a": "b"}}, {"source_labels": {"a": "c"}}, True),
        ({"source_labels": {"a": "b"}}, {"source_labels": {"d": "c"}}, False),
        ({"gateways": ("a/a", "b/b")}, {"gateways": ("b/b",)}, False),
        ({"gateways": ("a/a",)}, {"gateways": ("b/b",)}, True),
        ({"gateways": ("a/a",)}, {"gateways": ("a/a", "b/b")}, True),
    ],
)
def test_what_is_no_subset(root: dict, leaf: dict, conflict: bool) -> None:
    assert conflicts(HTTPMatchRequest(**root), HTTPMatchRequest(**leaf)) is conflict


def match(**fields: object) -> HTTPMatchRequest:
    return HTTPMatchRequest(**fields)


def test_each_leaf_is_joined_to_every_root_match_that_covers_it() -> None:
    root = HTTPRoute(match=(match(uri=prefix("/a"), name="r"), match(headers={"h": exact("1")}), match(uri=prefix("/z"))))
    leaf = HTTPRoute(match=(match(uri=prefix("/a/b"), name="l", stat_prefix="s"),))
    merged = merged_route(root, leaf)
    assert merged is not None
    assert merged.match == (
        match(uri=prefix("/a/b"), name="r-l", stat_prefix="s"),
        match(uri=prefix("/a/b"), headers={"h": exact("1")}, name="l", stat_prefix="s"),
    )


def test_one_leaf_without_a_root_match_takes_the_route_out() -> None:
    root = HTTPRoute(match=(match(uri=prefix("/a")),))
    assert merged_route(root, HTTPRoute(match=(match(uri=prefix("/a/b")), match(uri=prefix("/c"))))) is None
    assert merged_route(HTTPRoute(), HTTPRoute(match=(match(uri=prefix("/c")),))) is not None
    without = merged_route(root, HTTPRoute())
    assert without is not None
    assert without.match == root.match


ROOT = HTTPRoute(
    name="root",
    rewrite=HTTPRewrite(uri="/root"),
    timeout=ms(1000),
    retries=HTTPRetry(attempts=1),
    mirror=Destination(host="root.mirror"),
    headers=Headers(request=HeaderOperations(set={"x": "root"})),
)


def test_what_the_delegate_does_not_say_the_root_says() -> None:
    merged = merged_route(ROOT, HTTPRoute())
    assert merged == ROOT
    own = HTTPRoute(
        name="leaf",
        rewrite=HTTPRewrite(uri="/leaf"),
        timeout=ms(2000),
        retries=HTTPRetry(attempts=2),
        mirror=Destination(host="leaf.mirror"),
        headers=Headers(response=HeaderOperations(set={"x": "leaf"})),
    )
    assert merged_route(ROOT, own) == own.model_copy(update={"name": "root-leaf"})
