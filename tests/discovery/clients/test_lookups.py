"""DNS names that registries name: asked again by their TTL, kept while nobody answers."""

import dns.rcode
import pytest
import trio
from zone import Zone

from discovery.clients import lookups as module
from discovery.clients.lookups import Lookups
from discovery.resolving import Nameservers


async def looking(nursery, zone, *names):
    said = {}
    port = await nursery.start(zone.serve)
    lookups = Lookups(said.__setitem__, nameservers=Nameservers(("127.0.0.1",), port, 0.3))
    lookups.want(frozenset(names))
    nursery.start_soon(lookups.run)
    with trio.fail_after(10):
        await lookups.wait_tried()
    return lookups, said


async def test_both_families_and_what_does_not_exist(nursery):
    zone = Zone({("lb.test", "A"): ["192.0.2.2", "192.0.2.1"], ("lb.test", "AAAA"): ["fd00::1"]})
    lookups, said = await looking(nursery, zone, "lb.test", "gone.test")
    assert said == {"lb.test": ("192.0.2.1", "192.0.2.2", "fd00::1"), "gone.test": ()}
    assert "tried=2" in repr(lookups)
    lookups.want(frozenset({"lb.test"}))
    assert lookups.tried == {"lb.test"}
    nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("failure", [dns.rcode.SERVFAIL, None])
async def test_what_nobody_answers_keeps_its_addresses_and_is_asked_again(nursery, monkeypatch, failure):
    monkeypatch.setattr(module, "_LEAST", 0.0)
    monkeypatch.setattr(module, "_AFTER_FAILURE", 0.01)
    zone = Zone({("lb.test", "A"): ["192.0.2.1"]}, ttl=0)
    _, said = await looking(nursery, zone, "lb.test")
    zone.broken["lb.test"] = failure
    asked = len(zone.asked)
    with trio.fail_after(10):
        await zone.wait(lambda: len(zone.asked) > asked + 3)
        assert said == {"lb.test": ("192.0.2.1",)}
        zone.broken.clear()
        zone.records["lb.test", "A"] = ["192.0.2.7"]
        while said["lb.test"] != ("192.0.2.7",):
            await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()
