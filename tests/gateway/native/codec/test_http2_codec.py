"""Streams, windows and frames of the HTTP/2 codec: what it says to each kind of frame in each state."""

import gc

import pytest
from h2_dialogue import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    client,
    frame,
    frames_of,
    head,
    literals,
    server,
    settings,
)

from gateway.native.codec.events import END, RequestHead, ResponseHead, Trailers
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import (
    WRITABLE,
    ConnectionFault,
    ErrorCode,
    Goaway,
    LocalFault,
    Pong,
    Reset,
    SettingsArrived,
    TooLarge,
)
from gateway.native.codec.http2_limits import Limits2

OPEN = head(1, POST, end=False)
OK = head(1, [(b":status", b"200")])
NO, PROTOCOL, FLOW, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CALM = 0, 1, 3, 5, 6, 7, 8, 9, 11


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def said(codec):
    return frames_of(codec.pending())


# -------------------------------------------------------------------------------------------------------------- greetings


def test_what_a_server_says_at_once():
    codec = Http2Codec(server=True)
    (first, second) = said(codec)
    pairs = {first[3][at : at + 6] for at in range(0, len(first[3]), 6)}
    assert first[:3] == (SETTINGS, 0, 0)
    assert pairs == {
        b"\0\3" + number(100),
        b"\0\4" + number(65_536),
        b"\0\6" + number(60 * 1024),
        b"\0\x08" + number(1),
    }
    assert second == (WINDOW_UPDATE, 0, 0, number(16 * 1024 * 1024 - 65_535))


def test_what_a_client_says_at_once():
    codec = Http2Codec(server=False)
    out = codec.pending()
    assert out.startswith(PREFACE)
    first, second = frames_of(out)
    assert b"\0\2" + number(0) in first[3]
    assert second[0] == WINDOW_UPDATE
    assert codec.pending() == b""


@pytest.mark.parametrize("cut", [1, 9, 23, 24, 30])
def test_the_preface_may_come_in_pieces(cut):
    codec = Http2Codec(server=True)
    data = PREFACE + settings() + head(1, GET)
    events = codec.receive(data[:cut]) + codec.receive(data[cut:])
    assert [type(event) for _, event in events] == [SettingsArrived, RequestHead]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"X", PREFACE[:23] + b"X", b"PRI * HTTP/2.0\r\n\r\nXX"])
def test_another_preface(data):
    with pytest.raises(ConnectionFault) as fault:
        Http2Codec(server=True).receive(data)
    assert fault.value.code == PROTOCOL


@pytest.mark.parametrize("first", [frame(PING, 0, 0, b"x" * 8), frame(SETTINGS, 1), head(1, GET)])
def test_settings_come_first(first):
    for codec, greeting in ((Http2Codec(server=True), PREFACE), (Http2Codec(server=False), b"")):
        with pytest.raises(ConnectionFault) as fault:
            codec.receive(greeting + first)
        assert fault.value.code == PROTOCOL
        assert said(codec)[-1][:3] == (GOAWAY, 0, 0)


def test_settings_that_matter():
    codec = client()
    assert codec.peer_max_streams == 2**31 - 1
    assert codec.receive(settings((3, 7), (8, 1), (99, 5)))[0][0] == 0
    assert codec.peer_max_streams == 7
    assert codec.peer_connects
    assert said(codec) == [(SETTINGS, 1, 0, b"")]
    assert Http2Codec(server=False).peer_max_streams == 100


# -------------------------------------------------------------------------------------------------- faults of a connection

