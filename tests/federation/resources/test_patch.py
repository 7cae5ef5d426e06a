"""Mending a tree so that the rest of it can be judged."""

import pytest

from federation.resources.fedgate import Peer
from federation.resources.gateway import Gateway
from federation.resources.kubernetes import EndpointSlice
from federation.resources.patch import cut, filled
from federation.resources.virtual_service import VirtualService


def test_cut_takes_the_smallest_thing_that_moves_no_neighbour():
    tree = {"a": [{"b": 1, "c": 2}, 3]}
    assert cut(tree, ("a", 0, "b")) == ("a", 0, "b")
    assert tree == {"a": [{"c": 2}, 3]}
    assert cut(tree, ("a", 1)) == ("a",)
    assert tree == {}
    assert cut(tree, ("a",)) is None
    assert cut([], ()) is None


@pytest.mark.parametrize(
    ("model", "tree", "path", "after"),
    [
        (Gateway, {"servers": [{"hosts": []}]}, ("servers", 0, "port"), {"servers": [{"hosts": [], "port": {}}]}),
        (Gateway, {"servers": [{"port": {}}]}, ("servers", 0, "port", "number"), {"servers": [{"port": {"number": 1}}]}),
        (Gateway, {"servers": ["x"]}, ("servers", 0), {"servers": [{}]}),
        (Gateway, {}, ("servers",), {"servers": []}),
        (VirtualService, {"hosts": [5]}, ("hosts", 0), {"hosts": ["x"]}),
        (Peer, {"addresses": [5]}, ("addresses", 0), {"addresses": [("x", 1)]}),
    ],
)
def test_what_has_to_be_there_gets_something_of_its_type(model, tree, path, after):
    assert filled(tree, model, path) == path
    assert tree == after


def test_an_enum_gets_a_member():
    tree = {}
    assert filled(tree, EndpointSlice, ("addressType",)) == ("addressType",)
    assert EndpointSlice.model_validate(tree).endpoints == ()


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({}, ()),
        ({}, ("gateways",)),
        ({}, ("nonsense",)),
        ({"hosts": "a"}, ("hosts", 0)),
        ({"hosts": []}, ("hosts", 3)),
        ({"http": 5}, ("http", "a")),
    ],
)
def test_what_may_be_missing_gets_none(tree, path):
    before = dict(tree)
    assert filled(tree, VirtualService, path) is None
    assert tree == before
