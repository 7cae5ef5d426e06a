"""What a changed Snapshot leaves as it was keeps its state."""

from gateway.native.guard import Guarded
from gateway.parts.access import Allowed
from gateway.snapshot import Backend, Balance, RateLimit

PLAIN = Backend("outbound|80||a.test", "a.test", 80)
RULES = (Allowed(ip_blocks=("10.0.0.0/8",)),)


def of(guarded, **fields):
    guarded.guard(Backend("outbound|80||a.test", "a.test", 80, **fields), None)
    return guarded


def test_nothing_is_asked_where_nothing_is_written():
    guarded = of(Guarded())
    assert (guarded.access, guarded.reach, guarded.originals, guarded.limiter) == (None, None, None, None)
    assert guarded.named("a.test", ("192.0.2.1",), 80, 0.0) is None
    assert of(Guarded(), rate_limits=(RateLimit(5),)).limiter is None  # without shared memory there is nothing to count in


def test_rules_that_stay_keep_what_they_decided_and_counts_only_grow():
    guarded = of(Guarded(), allowed=RULES)
    first = guarded.access
    first.decide("", "10.0.0.1")
    assert of(guarded, allowed=RULES).access is first
    changed = of(guarded, allowed=(*RULES, Allowed(ip_blocks=("11.0.0.0/8",)))).access
    assert changed is not first
    assert changed.decide("", "11.0.0.1") == (True, "from[1]")
    assert changed.counts == {(True, "from[0]"): 1, (True, "from[1]"): 1}
    assert of(guarded, allowed=()).access.decide("", "10.0.0.1") == (False, "nobody_is_allowed")
    assert of(guarded).access is None


def test_endpoints_that_clients_meant_stay_as_long_as_the_balance_does():
    guarded = of(Guarded(), balance=Balance.PASSTHROUGH, dynamic_dns=True, dynamic_hosts=("*.a.test",))
    host = guarded.named("x.a.test", ("192.0.2.1",), 80, 0.0)
    assert of(guarded, balance=Balance.PASSTHROUGH, dynamic_dns=True).named("x.a.test", ("192.0.2.1",), 80, 1.0) is host
    assert of(guarded).originals is None