FAULTS = {
    "a frame larger than allowed": (b"\0\x40\x01\0\0\0\0\0\1", SIZE),
    "DATA on stream zero": (frame(DATA, 0, 0, b"x"), PROTOCOL),
    "DATA on an idle stream": (frame(DATA, 0, 5, b"x"), PROTOCOL),
    "DATA on a server's stream": (frame(DATA, 0, 2, b"x"), PROTOCOL),
    "DATA padded beyond its end": (OPEN + frame(DATA, PADDED, 1, b"\4abc"), PROTOCOL),
    "DATA padded with nothing": (OPEN + frame(DATA, PADDED, 1, b""), SIZE),
    "DATA on a stream that was never opened": (head(5, GET) + frame(DATA, 0, 3, b"x"), PROTOCOL),
    "a head on stream zero": (frame(HEADERS, 5, 0, literals(GET)), PROTOCOL),
    "a head on stream zero, unfinished": (frame(HEADERS, 1, 0, literals(GET)), PROTOCOL),
    "a head on a server's stream": (head(2, GET), PROTOCOL),
    "a head on a number passed by": (head(5, GET) + head(3, GET), PROTOCOL),
    "a head on a number passed by between two": (head(1, GET) + head(5, GET) + head(3, GET), PROTOCOL),
    "a head padded beyond its end": (frame(HEADERS, 13, 1, b"\x7f" + literals(GET)), PROTOCOL),
    "a head too short for its priority": (frame(HEADERS, 37, 1, b"\0\0\0"), SIZE),
    "a head that is no HPACK": (frame(HEADERS, 5, 1, b"\x80"), COMPRESSION),
    "another frame inside a head": (frame(HEADERS, 1, 1, literals(GET)) + frame(PING, 0, 0, b"x" * 8), PROTOCOL),
    "an unknown frame inside a head": (frame(HEADERS, 1, 1, literals(GET)) + frame(99), PROTOCOL),
    "a head inside a head": (frame(HEADERS, 1, 1, literals(GET)) + head(3, GET), PROTOCOL),
    "CONTINUATION of another stream": (frame(HEADERS, 1, 1, literals(GET)) + frame(CONTINUATION, 4, 3), PROTOCOL),
    "CONTINUATION of nothing": (OPEN + frame(CONTINUATION, 4, 1), PROTOCOL),
    "PRIORITY on stream zero": (frame(PRIORITY, 0, 0, b"\0" * 5), PROTOCOL),
    "PRIORITY of an idle stream on itself": (frame(PRIORITY, 0, 3, number(3) + b"\0"), PROTOCOL),
    "PRIORITY of four bytes": (frame(PRIORITY, 0, 3, number(1)), SIZE),
    "RST_STREAM on stream zero": (frame(RST_STREAM, 0, 0, number(8)), PROTOCOL),
    "RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, number(8)), PROTOCOL),
    "RST_STREAM of three bytes": (OPEN + frame(RST_STREAM, 0, 1, b"abc"), SIZE),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "SETTINGS of five bytes": (frame(SETTINGS, 0, 0, b"12345"), SIZE),
    "SETTINGS acknowledged with bytes": (frame(SETTINGS, 1, 0, b"123456"), SIZE),
    "a window larger than there is": (settings((4, 2**31)), FLOW),
    "a window that makes a stream's larger than there is": (
        OPEN + frame(WINDOW_UPDATE, 0, 1, number(1)) + settings((4, 2**31 - 1)),
        FLOW,
    ),
    "a largest frame that is too small": (settings((5, 16_383)), PROTOCOL),
    "a largest frame that is too large": (settings((5, 2**24)), PROTOCOL),
    "a push that is no boolean": (settings((2, 2)), PROTOCOL),
    "extended CONNECT that is no boolean": (settings((8, 2)), PROTOCOL),
    "PUSH_PROMISE": (OPEN + frame(PUSH_PROMISE, 4, 1, number(2)), PROTOCOL),
    "PING on a stream": (frame(PING, 0, 1, b"x" * 8), PROTOCOL),
    "PING of seven bytes": (frame(PING, 0, 0, b"x" * 7), SIZE),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL),
    "GOAWAY of seven bytes": (frame(GOAWAY, 0, 0, b"\0" * 7), SIZE),
    "WINDOW_UPDATE of three bytes": (frame(WINDOW_UPDATE, 0, 0, b"abc"), SIZE),
    "WINDOW_UPDATE of nothing": (frame(WINDOW_UPDATE, 0, 0, number(0)), PROTOCOL),
    "WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, 0, 3, number(1)), PROTOCOL),
    "a window of the connection beyond the largest": (frame(WINDOW_UPDATE, 0, 0, number(2**31 - 1)), FLOW),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_of_the_connection(what):
    data, code = FAULTS[what]
    codec = server()
    codec.receive(b"")
    with pytest.raises(ConnectionFault) as fault:
        codec.receive(data)
    assert fault.value.code == code
    assert fault.value.detail.startswith("http2.")
    assert ErrorCode(code).name in str(fault.value)
    kind, _, sid, payload = said(codec)[-1]
    assert (kind, sid, payload) == (GOAWAY, 0, number(codec.last_stream) + number(code))
    assert codec.closing
    assert codec.receive(head(7, GET)) == []


