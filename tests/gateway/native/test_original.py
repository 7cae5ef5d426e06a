"""original: endpoints that only clients named."""

import pytest

from gateway.native import original
from gateway.native.original import Originals


class Pool:
    closed = False

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("written", "address", "port"), [("192.0.2.1:80", "192.0.2.1", 80), ("[2001:db8::1]:443", "2001:db8::1", 443)]
)
def test_an_address_becomes_a_host_and_stays_it(written, address, port):
    originals = Originals("b")
    host = originals.pick(written, 0.0)
    assert (host.endpoint.address, host.endpoint.port) == (address, port)
    assert originals.pick(written, 1.0) is host


@pytest.mark.parametrize(
    "written",
    [
        "",
        "192.0.2.1",
        ":80",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:http",
        "api.example:443",
        "localhost:80",
        "192.0.2.1:\u0663",
    ],
)
def test_what_is_no_address_is_nobody(written):
    assert Originals("b").pick(written, 0.0) is None


def test_the_one_longest_not_asked_for_gives_way_unless_it_works(monkeypatch):
    monkeypatch.setattr(original, "MOST", 3)
    originals = Originals("b")
    busy, idle, used = (originals.pick(f"192.0.2.{number}:80", 0.0) for number in (1, 2, 3))
    busy.active = 1
    idle.pool = Pool()
    assert originals.pick("192.0.2.4:80", 1.0) is not None
    assert set(originals.hosts) == {"192.0.2.1:80", "192.0.2.3:80", "192.0.2.4:80"}
    assert idle.pool.closed
    used.pool = Pool()
    originals.close()
    assert used.pool.closed
    assert not originals.hosts


def test_names_have_endpoints_of_their_own_and_try_their_addresses_in_turn():
    originals = Originals("b")
    both = ("192.0.2.1", "192.0.2.2")
    first = originals.named("a.test", both, 443, 0.0)
    assert (first.endpoint.address, first.endpoint.port, first.key) == ("192.0.2.1", 443, "192.0.2.1:443")
    assert originals.named("b.test", both, 443, 0.0) is not first
    assert originals.pick("192.0.2.1:443", 0.0) is not first
    assert originals.untried([first]) == 1
    second = originals.again([first], 1.0, elsewhere=True)
    assert second.endpoint.address == "192.0.2.2"
    assert originals.again([first, second], 1.0, elsewhere=True) is None
    assert originals.again([first, second], 1.0, elsewhere=False) is second
    assert originals.named("a.test", both, 443, 2.0) is second  # what took no connection is not begun with again
    assert originals.named("a.test", both[:1], 443, 3.0) is first
    assert originals.again([], 3.0, elsewhere=False) is None
    assert originals.untried([originals.pick("192.0.2.9:80", 0.0)]) == 0


def test_what_had_to_make_room_is_still_counted(monkeypatch):
    monkeypatch.setattr(original, "MOST", 2)
    originals = Originals("b")
    for number in range(5):
        originals.named(f"n{number}.test", ("192.0.2.1",), 80, 0.0).requests += 1
    assert len(originals.hosts) == 2
    assert len(originals._siblings) == 2
    assert originals.requests == 5
