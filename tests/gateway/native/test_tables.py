"""tables: marks of token buckets against a plain dictionary, and between workers. Counters: test_shared."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.native.shared import Shared, bucket_key, counter_key
from gateway.native.tables import BUCKETS, COUNTERS, MOST_BUCKETS, Counter, Mark


@pytest.fixture
def memory():
    shared = Shared.create(2)
    yield shared
    shared.close()
    os.close(shared.fd)


def test_what_one_writes_the_other_reads(memory):
    first, second = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    one, other = first.mark(b"limit", ("a",)), second.mark(b"limit", ("a",))
    assert (one.own, one.others()) == ((0, 0), [])
    one.write(77, 3)
    assert (other.own, other.others()) == ((0, 0), [(77, 3)])
    other.write(77, 1)
    assert one.others() == [(77, 1)]
    assert second.mark(b"limit", ("b",)).others() == []
    assert second.mark(b"another", ("a",)).others() == []
    memory.clear(0)
    assert other.others() == []


def test_the_same_values_are_the_same_bucket_and_no_others_are(memory):
    worker = Shared.attach(memory.fd, 0)
    assert worker.mark(b"l", ("a", b"b")) is worker.mark(b"l", ("a", b"b"))
    assert bucket_key(b"l", [b"a", b"b"]) != bucket_key(b"l", [b"ab"])
    assert bucket_key(b"l", [b"1:a"]) != bucket_key(b"l", [b"", b"a"])


def test_the_one_longest_not_asked_for_gives_way_and_begins_anew(memory):
    worker, other = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    first, second = worker.mark(b"l", ("0",)), worker.mark(b"l", ("1",))
    first.write(9, 9)
    second.write(9, 9)
    worker.mark(b"l", ("0",))  # asked for again: now the second is the oldest
    for number in range(2, MOST_BUCKETS + 1):
        worker.mark(b"l", (str(number),)).write(1, 1)
    assert other.mark(b"l", ("0",)).others() == [(9, 9)]
    assert other.mark(b"l", ("1",)).others() == []
    assert worker.mark(b"l", ("1",)).own == (0, 0)
    assert len(worker._marks) == MOST_BUCKETS


def test_where_the_table_has_no_room_a_bucket_is_this_workers_alone(memory):
    words, own = memory._words, 0
    words = memoryview(bytearray(8 * BUCKETS * 3)).cast("Q")
    for place in range(BUCKETS):
        words[3 * place] = 1000 + place  # everywhere somebody else
    mark = Mark(words, own, (), counter_key("x"))
    mark.write(5, 2)
    assert mark.own == (5, 2)
    mark.forget()
    assert mark.own == (0, 0)


def test_a_counter_that_is_given_back_hides_none_behind_it():
    words = memoryview(bytearray(8 * COUNTERS * 4)).cast("Q")
    first, second, third = (Counter(words, 0, (), (number << 12) | 5) for number in (1, 2, 3))  # one place for all three
    for number, counter in enumerate((first, second, third), 1):
        counter.add(number)
    first.forget()
    reader = Counter(words, COUNTERS * 2, (0,), (3 << 12) | 5)
    assert (reader.total(), reader.largest()) == (3, 3)
    first.add(7)  # takes the place that was given back
    assert (first.total(), second.total(), third.total(), reader.total()) == (7, 2, 3, 3)
    third.put(9)
    third.put(4)
    assert reader.largest() == 4


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["write", "forget"]), st.integers(1, 99)), max_size=120))
def test_marks_are_a_dictionary_whatever_is_given_back_in_between(steps):
    # Keys that all fall on few places, so that they lie behind each other.
    words = memoryview(bytearray(8 * BUCKETS * 6)).cast("Q")
    own = {key: Mark(words, 0, (BUCKETS * 3,), (key << 12) | (key % 3)) for key in range(2, 43)}
    other = {key: Mark(words, BUCKETS * 3, (0,), (key << 12) | (key % 3)) for key in range(2, 43)}
    expected = {}
    for key, what, value in steps:
        if what == "write" and (key + 2 in expected or len(expected) < 10):
            own[key + 2].write(value, value)
            expected[key + 2] = (value, value)
        elif what == "forget":
            own[key + 2].forget()
            expected.pop(key + 2, None)
        for each in own:
            assert own[each].own == expected.get(each, (0, 0))
            assert other[each].others() == ([expected[each]] if each in expected else [])
