"""Abuse: what costs us and brings nothing is bounded, and what busy but honest peers do is not abuse."""

import pytest
from h2_dialogue import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    POST,
    PRIORITY,
    RST_STREAM,
    WINDOW_UPDATE,
    client,
    frame,
    frames_of,
    head,
    literals,
    server,
    settings,
)

from gateway.native.codec.http2_events import ConnectionFault, ErrorCode, TooLarge
from gateway.native.codec.http2_limits import DEFAULT, Limits2

OPEN = head(1, POST, end=False)
CANCEL = (8).to_bytes(4, "big")
ONE = (1).to_bytes(4, "big")


def until_fault(codec, reads, *, listens=True):
    """(the fault that ends it, how many reads came before); (None, …) if nothing does."""
    number = 0
    for data in reads:
        try:
            codec.receive(data)
        except ConnectionFault as fault:
            return fault, number
        number += 1
        if listens:
            codec.pending()
    return None, number


def flood(codec, data, *, times, a_read=1):
    """How many came in before the codec had enough; None if it never had. `a_read` of them come with each read."""
    fault, reads = until_fault(codec, [data * a_read] * (times // a_read))
    if fault is None:
        return None
    assert fault.code == ErrorCode.ENHANCE_YOUR_CALM
    assert frames_of(codec.pending())[-1][0] == GOAWAY
    return reads * a_read


FLOODS = {
    "pings": frame(PING, 0, 0, b"x" * 8),
    "pongs": frame(PING, 1, 0, b"x" * 8),
    "settings": settings(),
    "settings of something": settings((4, 65_535)),
    "acknowledged settings": frame(4, 1),
    "priorities": frame(PRIORITY, 0, 1, b"\0" * 5),
    "window updates": frame(WINDOW_UPDATE, 0, 0, ONE),
    "window updates of a stream": frame(WINDOW_UPDATE, 0, 1, ONE),
    "window updates of a stream that has ended": frame(WINDOW_UPDATE, 0, 3, ONE),
    "empty data": frame(DATA, 0, 1),
    "padded empty data": frame(DATA, 8, 1, b"\0"),
    "unknown frames": frame(0x77, 0, 1, b"x"),
    "goaways": frame(GOAWAY, 0, 0, b"\0" * 8),
    "resets of a stream that has ended": frame(RST_STREAM, 0, 3, CANCEL),
    "data of a stream that we reset": frame(DATA, 0, 5, b"x"),
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_ends_the_connection(what):
    codec = server()
    codec.receive(OPEN + head(3, GET) + head(5, POST, end=False))
    codec.send_head(3, 200, [], end=True)
    codec.reset(5, 0)
    codec.pending()
    number = flood(codec, FLOODS[what], times=5_000, a_read=100)
    assert number is not None
    assert number <= 1_200


@pytest.mark.parametrize("what", ["pings", "pongs", "window updates", "settings", "priorities", "unknown frames"])
def test_the_same_frames_one_a_read_are_no_flood(what):
    codec = server()
    codec.receive(OPEN)
    assert flood(codec, FLOODS[what], times=20_000) is None


def test_a_peer_that_makes_us_talk_and_does_not_listen():
    codec = server()
    fault, _ = until_fault(codec, [frame(PING, 0, 0, b"x" * 8)] * 2_000, listens=False)  # one a read
    assert fault.detail == "http2.answers_unread"
    assert len(codec.pending()) < 1_100 * 17


def test_a_server_floods_a_client_no_better():
    codec = client()
    assert flood(codec, frame(PING, 0, 0, b"x" * 8), times=5_000, a_read=100) is not None
    codec = client()
    codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
    assert flood(codec, head(1, [(b":status", b"103")], end=False), times=5_000, a_read=100) is not None


def test_a_rapid_reset_ends_the_connection():
    codec = server()
    fault, reads = until_fault(codec, (head(sid, GET) + frame(RST_STREAM, 0, sid, CANCEL) for sid in range(1, 100_000, 2)))
    assert fault.detail == "http2.rapid_reset"
    assert reads == DEFAULT.wasted


@pytest.mark.parametrize(
    "provoke",
    [
        lambda sid: head(sid, GET) + frame(WINDOW_UPDATE, 0, sid, b"\0" * 4),
        lambda sid: head(sid, GET) + frame(WINDOW_UPDATE, 0, sid, (2**31 - 1).to_bytes(4, "big")),
        lambda sid: head(sid, GET) + frame(DATA, 0, sid, b"x"),
        lambda sid: head(sid, GET) + frame(PRIORITY, 0, sid, sid.to_bytes(4, "big") + b"\0"),
        lambda sid: head(sid, [*POST, (b"content-length", b"1")], end=False) + frame(DATA, 0, sid, b"xx"),
        lambda sid: head(sid, POST, end=False) + head(sid, POST, end=False),
        lambda sid: head(sid, GET[:2]),
    ],
)
def test_resets_that_we_are_made_to_send_count_as_much(provoke):
    codec = server()
    fault, reads = until_fault(codec, (provoke(sid) for sid in range(1, 100_000, 2)))
    assert fault.detail == "http2.rapid_reset"
    assert reads == DEFAULT.wasted


def test_refused_streams_count_too():
    codec = server(Limits2(streams=1))
    codec.receive(frame(4, 1) + OPEN)
    fault, reads = until_fault(codec, (head(sid, GET) for sid in range(3, 100_000, 2)))
    assert fault.detail == "http2.rapid_reset"
    assert reads == DEFAULT.wasted


def test_a_client_that_does_not_know_the_limit_yet_is_refused_without_blame():
    codec = server(Limits2(streams=1))
    codec.receive(OPEN)
    assert codec.receive(b"".join(head(sid, GET) for sid in range(3, 1_803, 2))) == []
    assert {kind for kind, *_ in frames_of(codec.pending())} == {RST_STREAM}
    codec.receive(frame(4, 1))
    assert codec._wasted == 0
    codec.receive(head(1_803, GET))
    assert codec._wasted == 1


def test_cancelling_half_of_all_requests_or_any_that_has_been_answered_is_no_abuse():
    codec = server()
    sid = 1
    for _ in range(5_000):
        codec.receive(head(sid, GET) + frame(RST_STREAM, 0, sid, CANCEL) + head(sid + 2, GET) + head(sid + 4, POST, end=False))
        codec.send_head(sid + 2, 200, [], end=True)
        codec.send_head(sid + 4, 200, [], end=False)  # a stream of news, cancelled when the reader has had enough
        codec.receive(frame(RST_STREAM, 0, sid + 4, CANCEL))
        codec.pending()
        sid += 6
    assert codec.open == 0
    assert len(codec._resets) <= DEFAULT.remembered


def test_a_large_download_and_upload_with_many_window_updates_is_no_abuse():
    codec = server()
    codec.receive(OPEN)
    codec.send_head(1, 200, [], end=False)
    for _ in range(3_000):
        codec.send_data(1, b"x" * 1_000)
        codec.receive(
            (frame(WINDOW_UPDATE, 0, 0, b"\0\0\3\xe8") + frame(WINDOW_UPDATE, 0, 1, b"\0\0\3\xe8")) + frame(DATA, 0, 1, b"y")
        )
        codec.consumed(1, 1)
        codec.pending()


def test_many_window_updates_in_one_read_are_paid_by_what_was_sent():
    codec = server()
    codec.receive(OPEN)
    codec.send_head(1, 200, [], end=False)
    for _ in range(50):
        for _ in range(60):
            codec.send_data(1, b"x" * 100)
        codec.pending()
        codec.receive(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x64") * 60 + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x64") * 60)


def test_continuations_are_counted():
    codec = server()
    block = literals(GET)
    data = frame(HEADERS, END_STREAM, 1, block) + frame(CONTINUATION, 0, 1) * 7
    assert len(codec.receive(data + frame(CONTINUATION, END_HEADERS, 1))) == 1
    data = frame(HEADERS, END_STREAM, 3, block) + frame(CONTINUATION, 0, 3) * 9
    with pytest.raises(ConnectionFault) as fault:
        codec.receive(data)
    assert fault.value.detail == "http2.too_many_continuations"


def test_settings_frames_are_of_a_reasonable_size():
    with pytest.raises(ConnectionFault) as fault:
        server().receive(settings(*[(4, 1)] * 33))
    assert fault.value.code == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("name", [b"x-a", b"cookie"])
def test_a_bomb_of_indexes_is_told_of_before_anything_is_copied(name):
    codec = server()
    planted = frame(
        HEADERS, END_HEADERS | END_STREAM, 1, literals(GET) + b"\x40" + bytes((len(name),)) + name + b"\x7f\x81\x1e" + b"x" * 3968
    )
    codec.receive(planted)
    assert codec._decoder._size > 3_900
    bomb = literals(GET) + b"\xbe" * 16_000
    ((_, event),) = codec.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, bomb))  # 64 MB if it were spelled out
    assert isinstance(event, TooLarge)


def test_gaps_in_the_numbers_and_resets_are_remembered_within_bounds():
    codec = server()
    for sid in range(1, 4_000, 8):
        codec.receive(head(sid, GET))
        codec.send_head(sid, 200, [], end=False)
        codec.reset(sid, 0)
        codec.pending()
    assert len(codec._skipped) <= 64
    assert len(codec._resets) <= DEFAULT.remembered
