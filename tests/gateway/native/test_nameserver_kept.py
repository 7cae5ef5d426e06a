"""Kept answers: halves, what is fleeting, orders, and what is made of endpoints."""

import pytest

from gateway.native import nameserver_kept
from gateway.native.nameserver_kept import ORDERS, Kept
from gateway.native.nameserver_places import Place
from gateway.parts.name import Name

DB = Name("db.test", backends=("b",))


def place(address):
    return Place(address, 80, "east", "", 0, 1)


class World:
    def __init__(self):
        self.places = {"db.test": [place("10.0.0.1")]}
        self.looked = []
        self.kept = Kept(self.look)

    def look(self, name):
        self.looked.append(name.name)
        return list(self.places[name.name])


@pytest.fixture
def world():
    return World()


def test_what_is_asked_for_survives_a_flood_and_the_rest_is_bounded(world, monkeypatch):
    monkeypatch.setattr(nameserver_kept, "HALF", 10)
    kept = world.kept
    kept.keep(b"hot", b"answer")
    for number in range(100):
        kept.keep(b"%d" % number, b"once")
        assert kept.find(b"hot") == b"answer"
        assert len(kept) <= 20
    assert kept.find(b"0") is None


def test_the_fleeting_go_every_second(world):
    world.kept.tick(100.0)
    world.kept.keep(b"stays", b"1")
    world.kept.keep_fleeting(b"goes", b"2")
    world.kept.tick(100.5)
    assert world.kept.find(b"goes") == b"2"
    world.kept.tick(101.0)
    assert (world.kept.find(b"goes"), world.kept.find(b"stays")) == (None, b"1")


def test_several_orders_are_given_in_turn_once_there_are_enough(world):
    for number in range(ORDERS):
        assert world.kept.find(b"q") is None
        world.kept.keep_made_of(DB, b"q", b"%d" % number, several=True)
    assert {world.kept.find(b"q") for _ in range(ORDERS)} == {b"%d" % number for number in range(ORDERS)}
    world.kept.tick(1.0)
    assert world.kept.find(b"q") is None


def test_an_answer_goes_as_soon_as_its_endpoints_are_others_with_all_its_spellings(world):
    world.kept.tick(100.0)
    world.kept.keep_made_of(DB, b"q", b"1", several=False)
    world.kept.keep_made_of(DB, b"r", b"1", several=False)
    world.kept.keep_fleeting(b"Q", b"1")
    world.kept.keep(b"other", b"2")
    world.kept.tick(100.05)
    assert world.kept.find(b"q") == b"1"
    world.places["db.test"] = [place("10.0.0.2")]
    world.kept.tick(100.1)
    assert [world.kept.find(key) for key in (b"q", b"r", b"Q", b"other")] == [None, None, None, b"2"]
    looked = len(world.looked)
    world.kept.tick(100.15)
    assert len(world.looked) == looked  # nobody asked since


def test_a_tick_looks_at_a_bounded_number_of_services_and_at_all_in_turn(world, monkeypatch):
    monkeypatch.setattr(nameserver_kept, "_LOOKS", 3)
    for number in range(10):
        name = Name(f"n{number}", backends=("b",))
        world.places[name.name] = []
        world.kept.keep_made_of(name, b"%d" % number, b"", several=False)
    world.looked.clear()
    for turn in range(1, 5):
        world.kept.tick(turn / 100)
        assert len(world.looked) == 3 * turn
    assert len(set(world.looked)) == 10


def test_a_service_asked_for_in_countless_ways_is_bounded(world, monkeypatch):
    monkeypatch.setattr(nameserver_kept, "HALF", 5)
    for number in range(50):
        world.kept.keep_made_of(DB, b"%d" % number, b"", several=number % 2 == 0)
    assert len(world.kept) <= 15


def test_clear(world):
    world.kept.keep(b"a", b"1")
    world.kept.keep_fleeting(b"b", b"2")
    world.kept.keep_made_of(DB, b"c", b"3", several=False)
    world.kept.keep_made_of(DB, b"d", b"4", several=True)
    assert repr(world.kept) == "<Kept 3+0 answers, 1 in orders, of 1 services>"
    world.kept.clear()
    world.kept.tick(5.0)
    assert (len(world.kept), repr(world.kept)) == (0, "<Kept 0+0 answers, 0 in orders, of 0 services>")


def test_a_tick_looks_at_a_bounded_number_of_endpoints_and_at_all_in_turn(world):
    world.kept.tick(100.0)
    for number in range(4):
        name = Name(f"s{number}.test", backends=("b",))
        world.places[name.name] = [place(f"10.{number}.0.{each}") for each in range(nameserver_kept._ENDPOINTS)]
        world.kept.keep_made_of(name, b"%d" % number, b"1", several=False)
    world.looked.clear()
    for number in range(4):
        world.kept.tick(100.05)
        assert world.looked == [f"s{each}.test" for each in range(number + 1)]
