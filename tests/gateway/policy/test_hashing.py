"""xxHash64 against published values, and what requests are hashed of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.hashing import HashKey, Peer, cookie_value, header_hash, normalized, query_hash, xxh64
from gateway.snapshot import HashPolicy


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        # Known answers: of the reference implementation, and Envoy's own tests ("foo").
        (b"", 0, 0xEF46DB3751D8E999),
        (b"", 1, 0xD5AFBA1336A3BE4B),
        (b"a", 0, 0xD24EC4F1A98C6E5B),
        (b"abc", 0, 0x44BC2CF5AD770999),
        (b"foo", 0, 3728699739546630719),
        (b"Nobody inspects the spammish repetition", 0, 0xFBCEA83C8A378BF1),
    ],
)
def test_known_answers(data, seed, expected):
    assert xxh64(data, seed) == expected


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_it_is_64_bits_and_every_byte_counts(data, seed):
    assert 0 <= xxh64(data, seed) < 2**64
    assert xxh64(data + b"\0", seed) != xxh64(data, seed)
    if data:
        assert xxh64(bytes([data[0] ^ 1]) + data[1:], seed) != xxh64(data, seed)


def test_lengths_around_each_stage_differ():
    assert len({xxh64(b"x" * length) for length in range(100)}) == 100


def key(policy, fields=(), target="/", address="10.0.0.1"):
    return HashKey.of(policy).key(fields, target, address)


def test_a_header():
    policy = HashPolicy("header", "X-User")
    assert key(policy, [(b"x-user", b"a")]) == xxh64(b"a")
    assert key(policy, [(b"x-other", b"a")]) is None
    assert key(policy, [(b"x-user", b"")]) == xxh64(b"")  # there, and empty


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=5))
def test_values_of_a_header_count_in_any_order(values):
    fields = [(b"x", value) for value in values]
    assert header_hash(fields, b"x") == header_hash(list(reversed(fields)), b"x")
    chained = 0
    for value in sorted(values):
        chained = xxh64(value, chained)
    assert header_hash(fields, b"x") == chained


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/?k=v", b"v"),
        ("/?a=1&k=v&k=w", b"v"),
        ("/?k=%20x", b"%20x"),  # as written
        ("/?k", b""),
        ("/?kk=v", None),
        ("/k=v", None),
        ("/?k=v#k=x", b"v"),
    ],
)
def test_a_query_parameter(target, expected):
    assert query_hash(target, "k") == (None if expected is None else xxh64(expected))
    assert key(HashPolicy("query", "k"), target=target) == query_hash(target, "k")


def test_the_source_address():
    assert key(HashPolicy("source-ip")) == xxh64(b"10.0.0.1")
    assert key(HashPolicy("source-ip"), address="::1") == xxh64(b"::1")
    assert key(HashPolicy("source-ip"), address="") is None  # a unix socket


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"k=v"], b"v"),
        ([b"a=1; k=v; k=w"], b"v"),
        ([b"a=1", b'k="v w"'], b"v w"),
        ([b"kk=v; K=x"], b""),
        ([b"k"], b""),
        ([b'k="'], b'"'),
    ],
)
def test_a_cookie(lines, expected):
    fields = [(b"cookie", line) for line in lines]
    assert cookie_value(fields, b"k") == expected
    assert key(HashPolicy("cookie", "k"), fields) == (xxh64(expected) if expected else None)


@pytest.mark.parametrize(
    ("policy", "suffix"),
    [
        (HashPolicy("cookie", "k", ttl_ms=0), "; HttpOnly"),
        (HashPolicy("cookie", "k", ttl_ms=1999), "; Max-Age=1; HttpOnly"),
        (
            HashPolicy("cookie", "k", path="/p", ttl_ms=60_000, attributes=(("SameSite", "Lax"), ("Secure", ""))),
            "; Max-Age=60; Path=/p; SameSite=Lax; Secure; HttpOnly",
        ),
    ],
)
def test_a_cookie_is_made_for_clients_that_bring_none(policy, suffix):
    compiled = HashKey.of(policy)
    assert compiled.makes_cookie
    peer = Peer("10.0.0.1", "10.0.0.1:5:10.0.0.2:80")
    found, line = compiled.key_and_cookie([], "/", peer)
    value = f"{xxh64(peer.connection.encode()):016x}"
    assert line == f'k="{value}"{suffix}'.encode()
    assert found == xxh64(value.encode())
    # What the client then sends leads to the same place, and makes no other cookie.
    assert compiled.key_and_cookie([(b"cookie", f"k={value}".encode())], "/", peer) == (found, None)
    assert compiled.key_and_cookie([], "/", Peer("10.0.0.1", "other"))[0] != found


def test_without_a_ttl_no_cookie_is_made():
    compiled = HashKey.of(HashPolicy("cookie", "k"))
    assert not compiled.makes_cookie
    assert compiled.key_and_cookie([], "/", Peer("10.0.0.1", "x")) == (None, None)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no hash of 'colour'"):
        HashKey.of(HashPolicy("colour"))


def test_normalized_weights_sum_to_one():
    assert normalized([1, 3]) == [0.25, 0.75]
