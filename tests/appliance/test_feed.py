"""The worker's slots: differences, wholes, and parts that stay the same objects."""

import itertools

import pytest

from appliance.feed import Feed, following
from appliance.messages import Keys, Overlay, SnapshotDelta
from gateway.secret import Secret
from gateway.snapshot import Node, Snapshot, VirtualHost
from gateway.verdicts import AddressState, Verdicts, difference

NODE = Node(name="n", cluster="east")
ONE = Snapshot.of([NODE])
TWO = ONE.changed([VirtualHost("t", "h", ("*",), ())])


def copy(snapshot):
    """Equal parts that are other objects, as they come from a pipe."""
    import msgspec

    from gateway.snapshot import Delta

    return msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot.delta_from(None)), type=Delta)


def test_nothing_is_fed_at_first():
    assert not Feed().fed


def test_a_whole_and_then_a_difference():
    feed = Feed()
    feed.take(SnapshotDelta(ONE.delta_from(None)))
    assert feed.fed
    feed.take(SnapshotDelta(TWO.delta_from(ONE)))
    assert feed.snapshots.value == TWO


def test_a_whole_that_is_equal_wakes_nobody():
    feed = Feed()
    feed.take(SnapshotDelta(copy(TWO)))
    before = feed.snapshots.value
    feed.take(SnapshotDelta(copy(TWO)))
    assert feed.snapshots.value is before
    assert feed.snapshots.version == 1


def test_equal_parts_of_a_new_whole_stay_the_same_objects_and_others_go():
    result = following(TWO, copy(ONE))
    assert result == ONE
    assert result.parts["node"] is TWO.parts["node"]


def test_a_difference_from_something_else_changes_nothing():
    feed = Feed()
    feed.take(SnapshotDelta(ONE.delta_from(None)))
    with pytest.raises(ValueError, match="is running"):
        feed.take(SnapshotDelta(ONE.delta_from(TWO)))
    assert feed.snapshots.value == ONE


def test_a_whole_that_breaks_its_promise_changes_nothing():
    import msgspec

    feed = Feed()
    with pytest.raises(ValueError, match="promised"):
        feed.take(SnapshotDelta(msgspec.structs.replace(ONE.delta_from(None), version="00")))
    assert not feed.fed


def test_keys_come_and_go():
    feed = Feed()
    feed.take(Keys({"a": b"1", "b": b"2"}, whole=True))
    feed.take(Keys({"c": b"3"}, remove=("a",)))
    assert feed.secrets.value == {"b": Secret(b"2"), "c": Secret(b"3")}


def test_keys_that_a_new_control_process_does_not_know_stay_until_its_snapshot_is_here():
    feed = Feed()
    feed.take(Keys({"old": b"1", "both": b"2"}, whole=True))
    feed.take(SnapshotDelta(ONE.delta_from(None)))
    feed.take(Keys({"both": b"2", "new": b"3"}, whole=True))
    assert set(feed.secrets.value) == {"old", "both", "new"}
    feed.take(SnapshotDelta(TWO.delta_from(None)))
    assert set(feed.secrets.value) == {"old", "both", "new"}
    feed.take(Overlay(difference(None, Verdicts())))
    assert set(feed.secrets.value) == {"both", "new"}


def test_verdicts_that_are_the_same_wake_nobody():
    feed = Feed()
    down = Verdicts(addresses={"10.0.0.1:15443": AddressState.DOWN})
    feed.take(Overlay(difference(None, down)))
    assert feed.verdicts.value == down
    feed.take(Overlay(difference(None, down)))
    assert feed.verdicts.version == 1
    feed.take(Overlay(difference(down, Verdicts())))
    assert feed.verdicts.value == Verdicts()


def many(count, port=80):
    from gateway.snapshot import Backend

    return Snapshot.of([Node("n", "c"), *(Backend(name=f"b{number}", host="a", port=port) for number in range(count))])


def sent(snapshot, base=None):
    """What turns base into snapshot as a worker's pipe delivers it."""
    import msgspec

    from appliance.conversation import Encoded
    from appliance.messages import FromControlToWorker

    encoded = Encoded(base, snapshot)
    numbers = itertools.count()
    messages = list(iter(lambda: encoded.message(next(numbers)), None))
    assert [encoded.message(index) for index in range(len(messages) + 1)] == [*messages, None], "another worker is told the same"
    return [msgspec.msgpack.decode(message, type=FromControlToWorker) for message in messages]


@pytest.mark.parametrize("count", [1, 249, 250, 251, 1000])
def test_a_large_snapshot_comes_in_pieces_and_is_one_change(count):
    feed = Feed()
    before, after = many(count), many(count, port=81).changed((), ["backend/b0"])
    for message in sent(before):
        feed.take(message)
    assert (feed.snapshots.value, feed.snapshots.version) == (before, 1)
    for message in sent(after, before):
        feed.take(message)
    assert (feed.snapshots.value, feed.snapshots.version) == (after, 2)
    for message in sent(before):
        feed.take(message)
    assert set(feed.snapshots.value.parts) == set(before.parts), "a whole takes away what it does not have"
    assert feed.snapshots.value.version == before.version


@pytest.mark.parametrize(("parts", "endpoints", "pieces"), [(249, 0, 1), (1000, 0, 5), (20, 492, 6), (3, 5000, 4)])
def test_a_message_holds_what_a_turn_may_take(parts, endpoints, pieces):
    """Parts, and the endpoints in them: 4 parts of 500 are a piece, and a part that is larger is one by itself."""
    from gateway.snapshot import EndpointSet, LbEndpoint

    several = [LbEndpoint(f"e{number}", "10.0.0.1", 80) for number in range(endpoints)]
    assert len(sent(Snapshot.of(EndpointSet(f"b{number}", tuple(several)) for number in range(parts)))) == pieces


def test_what_is_looked_at_ends_a_turn_too_and_nothing_is_lost():
    """A Snapshot that comes of another lineage: all parts are compared, one differs, one is gone."""
    feed, before = Feed(), many(12_000)
    for message in sent(before):
        feed.take(message)
    after = Snapshot.of([*many(11_999).parts.values()]).changed([Node("other", "c")])
    assert after.differing(before) is None
    messages = sent(after, before)
    assert [len(getattr(message, "parts", ())) for message in messages[:-1]].count(0) >= 3
    for message in messages:
        feed.take(message)
    assert feed.snapshots.value == after
    assert "backend/b11999" not in feed.snapshots.value.parts


def test_pieces_that_were_never_finished_are_forgotten_when_others_begin():
    feed = Feed()
    first, second = many(600), many(600, port=81)
    feed.take(sent(first)[0])
    for message in sent(second):
        feed.take(message)
    assert feed.snapshots.value == second


def test_a_new_pipe_does_not_go_on_with_the_pieces_of_the_last():
    feed = Feed()
    feed.take(sent(many(600))[0])
    feed.begin()
    feed.take(SnapshotDelta(ONE.delta_from(None)))
    assert feed.snapshots.value == ONE


def test_a_piece_without_a_beginning_is_refused():
    with pytest.raises(ValueError, match="without the first"):
        Feed().take(sent(many(600))[1])
