"""A peer's addresses as written."""

import contextlib

import pytest
import trio

from federation.peering.names import NameLookup, joined, split_address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gw.example.com:15443", ("gw.example.com", 15443)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
    ],
)
def test_split(text, found):
    assert split_address(text) == found


@pytest.mark.parametrize("text", ["gw", "gw:", ":1", "gw:0", "gw:65536", "gw:x", "2001:db8::1:443", "gw:-1", "gw:١"])
def test_not_an_address(text):
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        split_address(text)


def test_joined():
    assert joined("192.0.2.1", 1) == "192.0.2.1:1"
    assert joined("2001:db8::1", 1) == "[2001:db8::1]:1"


async def test_names_are_followed_and_failures_keep_the_last(autojump_clock):
    answers = {"gw": ["192.0.2.1", "192.0.2.2"]}

    async def lookup(host):
        await trio.lowlevel.checkpoint()
        if answers[host] is None:
            raise OSError("nobody knows")
        return answers[host]

    names = NameLookup(["gw:443", "192.0.2.9:443"], lookup)
    said = []
    with trio.move_on_after(100):
        async for found in names.addresses():
            said.append({ip for ip, _ in found})
            if len(said) == 1:
                answers["gw"] = None
    assert said == [{"192.0.2.1", "192.0.2.2", "192.0.2.9"}]
    assert names.problem == "gw: cannot be looked up: nobody knows"


async def test_addresses_alone_are_not_looked_up_again(autojump_clock):
    async def lookup(host):
        raise AssertionError

    found = []
    with trio.move_on_after(1000):
        async for each in NameLookup(["[2001:DB8::1]:443"], lookup).addresses():
            found.append(each)
    assert found == [frozenset({("2001:db8::1", 443)})]


async def test_a_resolver_that_says_nothing(autojump_clock):
    async def lookup(host):
        await trio.sleep_forever()

    names = NameLookup(["gw:443"], lookup)
    async with contextlib.aclosing(names.addresses()) as addresses:
        assert await anext(addresses) == frozenset()
    assert "no answer from DNS" in names.problem
