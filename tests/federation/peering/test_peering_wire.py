"""Messages as bytes: cut anywhere, damaged anyhow, newer than us."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Protocol
from federation.peering import wire
from federation.peering.wire import (
    Ack,
    Decoder,
    ExportedPort,
    ExportedService,
    Hello,
    LocalityCount,
    Refused,
    Remove,
    Reset,
    Unknown,
    Upsert,
    WireError,
    encode,
    resets,
)

REVIEWS = ExportedService(
    "reviews.shop.svc.cluster.local",
    "shop",
    (ExportedPort(9080, "http", "HTTP"),),
    (LocalityCount("r1/z1", 2, 3, (("version", "v1"),)), LocalityCount("r2", 0, 1)),
)
ALL = [
    Hello(1, 0, "east", "east.example.com", "gw-1", "r1/z1", "east"),
    Reset(1, (REVIEWS,), more=True),
    Upsert(2, REVIEWS),
    Remove(3, "a.b"),
    Ack(3),
    Refused("no"),
]


def framed(value):
    body = msgspec.msgpack.encode(value)
    return len(body).to_bytes(4, "big") + body


@given(st.lists(st.integers(1, 60)))
def test_any_cut_gives_the_same_messages(cuts):
    data, decoder, found = b"".join(map(encode, ALL)), Decoder(), []
    for size in [*cuts, len(data)]:
        found += decoder.receive(data[:size])
        data = data[size:]
    assert found == ALL
    assert not decoder.partial


def test_a_message_cut_short_is_seen():
    decoder = Decoder()
    assert list(decoder.receive(encode(ALL[0])[:-1])) == []
    assert decoder.partial


@pytest.mark.parametrize("length", [0, wire.MAX_MESSAGE + 1, 0xFFFFFFFF])
def test_length_is_bounded_before_anything_is_kept(length):
    with pytest.raises(WireError, match="are allowed"):
        list(Decoder().receive(length.to_bytes(4, "big")))


def test_what_is_too_long_is_not_sent():
    with pytest.raises(WireError, match="over the limit"):
        encode(Refused("x" * wire.MAX_MESSAGE))


@pytest.mark.parametrize(
    "value",
    [
        1,
        [],
        {"type": 3},
        {"no": "type"},
        {"type": "ack"},
        {"type": "ack", "sequence": -1},
        {"type": "ack", "sequence": "1"},
        {"type": "remove", "sequence": 1, "hostname": "x" * 254},
        {"type": "upsert", "sequence": 1, "service": {"hostname": ""}},
        {"type": "upsert", "sequence": 1, "service": {"hostname": "a", "ports": [{"number": 0}]}},
        {"type": "upsert", "sequence": 1, "service": {"hostname": "a", "ports": [{"number": 70000}]}},
        {"type": "upsert", "sequence": 1, "service": {"hostname": "a", "ports": [{"number": n + 1} for n in range(257)]}},
        {"type": "upsert", "sequence": 1, "service": {"hostname": "a", "localities": [{"healthy": -1}]}},
        {"type": "upsert", "sequence": 1, "service": {"hostname": "a", "localities": [{"total": 10**7}]}},
    ],
)
def test_bad_messages(value):
    with pytest.raises(WireError):
        list(Decoder().receive(framed(value)))


@given(st.binary(max_size=200))
def test_rubbish_is_a_wire_error_or_nothing(body):
    with contextlib.suppress(WireError):
        list(Decoder().receive((len(body) or 1).to_bytes(4, "big") + body))


def test_deep_nesting_is_a_wire_error():
    with pytest.raises(WireError):
        list(Decoder().receive((100_000).to_bytes(4, "big") + b"\x91" * 100_000))


def test_newer_kinds_and_newer_fields_are_passed_over():
    data = framed({"type": "evacuate", "cluster": "west"}) + framed({"type": "ack", "sequence": 7, "hurry": True})
    assert list(Decoder().receive(data)) == [Unknown("evacuate"), Ack(7)]


def test_a_newer_protocol_reads_as_unknown():
    assert ExportedPort(1, "x", "HTTP3").known is Protocol.UNKNOWN
    assert REVIEWS.ports[0].known is Protocol.HTTP


def test_a_long_reset_goes_in_pieces_that_fit():
    services = [ExportedService(f"{n}.{'x' * 200}", labels=tuple((f"k{i}", "v" * 300) for i in range(20))) for n in range(400)]
    pieces = resets(5, services)
    assert [piece.sequence for piece in pieces] == list(range(5, 5 + len(pieces)))
    assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert len(pieces) > 2
    assert [service for piece in pieces for service in piece.services] == services
    for piece in pieces:
        encode(piece)


def test_nothing_to_offer_is_one_empty_reset():
    assert resets(1, []) == [Reset(1, ())]


def test_the_largest_service_allowed_is_sent():
    widest = ExportedService(
        "h", localities=tuple(LocalityCount("x" * 253, 1, 1, (("k" * 317, "v" * 317),) * 5) for _ in range(256))
    )
    assert [list(Decoder().receive(encode(piece))) for piece in resets(1, [widest])] == [[Reset(1, (widest,))]]
