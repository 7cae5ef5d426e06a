"""Endpoints as answers: which are meant, what they are called, their records."""

import pytest

from gateway.native.codec.dns import AAAA, ANY, POINTER, A, decode_name
from gateway.native.nameserver_places import Place, address_records, chosen, packed, places, places_of
from gateway.parts.name import Name


def place(address, cluster="east", hostname="", priority=0):
    return Place(address, 80, cluster, hostname, priority, 1)


ALL = [
    place("10.0.0.1", hostname="db-0"),
    place("10.0.0.2", hostname="east"),
    place("10.1.0.1", "west", "DB-0", priority=1),
    place("10.1.0.2", "west", priority=2),
    place("fd00::9", "North", priority=3),
]


@pytest.mark.parametrize(
    ("labels", "addresses"),
    [
        ((), ["10.0.0.1", "10.0.0.2"]),
        (("east",), ["10.0.0.1", "10.0.0.2"]),  # a cluster goes before a host of the same name
        (("west",), ["10.1.0.1"]),
        (("north",), ["fd00::9"]),
        (("db-0",), ["10.0.0.1"]),
        (("db-0", "west"), ["10.1.0.1"]),
        (("10-1-0-2",), ["10.1.0.2"]),
        (("fd00--9", "north"), ["fd00::9"]),
        (("db-1",), []),
        (("db-0", "south"), []),
    ],
)
def test_which_are_meant(labels, addresses):
    assert [each.address for each in chosen(ALL, labels)] == addresses


def test_what_an_endpoint_is_called():
    assert [decode_name(each.front + b"\0") for each in ALL] == ["db-0.east", "east.east", "db-0.west", "10-1-0-2", "fd00--9"]
    assert decode_name(place("10.0.0.1", "", "x" * 99).front + b"\0") == "x" * 63


def test_records_are_of_the_kind_asked_for():
    both = ("10.0.0.1", "fd00::1", "no address", "10.0.0.0/8")
    v4, v6 = address_records(both, ANY, 30, POINTER)
    assert address_records(both, A, 30, POINTER) == [v4]
    assert address_records(both, AAAA, 30, POINTER) == [v6]
    assert (v4[-4:], v6[-16:]) == (packed("10.0.0.1"), packed("fd00::1"))
    assert packed("/run/x.sock") == b""


def test_a_backend_that_is_not_there_has_none():
    assert places({}, Name("a", backends=("b",))) == []
    assert list(places_of(None)) == []
