"""Where clients may send the gateway: names, addresses, and what names resolve to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.reach import Reach, public


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_the_internet(address):
    assert public(address)


INNER = """127.0.0.1 127.255.0.9 10.1.1.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 240.240.0.1 0.0.0.0
    255.255.255.255 192.0.2.1 198.18.0.1 ::1 :: fe80::1 fe80::1%eth0 fec0::1 fd00::1 ff02::1 2001:db8::1 ::127.0.0.1 ::ffff:127.0.0.1
    ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1::1 2002:a00:1::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
    nonsense 0x7f.1 2130706433 127.1"""


@pytest.mark.parametrize("address", INNER.split())
def test_what_is_none_of_it(address):
    assert not public(address)


@given(
    st.ip_addresses(v=4, network="10.0.0.0/8")
    | st.ip_addresses(v=4, network="127.0.0.0/8")
    | st.ip_addresses(v=4, network="169.254.0.0/16")
)
def test_no_way_of_writing_an_inner_address_makes_it_public(inner):
    number = int(inner)
    wrapped = [
        str(inner),
        f"::ffff:{inner}",
        str(ipaddress.IPv6Address(number)),
        str(ipaddress.IPv6Address((0x64FF9B << 96) | number)),
        str(ipaddress.IPv6Address((0x2002 << 112) | number << 80 | 1)),
    ]
    assert not any(public(each) for each in wrapped)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a.example.com", True),
        ("b.a.example.com", True),
        ("exact.test", True),
        ("example.com", False),
        (".example.com", False),
        ("aexample.com", False),
        ("a.example.com.evil.test", False),
        ("a..example.com", False),
        ("a b.example.com", False),
        ("a/b.example.com", False),
        ("A.example.com", False),
        ("a.example.com.", False),
        ("xexact.test", False),
        ("-" * 64 + ".example.com", False),
        ("a." * 130 + "example.com", False),
        ("secret.example.com", False),
        ("x.inner.example.com", False),
    ],
)
def test_names(name, taken):
    reach = Reach(("*.example.com", "exact.test"), (), ("secret.example.com", "*.inner.example.com"))
    assert reach.takes(name) is taken


def test_answers_inside_need_their_network_to_be_written():
    reach = Reach(("*.a.test",), ("10.1.0.0/16", "fd00::/8"))
    assert reach.usable(("8.8.8.8", "10.1.0.7", "10.2.0.7", "127.0.0.1", "fd00::1")) == ("8.8.8.8", "10.1.0.7", "fd00::1")
    assert Reach(("*",), ()).usable(("10.1.0.7", "::ffff:127.0.0.1")) == ()
    assert reach.usable(("::ffff:10.1.0.7",)) == ("::ffff:10.1.0.7",)


def test_an_address_in_place_of_a_name():
    assert Reach(("*.a.test",), ("10.1.0.0/16",)).meant("10.1.0.7")
    assert not Reach(("*.a.test",), ("10.1.0.0/16",)).meant("8.8.8.8")
    assert Reach(("*",), ()).meant("8.8.8.8")
    assert not Reach(("*",), ()).meant("169.254.169.254")
    assert not Reach(("*",), ()).meant("nonsense")


def test_what_is_kept_is_bounded():
    reach = Reach(("*",), ())
    for number in range(2000):
        reach.usable((f"8.8.{number >> 8}.{number & 255}",))
    assert len(reach._judged) <= 1024


@pytest.mark.parametrize(
    "inner", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "::ffff:127.0.0.1", "2002:7f00:1::1"]
)
def test_everywhere_is_neither_this_machine_nor_its_link(inner):
    everywhere = Reach((), ("0.0.0.0/0", "::/0"))
    assert not everywhere.meant(inner)
    assert everywhere.meant("10.0.0.1")
    assert everywhere.meant("2600::1")
    assert Reach((), ("127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/32", "::/16", "fe80::/10", "2002::/16")).meant(inner)
