"""The overlay of health and its deltas."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Health
from gateway.verdicts import AddressState, Verdict, Verdicts, VerdictsDelta, applied, difference

names = st.sampled_from(["a", "b", "c"])
verdict = st.builds(Verdict, health=st.sampled_from(Health), healthy=st.integers(0, 2))
verdicts = st.builds(
    Verdicts,
    endpoints=st.dictionaries(names, st.dictionaries(names, verdict, max_size=2), max_size=3),
    addresses=st.dictionaries(names, st.sampled_from(AddressState), max_size=3),
    evacuated=st.dictionaries(names, st.integers(0, 1000), max_size=2),
)


@given(st.lists(verdicts, max_size=5))
def test_deltas_lead_from_one_to_the_next(history: list[Verdicts]) -> None:
    there: Verdicts | None = None
    here = Verdicts()
    for new in history:
        delta = msgspec.msgpack.decode(msgspec.msgpack.encode(difference(there, new)), type=VerdictsDelta)
        here = applied(here, delta)
        there = new
        assert here == new


def test_one_changed_address_is_one_small_message() -> None:
    many = {f"b{i}": {"e": Verdict(Health.HEALTHY)} for i in range(1000)}
    old, new = Verdicts(endpoints=many), Verdicts(endpoints=many, addresses={"10.0.0.1:15443": AddressState.SUSPECT})
    assert len(msgspec.msgpack.encode(difference(old, new))) < 120