def test_what_was_understood_before_a_fault_is_in_it():
    codec = server()
    with pytest.raises(ConnectionFault) as fault:
        codec.receive(head(1, GET) + frame(PING, 0, 1, b"x" * 8))
    assert [sid for sid, _ in fault.value.events] == [1]


def test_a_client_refuses_what_only_clients_say():
    for data, code in [
        (settings((2, 1)), PROTOCOL),
        (frame(PUSH_PROMISE, 4, 1, number(2) + b"\x88"), PROTOCOL),
        (head(2, [(b":status", b"200")]), PROTOCOL),
        (head(3, [(b":status", b"200")]), PROTOCOL),
        (settings((8, 1)) + settings((8, 0)), PROTOCOL),
    ]:
        codec = client()
        codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
        with pytest.raises(ConnectionFault) as fault:
            codec.receive(data)
        assert fault.value.code == code


def test_frames_after_a_stream_has_ended():
    for late in (frame(DATA, 0, 1, b"x"), head(1, [(b"a", b"b")])):
        codec = server()
        codec.receive(head(1, GET))
        codec.send_head(1, 200, [], end=True)
        with pytest.raises(ConnectionFault) as fault:
            codec.receive(late)
        assert fault.value.code == CLOSED


# --------------------------------------------------------------------------------------------------------- faults of streams

STREAM_FAULTS = {
    "DATA after END": (head(1, POST) + frame(DATA, 0, 1, b"x"), CLOSED),
    "a head after END": (head(1, POST) + head(1, [(b"a", b"b")]), CLOSED),
    "a head without END after the head": (OPEN + head(1, [(b"a", b"b")], end=False), PROTOCOL),
    "PRIORITY on itself": (OPEN + frame(PRIORITY, 0, 1, number(1) + b"\0"), PROTOCOL),
    "PRIORITY of four bytes": (OPEN + frame(PRIORITY, 0, 1, b"\0" * 4), SIZE),
    "a window beyond the largest": (OPEN + frame(WINDOW_UPDATE, 0, 1, number(2**31 - 1)), FLOW),
    "WINDOW_UPDATE of nothing": (OPEN + frame(WINDOW_UPDATE, 0, 1, number(0)), PROTOCOL),
    "more than its window": (OPEN + frame(DATA, 0, 1, b"x" * 16_384) * 4 + frame(DATA, 0, 1, b"x"), FLOW),
}


@pytest.mark.parametrize("what", STREAM_FAULTS)
def test_faults_of_a_stream(what):
    data, code = STREAM_FAULTS[what]
    codec = server()
    events = codec.receive(data)
    sid, event = events[-1]
    assert sid == 1
    assert isinstance(event, Reset)
    assert (event.code, event.local) == (code, True)
    assert said(codec) == [(RST_STREAM, 0, 1, number(code))]
    assert codec.open == 0
    assert len(codec.receive(head(3, GET))) == 1
    codec.send_head(1, 200, [], end=True)  # nothing comes of it
    codec.send_data(1, b"x", end=True)
    codec.send_trailers(1, [])
    codec.consumed(1, 5)
    codec.reset(1, 8)
    assert said(codec) == []


