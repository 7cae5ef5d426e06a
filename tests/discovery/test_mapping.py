"""FrozenMap against a dict: same content, order of its own, old copies untouched."""

from hypothesis import given
from hypothesis import strategies as st

from discovery.mapping import Draft, FrozenMap

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


KEYS = st.sampled_from([f"k{i}" for i in range(6)])


@given(st.dictionaries(KEYS, st.integers()), st.lists(st.tuples(KEYS, st.none() | st.integers())))
def test_a_draft_changes_a_copy_as_a_dict_would(items, changes):
    base, expected = FrozenMap(items), dict(items)
    draft = Draft(base)
    for key, value in changes:
        if value is None:
            assert draft.pop(key, -1) == expected.pop(key, -1)
        else:
            draft[key] = expected[key] = value
        assert draft.get(key) == expected.get(key)
    assert dict(draft.done()) == expected
    assert dict(finished(draft)) == expected
    assert dict(base) == items


def finished(draft):
    steps = draft.finishing()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_draft_of_many_is_finished_in_steps():
    draft = Draft(FrozenMap(), {f"k{number}": number for number in range(2500)})
    assert len(list(draft.finishing())) == 3
    assert dict(finished(draft)) == {f"k{number}": number for number in range(2500)}


def test_a_draft_that_changes_nothing_is_its_base():
    base = FrozenMap({"a": 1})
    draft = Draft(base)
    assert draft.pop("b", 2) == 2
    draft["c"] = 3
    assert draft.pop("c", 0) == 3
    assert draft.done() is base
