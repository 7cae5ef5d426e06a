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