def test_a_new_stream_that_depends_on_itself():
    codec = server()
    assert codec.receive(head(1, GET, flags=END_HEADERS | PRIORITISED, prefix=number(1) + b"\0")) == []
    assert said(codec) == [(RST_STREAM, 0, 1, number(PROTOCOL))]


def test_data_before_the_head_of_a_response():
    codec = client()
    for flags, data in ((0, b"x"), (END_STREAM, b"")):
        sid = codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
        assert [type(event) for _, event in codec.receive(frame(DATA, flags, sid, data))] == [Reset]


def test_what_was_on_its_way_when_a_stream_was_reset_is_passed_over():
    codec = server()
    codec.receive(OPEN)
    codec.reset(1, CANCEL)
    assert said(codec) == [(RST_STREAM, 0, 1, number(CANCEL))]
    late = (
        frame(DATA, 0, 1, b"x")
        + head(1, [(b"a", b"b")])
        + frame(WINDOW_UPDATE, 0, 1, number(1))
        + frame(RST_STREAM, 0, 1, number(0))
    )
    assert codec.receive(late) == []
    assert said(codec) == []


def test_frames_after_the_peer_has_reset_a_stream():
    codec = server()
    ((_, _), (sid, event)) = codec.receive(OPEN + frame(RST_STREAM, 0, 1, number(CANCEL)))
    assert (sid, event.code, event.local) == (1, CANCEL, False)
    assert codec.receive(frame(DATA, 0, 1, b"x")) == []
    assert said(codec) == [(RST_STREAM, 0, 1, number(CLOSED))]
    assert codec.receive(frame(WINDOW_UPDATE, 0, 1, number(1)) + frame(PRIORITY, 0, 1, number(0) + b"\0")) == []
    assert said(codec) == []


def test_late_window_updates_of_streams_that_have_ended():
    codec = server()
    codec.receive(head(1, GET))
    codec.send_head(1, 200, [], end=True)
    assert codec.receive(frame(WINDOW_UPDATE, 0, 1, number(9)) + frame(RST_STREAM, 0, 1, number(0))) == []


def test_unknown_frames_flags_and_settings_are_passed_over():
    codec = server()
    events = codec.receive(frame(0x42, 0xFF, 1, b"x" * 50) + frame(0xFF) + settings((0xAB, 1)) + frame(PING, 0xF0, 0, b"12345678"))
    assert [type(event) for _, event in events] == [SettingsArrived]
    assert [kind for kind, *_ in said(codec)] == [SETTINGS, PING]


def test_padding_and_priority_are_taken_off():
    codec = server()
    data = frame(HEADERS, END_HEADERS | PADDED | PRIORITISED, 1, b"\3" + number(0) + b"\7" + literals(POST) + b"\0\0\0")
    events = codec.receive(data + frame(DATA, PADDED | END_STREAM, 1, b"\2hello\0\0"))
    assert [event for _, event in events][1:] == [b"hello", END]


def test_a_head_in_pieces():
    codec = server()
    block = literals(GET)
    data = frame(HEADERS, END_STREAM, 1, block[:3]) + frame(CONTINUATION, 0, 1, block[3:9]) + frame(CONTINUATION, 0, 1)
    assert codec.receive(data) == []
    assert codec.receive(frame(CONTINUATION, END_HEADERS, 1, block[9:]))[0][1].end


# ----------------------------------------------------------------------------------------------------------------- answers


def test_an_answer():
    codec = server()
    codec.receive(head(1, GET))
    codec.send_head(1, 103, [b"link: a"], end=False)
    codec.send_head(1, 200, [b"Content-Length: 5", b"Connection: close"], end=False)
    assert codec.send_data(1, b"hello")
    assert codec.open == 1
    codec.send_trailers(1, [b"x-sum: 1"])
    assert codec.open == 0
    sent = said(codec)
    assert [(kind, flags) for kind, flags, *_ in sent] == [(HEADERS, 4), (HEADERS, 4), (DATA, 0), (HEADERS, 5)]


