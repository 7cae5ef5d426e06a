"""Who may use a backend: rules against identities and addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.parts.access import Allowed
from gateway.policy.access import Access

SHOP = "spiffe://east.example.com/ns/shop/sa/cart"


def access(*rules):
    return Access(tuple(rules))


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("east.example.com/ns/shop/sa/cart", True),
        ("spiffe://east.example.com/ns/shop/sa/cart", True),
        ("east.example.com/ns/shop/sa/*", True),
        ("*/ns/shop/sa/cart", True),
        ("*", True),
        ("east.example.com/ns/shop/sa/car", False),
        ("east.example.com/ns/shop/sa/cart2", False),
        ("east.example.com/ns/sho/*", False),
        ("*/ns/shop/sa/art", False),
        ("*cart2", False),
    ],
)
def test_principals(pattern, taken):
    assert access(Allowed(principals=(pattern,))).decide(SHOP, "10.0.0.1")[0] is taken


@pytest.mark.parametrize("pattern", ["*", "*/ns/shop/sa/cart", "", "east.example.com*"])
def test_who_proved_nothing_is_no_principal(pattern):
    assert access(Allowed(principals=(pattern,))).decide("", "10.0.0.1") == (False, "no_client_certificate")


@pytest.mark.parametrize(
    ("block", "address", "taken"),
    [
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.0.0/16", "10.2.0.0", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3/16", "10.1.9.9", True),
        ("10.1.0.0/16", "::ffff:10.1.2.3", True),
        ("fd00::/8", "fd00::1", True),
        ("fd00::/8", "fd00::1%eth0", True),
        ("fd00::/8", "10.1.2.3", False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "nonsense", False),
    ],
)
def test_addresses(block, address, taken):
    assert access(Allowed(ip_blocks=(block,))).decide("", address)[0] is taken


def test_an_entry_takes_who_fits_all_of_its_lists_and_one_entry_is_enough():
    both = Allowed(principals=("*/sa/cart",), ip_blocks=("10.0.0.0/8",))
    other = Allowed(ip_blocks=("192.0.2.0/24",))
    rules = access(both, other)
    assert rules.decide(SHOP, "10.0.0.1") == (True, "from[0]")
    assert rules.decide("", "192.0.2.7") == (True, "from[1]")
    assert rules.decide(SHOP, "11.0.0.1") == (False, "client_not_allowed")
    assert rules.decide("", "10.0.0.1") == (False, "client_not_allowed")


def test_why_not_and_how_often():
    assert access().decide(SHOP, "10.0.0.1") == (False, "nobody_is_allowed")
    assert access(other := Allowed(ip_blocks=("10.0.0.0/8",))).decide("", "11.0.0.1") == (False, "address_not_allowed")
    rules = access(Allowed(principals=("a/ns/b/sa/c",)))
    for _ in range(3):
        assert rules.decide(SHOP, "") == (False, "identity_not_allowed")
    rules.decide("spiffe://a/ns/b/sa/c", "")
    assert rules.counts == {(False, "identity_not_allowed"): 3, (True, "from[0]"): 1}
    assert other.ip_blocks


@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=5), st.ip_addresses(v=4).map(str))
def test_nobody_is_taken_whom_no_entry_names(blocks, client):
    rules = access(*(Allowed(ip_blocks=(block,)) for block in blocks))
    assert rules.decide("", client)[0] is (client in blocks)


def test_decisions_are_bounded_and_stay_right():
    rules = access(Allowed(ip_blocks=("10.0.0.0/8",)))
    for number in range(5000):
        address = f"10.0.{number >> 8}.{number & 255}"
        assert rules.decide("", address)[0]
    assert len(rules._decided) <= 4096
    assert not rules.decide("", "11.0.0.1")[0]
