"""Header values made for one request."""

import msgspec
import pytest

from gateway.policy.substitution import FACTS, OPERATORS, Changes, Value, reads_request
from gateway.snapshot import HeaderOperations, Operator, Template


class Known:
    """Facts as a test has them."""

    def __init__(self, request=(), response=(), **told):
        self.request, self.response, self.facts = dict(request), dict(response), told

    def requested(self, name):
        return self.request.get(name)

    def answered(self, name):
        return self.response.get(name)

    def told(self, fact):
        return self.facts[fact]

    def began(self):
        return 1.5


KNOWN = Known({b"a": b"alpha", b"empty": b"", b"b": b"beta"}, {b"r": b"answer"}, HOSTNAME=b"here", UPSTREAM_HOST=b"")


def text(*parts):
    return Value(Template(parts)).text(KNOWN)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((Operator("REQ", "a"),), b"alpha"),
        ((Operator("REQ", "a", longest=2),), b"al"),
        ((Operator("REQ", "a", longest=0),), b""),
        ((Operator("REQ", "none"),), b""),
        ((Operator("REQ", "none", "b"),), b"beta"),
        ((Operator("REQ", "none", "b", 1),), b"b"),
        ((Operator("REQ", "a", "b"),), b"alpha"),
        ((Operator("REQ", "empty", "b"),), b""),  # it is there
        ((Operator("RESP", "r"),), b"answer"),
        ((Operator("RESP", "a"),), b""),
        ((Operator("HOSTNAME"),), b"here"),
        (("<", Operator("UPSTREAM_HOST"), "ü>"), "<ü>".encode()),
        ((Operator("START_TIME"),), b"1970-01-01T00:00:01.500Z"),
        ((Operator("START_TIME", "%s"),), b"1"),
    ],
)
def test_values(parts, expected):
    assert text(*parts) == expected


def test_who_reads_the_request():
    assert reads_request(Template(("a", Operator("REQ", "x"))))
    assert not reads_request(Template((Operator("RESP", "x"),)))
    assert not reads_request("REQ")


def operator(name):
    return Template((Operator("REQ", name),))


@pytest.mark.parametrize(
    ("setting", "adding", "expected"),
    [
        ([("x", operator("a"))], [], [b"Y: 2", b"x: alpha"]),
        ([("x", operator("none"))], [], [b"X: 1", b"Y: 2"]),  # nothing to say: what came stays
        ([("x", operator("a")), ("z", "plain")], [("x", operator("b"))], [b"Y: 2", b"x: alpha", b"z: plain", b"x: beta"]),
        ([], [("x", operator("a")), ("x", operator("none"))], [b"X: 1", b"Y: 2", b"x: alpha"]),
        ([], [("x", Template((" ", Operator("REQ", "b"), "\t")))], [b"X: 1", b"Y: 2", b"x: beta"]),
        ([], [("x", Template((" ", Operator("REQ", "none"))))], [b"X: 1", b"Y: 2", b"x: "]),  # it is not empty, as in Envoy
    ],
)
def test_changes(setting, adding, expected):
    lines = [b"X: 1", b"Y: 2"]
    assert Changes(setting, adding).applied(lines, KNOWN) == expected
    assert lines == [b"X: 1", b"Y: 2"]


def test_every_fact_is_an_operator():
    assert OPERATORS.keys() == {*FACTS, "REQ", "RESP", "START_TIME"}


def test_a_snapshot_carries_them_either_as_text_or_taken_apart():
    operations = HeaderOperations(set=(("a", "%REQ(x)%"), ("b", Template(("x", Operator("REQ", "x", "y", 3))))))
    assert msgspec.json.decode(msgspec.json.encode(operations), type=HeaderOperations) == operations