def test_trailers_of_nothing_are_an_end():
    codec = server()
    codec.receive(head(1, GET))
    codec.send_head(1, 200, [], end=False)
    codec.send_trailers(1, [b"connection: x"])
    assert said(codec)[-1] == (DATA, END_STREAM, 1, b"")


def test_a_large_head_goes_in_pieces():
    codec = server()
    codec.receive(head(1, GET))
    codec.send_head(1, 200, [b"a: " + b"b" * 20_000, b"c: " + b"d" * 20_000], end=True)
    sent = said(codec)
    assert [(kind, flags) for kind, flags, *_ in sent] == [(HEADERS, 1), (CONTINUATION, 0), (CONTINUATION, 4)]
    assert max(len(payload) for *_, payload in sent) == 16_384
    peer = client()
    peer.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
    block = b"".join(payload for *_, payload in sent)
    assert len(peer._decoder.decode(block)[0]) == 2


def test_the_end_of_one_side_does_not_end_the_other():
    codec = server()
    codec.receive(OPEN)
    codec.send_head(1, 200, [], end=True)
    assert codec.open == 1
    assert codec.receive(frame(DATA, END_STREAM, 1, b"x")) == [(1, b"x"), (1, END)]
    assert codec.open == 0


def test_what_may_not_be_asked_of_it():
    codec = server()
    codec.receive(OPEN)
    codec.send_head(1, 200, [], end=False)
    with pytest.raises(LocalFault):
        codec.send_head(1, 200, [], end=False)
    codec.send_data(1, b"", end=True)
    for call in (
        lambda: codec.send_data(1, b"x"),
        lambda: codec.send_trailers(1, []),
        lambda: codec.send_head(1, 103, [], end=False),
        lambda: codec.ping(b"short"),
        lambda: codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True),
    ):
        with pytest.raises(LocalFault):
            call()


# ----------------------------------------------------------------------------------------------------------------- windows


def sending(window, *, size=10):
    """A server whose client allows `window` bytes a stream, with a request answered by a head."""
    codec = Http2Codec(server=True)
    codec.receive(PREFACE + settings((4, window)) + head(1, GET))
    codec.pending()
    codec.send_head(1, 200, [], end=False)
    codec.pending()
    return codec


def test_what_does_not_fit_is_held_and_goes_by_itself():
    codec = sending(4)
    assert not codec.send_data(1, b"0123456789", end=True)
    assert codec.body_held(1) == 6
    assert said(codec) == [(DATA, 0, 1, b"0123")]
    assert codec.receive(frame(WINDOW_UPDATE, 0, 1, number(5))) == []
    assert said(codec) == [(DATA, 0, 1, b"45678")]
    assert codec.receive(frame(WINDOW_UPDATE, 0, 1, number(5))) == [(1, WRITABLE)]
    assert said(codec) == [(DATA, END_STREAM, 1, b"9")]
    assert (codec.open, codec.body_held(1)) == (0, 0)


def test_trailers_wait_for_what_is_held():
    codec = sending(4)
    assert not codec.send_data(1, b"0123456789")
    codec.send_trailers(1, [b"a: b"])
    with pytest.raises(LocalFault):
        codec.send_data(1, b"x")
    codec.pending()
    codec.receive(frame(WINDOW_UPDATE, 0, 1, number(50)))
    assert [(kind, flags) for kind, flags, *_ in said(codec)] == [(DATA, 0), (HEADERS, 5)]
    assert codec.open == 0


def test_more_than_one_frame_of_a_stream_at_once():
    codec = sending(2**20)
    assert codec.send_data(1, b"x" * 40_000)
    assert [len(payload) for *_, payload in said(codec)] == [16_384, 16_384, 7_232]
    assert not codec.send_data(1, b"x" * 40_000)  # the connection's window
    assert codec.body_held(1) == 80_000 - 65_535
    assert codec.receive(frame(WINDOW_UPDATE, 0, 0, number(50_000))) == [(1, WRITABLE)]


