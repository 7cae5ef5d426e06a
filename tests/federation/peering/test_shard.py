"""One peer's services over several gateways."""

from sessions import EAST, WEST, service

from federation.peering import session as s
from federation.peering.shard import Shard
from federation.peering.terms import PeerTerms

TERMS = PeerTerms("west", "west.example.com", imports=("a", "b", "c"))
ONE, TWO = ("192.0.2.1", 1), ("192.0.2.2", 1)


def shard(*addresses):
    made = Shard(TERMS)
    made.readdress(addresses or (ONE,))
    return made


def counts(view):
    return {name: sorted((e.address, e.healthy) for e in each.endpoints) for name, each in view.services.items()}


def test_nothing_before_the_first_whole_picture():
    made = shard()
    assert made.view() is None
    assert not made.readdress((ONE, TWO))
    assert made.learn("1", WEST, s.Replaced((service("a"),)))
    assert counts(made.view()) == {"a": [(ONE[0], 1), (TWO[0], 1)]}


def test_changes_keep_what_did_not_change():
    made = shard()
    made.learn("1", WEST, s.Replaced((service("a"), service("b"))))
    before = made.view()
    assert made.learn("1", WEST, s.Changed(service("b", 0)))
    after = made.view()
    assert after.services["a"] is before.services["a"]
    assert counts(after) == {"a": [(ONE[0], 1)], "b": [(ONE[0], 0)]}
    assert after.epoch == before.epoch
    assert made.learn("1", WEST, s.Gone("a"))
    assert set(made.view().services) == {"b"}


def test_the_first_is_believed_the_second_takes_over_and_the_last_word_stands():
    made = shard(ONE, TWO)
    made.learn("1", WEST, s.Replaced((service("a", 5, 9),)))
    assert not made.learn("2", WEST, s.Replaced((service("a", 3, 9),)))
    assert not made.learn("2", WEST, s.Changed(service("b", 1, 9)))
    assert {n for _, n in counts(made.view())["a"]} == {5}
    epoch = made.view().epoch
    assert made.lost("1")
    assert {n for _, n in counts(made.view())["a"]} == {3}
    assert set(made.view().services) == {"a", "b"}
    assert made.view().epoch > epoch
    assert made.view().live
    assert made.lost("2")  # nobody is left
    assert set(made.view().services) == {"a", "b"}
    assert not made.view().live
    assert not made.lost("2")
    assert made.learn("1", WEST, s.Replaced(()))
    assert made.view().services == {}


def test_a_reset_keeps_equal_services_the_same_objects():
    made = shard()
    made.learn("1", WEST, s.Replaced((service("a"), service("b"))))
    before = made.view()
    made.lost("1")
    made.learn("1", WEST, s.Replaced((service("a"), service("b", 0))))
    after = made.view()
    assert after.services["a"] is before.services["a"]
    assert after.services["b"] is not before.services["b"]
    assert after.epoch != before.epoch


def test_another_cluster_name_makes_everything_anew():
    made = shard()
    made.learn("1", WEST, s.Replaced((service("a"),)))
    made.lost("1")
    made.learn("1", EAST, s.Replaced((service("a"),)))
    assert made.view().services["a"].endpoints[0].cluster == "east"
    assert made.hello is EAST


def test_findings():
    made = shard()
    made.learn("1", WEST, s.Replaced((service("a"), service("z"))))
    assert [finding.subject for finding in made.view().findings] == ["z"]
    made.learn("1", WEST, s.Gone("z"))
    assert made.view().findings == ()


def test_new_addresses_change_every_service():
    made = shard()
    made.learn("1", WEST, s.Replaced((service("a"),)))
    assert made.readdress((TWO,))
    assert counts(made.view()) == {"a": [(TWO[0], 1)]}
    assert not made.readdress((TWO,))
