"""A Reset that would empty most of a shard is doubted where it leaves nothing, and believed after a while."""

import msgspec
import pytest

from discovery.model import Endpoint, Health, Service
from discovery.vanishing import KEPT, Vanishing

SHARD = {
    f"s{number}": Service(f"s{number}", endpoints=tuple(Endpoint(f"10.0.{number}.{each}") for each in range(4)))
    for number in range(5)
}


def said(vanishing, services, now=0.0):
    """What is believed of each service after a Reset."""
    vanishing.begin(SHARD, services, now)
    new = {service.hostname: service for service in services}
    return {name: vanishing.kept(old, new.get(name), reset=True) for name, old in SHARD.items()}


def test_an_ordinary_change_is_believed():
    some = [SHARD["s0"], SHARD["s1"], SHARD["s2"]]
    vanishing = Vanishing()
    assert said(vanishing, some)["s4"] is None
    assert (vanishing.due(), vanishing.remark) == (None, "")


@pytest.mark.parametrize("emptied", [None, Service("s4")])
def test_services_that_are_left_with_nothing_are_kept_degraded(emptied):
    less = msgspec.structs.replace(SHARD["s0"], endpoints=SHARD["s0"].endpoints[:1])
    vanishing = Vanishing()
    believed = said(vanishing, [less] if emptied is None else [less, emptied], now=5.0)
    assert believed["s0"] is less, "where somebody is left it is believed"
    assert [endpoint.health for endpoint in believed["s4"].endpoints] == [Health.DEGRADED] * 4
    assert "1 of 20 endpoints" in vanishing.remark
    assert vanishing.due() == 5.0 + KEPT
    assert vanishing.believed(5.0 + KEPT - 1, 9) == {}
    truth = vanishing.believed(5.0 + KEPT, 9)
    assert truth["s4"] == emptied
    assert vanishing.due() is None


def test_saying_it_again_does_not_give_it_more_time_and_saying_more_ends_it():
    vanishing = Vanishing()
    said(vanishing, [SHARD["s0"]], now=0.0)
    said(vanishing, [SHARD["s0"]], now=20.0)
    assert vanishing.due() == KEPT
    said(vanishing, list(SHARD.values()), now=25.0)
    assert vanishing.due() is None


def test_what_is_said_of_one_service_meanwhile_is_believed_at_once():
    vanishing = Vanishing()
    said(vanishing, [SHARD["s0"]])
    assert vanishing.kept(SHARD["s4"], None, reset=False) is None
    assert "s4" not in vanishing.believed(KEPT, 9)


def test_a_small_shard_may_lose_all():
    vanishing = Vanishing()
    vanishing.begin({"s0": SHARD["s0"]}, [], 0.0)
    assert vanishing.kept(SHARD["s0"], None, reset=True) is None


def test_it_is_believed_in_pieces_with_what_is_said_between_them():
    vanishing = Vanishing()
    said(vanishing, [SHARD["s0"]])
    assert len(vanishing.believed(KEPT, 3)) == 3
    assert vanishing.due() == KEPT
    assert vanishing.remark
    assert vanishing.kept(SHARD["s4"], SHARD["s4"], reset=False) is SHARD["s4"], "it came back before its turn"
    assert vanishing.believed(KEPT, 3) == {}