def test_streams_that_wait_take_turns():
    codec = Http2Codec(server=True)
    codec.receive(PREFACE + settings((4, 2**20)) + head(1, GET) + head(3, GET) + head(5, GET))
    for sid in (1, 3, 5):
        codec.send_head(sid, 200, [], end=False)
        codec.send_data(sid, b"x" * 100_000)
    codec.pending()
    codec.receive(frame(WINDOW_UPDATE, 0, 0, number(16_384 * 6)))
    assert [sid for _, _, sid, _ in said(codec)] == [1, 3, 5, 1, 3, 5]


def test_a_window_may_become_negative_and_end_needs_none():
    codec = sending(100)
    codec.send_data(1, b"x" * 80)
    codec.receive(settings((4, 10)))
    codec.pending()
    assert not codec.send_data(1, b"y" * 5)
    codec.receive(frame(WINDOW_UPDATE, 0, 1, number(70)))
    assert said(codec) == []
    codec.receive(frame(WINDOW_UPDATE, 0, 1, number(3)))
    assert said(codec) == [(DATA, 0, 1, b"yyy")]
    assert codec.receive(settings((4, 12)))[-1] == (1, WRITABLE)
    assert said(codec) == [(SETTINGS, 1, 0, b""), (DATA, 0, 1, b"yy")]
    codec = sending(100)
    codec.send_data(1, b"x" * 80)
    codec.receive(settings((4, 10)))
    codec.pending()
    assert codec.send_data(1, b"", end=True)
    assert said(codec) == [(DATA, END_STREAM, 1, b"")]


def test_a_reset_drops_what_is_held():
    codec = sending(4)
    codec.send_data(1, b"x" * 100)
    codec.pending()
    codec.reset(1, CANCEL)
    codec.receive(frame(WINDOW_UPDATE, 0, 1, number(500)) + frame(WINDOW_UPDATE, 0, 0, number(500)))
    assert [kind for kind, *_ in said(codec)] == [RST_STREAM]
    assert codec.body_held(1) == 0


def test_credit_comes_back_in_batches_and_not_after_the_end():
    codec = server()
    codec.receive(OPEN + frame(DATA, 0, 1, b"x" * 16_384) * 3)
    codec.consumed(1, 16_384)
    assert said(codec) == []
    codec.consumed(1, 16_384)
    assert said(codec) == [(WINDOW_UPDATE, 0, 1, number(32_768))]
    codec.receive(frame(DATA, END_STREAM, 1, b"x" * 16_384))
    codec.consumed(1, 32_768)
    assert said(codec) == []


def test_padding_is_credited_by_itself():
    codec = server(Limits2(stream_window=1_000))
    codec.receive(OPEN)
    for _ in range(100):
        codec.receive(frame(DATA, PADDED, 1, b"\xff" + b"\0" * 255))
    credit = sum(int.from_bytes(payload, "big") for kind, _, _, payload in said(codec) if kind == WINDOW_UPDATE)
    assert 100 * 256 - 500 <= credit <= 100 * 256


def test_the_connections_credit_comes_back_as_bytes_arrive():
    limits = Limits2(connection_window=100_000)
    codec = server(limits)
    taken = 0
    for sid in range(1, 41, 2):
        codec.receive(head(sid, POST, end=False) + frame(DATA, 0, sid, b"x" * 10_000))
        taken += sum(
            int.from_bytes(payload, "big") for kind, _, where, payload in said(codec) if (kind, where) == (WINDOW_UPDATE, 0)
        )
    assert 150_000 <= taken <= 200_000


def test_more_than_the_connections_window():
    codec = server(Limits2(connection_window=80_000, stream_window=2**20))
    codec._room = 10_000
    with pytest.raises(ConnectionFault) as fault:
        codec.receive(OPEN + frame(DATA, 0, 1, b"x" * 10_001))
    assert fault.value.code == FLOW


# -------------------------------------------------------------------------------------------------------------- connection


def test_pings():
    codec = server()
    codec.ping(b"abcdefgh")
    assert said(codec) == [(PING, 0, 0, b"abcdefgh")]
    ((sid, pong),) = codec.receive(frame(PING, 1, 0, b"abcdefgh"))
    assert (sid, type(pong), pong.data) == (0, Pong, b"abcdefgh")
    assert codec.receive(frame(PING, 0, 0, b"12345678")) == []
    assert said(codec) == [(PING, 1, 0, b"12345678")]


