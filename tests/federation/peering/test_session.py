"""The session as a dialogue, both ends joined."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import EAST, WEST, Dialogue, check_session, joined, service

from federation.peering import session as s
from federation.peering.wire import Ack, ExportedService, Hello, LocalityCount, Refused, Remove, Reset, Unknown, Upsert


def test_conformance():
    check_session(joined)


def importer(now=0.0):
    end = s.Importer(EAST, WEST.trust_domain, now)
    end.start()
    return end


def exporter(now=0.0):
    return s.Exporter(WEST, EAST.trust_domain, now)


def closes(actions, text):
    assert isinstance(actions[-1], s.Close), actions
    assert text in actions[-1].reason
    return actions[-1]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), max_size=6)),
        st.tuples(st.just("west"), st.integers(1, 400)),
        st.tuples(st.just("east"), st.integers(1, 400)),
        st.tuples(st.just("time"), st.floats(0.0, 2.0)),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=200)
def test_any_interleaving_of_changes_converges(script):
    pair, last = joined(), {}
    for what, how in script:
        if what == "offer":
            last = {name: service(name, count, 3) for name, count in how.items()}
            pair.offer(*last.values())
        elif what == "time":
            pair.advance(how if not (pair.to_east or pair.to_west) else 0.0)
        else:
            pair.carry(how, to=what)
    pair.offer(*last.values())
    pair.settle()
    assert not pair.closed
    assert pair.picture == last
    assert pair.exporter.acknowledged


def test_reconnecting_begins_with_a_reset_and_the_old_picture_stands_until_then():
    pair = joined()
    pair.offer(service("a"))
    pair.settle()
    again = Dialogue(importer(), exporter())
    again.offer(service("b"))
    again.carry(to="west")
    assert again.picture is None  # so the caller keeps pair.picture
    again.settle()
    assert again.picture == {"b": service("b")}


def test_nothing_is_said_before_the_greeting():
    end = exporter()
    assert end.offer([service("a")], 0.0) == []
    said = end.receive(EAST, 0.1)
    assert said == [s.Send(WEST), s.Send(Reset(1, (service("a"),)))]


def test_no_reset_before_there_is_an_offer():
    end = exporter()
    assert end.receive(EAST, 0.1) == [s.Send(WEST)]
    assert end.offer([], 5.0) == [s.Send(Reset(1, ()))]


def test_a_reset_in_pieces_replaces_at_once():
    end = importer()
    end.receive(WEST, 0.0)
    assert end.receive(Reset(1, (service("a"),), more=True), 0.0) == [s.Send(Ack(1))]
    assert end.receive(Reset(2, (service("b"),)), 0.0)[0] == s.Replaced((service("a"), service("b")))
    assert end.receive(Reset(3, (service("c"),), more=True), 0.0) == [s.Send(Ack(3))]
    assert end.receive(Reset(4, ()), 0.0)[0] == s.Replaced((service("c"),))


@pytest.mark.parametrize(
    ("hello", "says"),
    [
        (Hello(2, 0, "west", "west.example.com"), "speaks peering version 2.0, we speak 1.0"),
        (Hello(1, 0, "west", "evil.example.com"), "the certificate proved 'west.example.com'"),
        (Hello(1, 0, "east", "east.example.com"), "the certificate proved"),
    ],
)
def test_greetings_that_are_refused(hello, says):
    end = importer()
    actions = end.receive(hello, 0.0)
    closes(actions, says)
    assert isinstance(actions[0], s.Send)
    assert isinstance(actions[0].message, Refused)


def test_an_address_that_leads_back_to_ourselves():
    end = s.Importer(EAST, EAST.trust_domain, 0.0)
    closes(end.receive(EAST, 0.0), "leads back to this cluster")


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([Reset(1, ())], "first message was Reset"),
        ([WEST, WEST], "second Hello"),
        ([WEST, Upsert(1, service("a"))], "in the middle of a Reset"),
        ([WEST, Reset(2, ())], "message 2 came after 0"),
        ([WEST, Reset(1, ()), Remove(1, "a")], "message 1 came after 1"),
        ([WEST, Ack(1)], "nothing an exporter says"),
        ([WEST, Refused("go away")], "the peer refused: go away"),
        ([WEST, Unknown("evacuate")], "no message of version 1.0"),
    ],
)
def test_what_an_importer_does_not_take(messages, says):
    end = importer()
    for message in messages:
        actions = end.receive(message, 0.0)
    closes(actions, says)
    assert end.receive(WEST, 0.0) == []
    assert end.tick(100.0) == []


@pytest.mark.parametrize("message", [Ack(2), Ack(0), Upsert(1, service("a"))])
def test_what_an_exporter_does_not_take(message):
    end = exporter()
    end.offer([], 0.0)
    end.receive(EAST, 0.0)
    assert isinstance(end.receive(message, 0.0)[-1], s.Close)


def test_kinds_of_a_newer_minor_version_are_passed_over():
    end = importer()
    end.receive(Hello(1, 3, "west", "west.example.com"), 0.0)
    assert end.receive(Unknown("evacuate"), 0.0) == []


def test_a_refusal_is_not_answered():
    assert importer().receive(Refused("no"), 0.0) == [s.Close("the peer refused: no")]


def test_removing_what_is_not_there_is_no_news():
    end = importer()
    end.receive(WEST, 0.0)
    end.receive(Reset(1, ()), 0.0)
    assert end.receive(Remove(2, "a"), 0.0) == [s.Send(Ack(2))]


def test_a_peer_cannot_fill_our_memory(monkeypatch):
    end = importer()
    end.receive(WEST, 0.0)
    monkeypatch.setattr(s, "MAX_SERVICES", 2)
    closes(end.receive(Reset(1, tuple(service(n) for n in "abc")), 0.0), "more than 2 services")
    end = importer()
    end.receive(WEST, 0.0)
    monkeypatch.setattr(s, "MAX_PARTS", 4)
    wide = ExportedService("w", localities=tuple(LocalityCount(f"r{n}", 1, 1) for n in range(4)))
    end.receive(Reset(1, (wide,)), 0.0)
    assert not isinstance(end.receive(Upsert(2, wide), 0.0)[-1], s.Close)  # the same again is not more
    assert not isinstance(end.receive(Remove(3, "w"), 0.0)[-1], s.Close)
    assert not isinstance(end.receive(Upsert(4, wide), 0.0)[-1], s.Close)
    closes(end.receive(Upsert(5, service("a")), 0.0), "ports and locality counts")


def test_silence_after_the_greeting_is_a_silent_close_within_a_second():
    pair = joined()
    pair.offer(service("a"))
    pair.settle()
    pair.advance(1.0)
    pair.advance(1.0, answer=False)
    assert pair.closed["east"].silent
    assert pair.closed["west"].silent


def test_no_greeting_in_time():
    end = importer()
    now = 0.0
    while end.phase is not s.Phase.ENDED:
        now = end.deadline()
        actions = end.tick(now)
        for action in actions:
            if isinstance(action, s.Ping):
                end.pong(action.payload, now)
    assert now == s.GREETING_TIMEOUT
    closes(actions, "waited too long for Hello")


def test_a_reader_that_lags_gets_the_latest_only_and_is_cut_off():
    pair = joined()
    pair.offer()
    pair.settle()
    for round in range(300):
        pair.offer(*(service(f"s{round}.{n}") for n in range(10)))
    waiting = bytes(pair.to_east).count(b"sequence")
    assert waiting <= s.WINDOW
    pair.advance(s.ACK_TIMEOUT + 1)
    assert "lags" in pair.closed["west"].reason
    assert not pair.closed["west"].silent


def test_a_reader_that_catches_up_skips_what_came_and_went():
    pair = joined()
    pair.offer()
    pair.settle()
    for count in range(1000):
        pair.offer(service("a", count, 1000), service(f"gone{count}"))
    pair.offer(service("a", 7, 1000))
    pair.settle()
    assert pair.picture == {"a": service("a", 7, 1000)}


def test_what_lost_its_workloads_is_told_first():
    pair = joined()
    pair.offer(*(service(f"s{n:03}") for n in range(200)))
    pair.settle()
    pair.offer(*(service(f"s{n:03}", 0 if n == 199 else 2, 2) for n in range(200)))
    pair.carry(1_000, to="east")
    assert pair.picture["s199"] == service("s199", 0, 2)
    pair.settle()
    assert len(pair.picture) == 200
    assert all(each.localities[0].total == 2 for each in pair.picture.values())


def test_closing_says_why():
    end = importer()
    assert end.close("the Peer document was removed") == [
        s.Send(Refused("the Peer document was removed")),
        s.Close("the Peer document was removed"),
    ]
    assert end.close("again") == []
    assert "ended" in repr(end)
