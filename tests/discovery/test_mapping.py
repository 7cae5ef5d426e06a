"""FrozenMap against a dict: same content, order of its own, old copies untouched."""

from hypothesis import given
from hypothesis import strategies as st

from discovery.mapping import FrozenMap

changes = st.lists(st.dictionaries(st.sampled_from([f"k{i}" for i in range(20)]), st.none() | st.integers(0, 3)), max_size=8)


@given(changes)
def test_it_holds_what_a_dict_would(steps):
    plain, frozen, kept = {}, FrozenMap(), []
    for step in steps:
        kept.append((dict(plain), frozen))
        plain.update(step)
        plain = {key: value for key, value in plain.items() if value is not None}
        frozen = frozen.updated(step)
        assert dict(frozen) == plain
        assert len(frozen) == len(plain)
    for before, map_before in kept:
        assert dict(map_before) == before


@given(st.permutations([f"k{i}" for i in range(30)]))
def test_equal_maps_iterate_alike(keys):
    assert list(FrozenMap(dict.fromkeys(keys, 1))) == list(FrozenMap(dict.fromkeys(sorted(keys), 1)))


def test_no_change_is_the_same_object():
    one = object()
    frozen = FrozenMap({"a": one})
    assert frozen.updated({"a": one, "b": None}) is frozen
    assert frozen.updated({"a": None}) == FrozenMap()
    assert frozen == {"a": one}
    assert repr(frozen) == "<FrozenMap of 1>"