def test_going_away_in_two_steps():
    codec = server()
    codec.receive(head(1, GET))
    codec.goaway(soon=True)
    assert said(codec) == [(GOAWAY, 0, 0, number(2**31 - 1) + number(NO))]
    assert not codec.closing
    assert [sid for sid, _ in codec.receive(head(3, GET))] == [3]
    codec.goaway()
    assert said(codec) == [(GOAWAY, 0, 0, number(3) + number(NO))]
    assert codec.closing
    assert codec.receive(head(5, POST, end=False) + frame(DATA, 0, 5, b"x")) == []
    codec.send_head(3, 200, [], end=True)
    assert [kind for kind, *_ in said(codec)] == [HEADERS]
    assert codec.last_stream == 5
    codec.goaway(CALM)
    assert said(codec) == [(GOAWAY, 0, 0, number(3) + number(CALM))]  # never more than it said before


def test_the_tables_stay_in_step_over_heads_that_are_passed_over():
    codec = server()
    codec.goaway()
    indexed = b"\x40\x03x-a\x01b"
    codec.receive(frame(HEADERS, 5, 1, literals(GET) + indexed))
    assert codec._decoder.decode(b"\xbe")[0] == [b"x-a: b"]


def test_a_goaway_refuses_the_streams_beyond_its_last():
    codec = client()
    sids = [codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True) for _ in range(3)]
    events = codec.receive(frame(GOAWAY, 0, 0, number(sids[0]) + number(CALM) + b"debug"))
    assert isinstance(events[0][1], Goaway)
    assert (events[0][1].last_stream, events[0][1].code) == (1, CALM)
    assert [(sid, event.code, event.local) for sid, event in events[1:]] == [(3, REFUSED, False), (5, REFUSED, False)]
    assert (codec.open, codec.closing) == (1, True)
    with pytest.raises(LocalFault):
        codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
    assert [type(event) for _, event in codec.receive(OK)] == [ResponseHead]


def test_more_streams_than_allowed_are_refused():
    codec = server(Limits2(streams=2))
    events = codec.receive(head(1, GET) + head(3, GET) + head(5, GET))
    assert [sid for sid, _ in events] == [1, 3]
    assert said(codec) == [(RST_STREAM, 0, 5, number(REFUSED))]
    codec.send_head(1, 200, [], end=True)
    assert [sid for sid, _ in codec.receive(head(7, GET))] == [7]


def test_a_client_runs_out_of_numbers():
    codec = client()
    codec.last_stream = 2**31 - 3
    with pytest.raises(LocalFault):
        codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)


def test_a_codec_goes_without_the_collector():
    def living():
        return sum(type(each) is Http2Codec for each in gc.get_objects())

    gc.disable()
    try:
        before = living()
        codec = server()
        codec.receive(OPEN)
        assert living() == before + 1
        del codec
        assert living() == before
    finally:
        gc.enable()


def test_everything_shows_its_state():
    codec = server()
    codec.receive(OPEN)
    assert repr(codec) == "<Http2Codec server open=1 last=1>"
    codec.goaway()
    assert repr(codec) == "<Http2Codec server open=1 last=1 closing>"
    assert repr(codec._streams[1]) == "<Stream window=65535 held=0; heard room=65536>"
    assert repr(Reset(8, local=False)) == "<Reset 8 by peer>"
    assert repr(Reset(1, local=True, detail="http2.x")) == "<Reset 1 local http2.x>"
    shown = [repr(event) for event in (TooLarge("a"), Goaway(1, 0), Pong(b"x"), SettingsArrived(), WRITABLE, Trailers([]))]
    assert shown == ["<TooLarge a>", "<Goaway last=1 code=0>", "<Pong b'x'>", "<SettingsArrived>", "WRITABLE", "<Trailers 0 lines>"]
