"""Client hellos of a real TLS library, cut and mutated in every way: the reading never raises and never changes its mind."""

from __future__ import annotations

import ssl
import warnings
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.native.codec.hello import MAX_HELLO, MAX_RECORDS, TLS_1_2, TLS_1_3, Hello, NeedMore, NotTls, read_hello


def client_hello(name: str | None = "shop.example", alpn: tuple[str, ...] = (), top: int = TLS_1_3) -> bytes:
    """What Python's own client sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion(top)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def record(payload: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 1]) + len(payload).to_bytes(2, "big") + payload


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def made(*extensions: tuple[int, bytes], raw: bytes | None = None, session: bytes = b"") -> bytes:
    """A hello with exactly these extensions."""
    body = b"\x03\x03" + bytes(32) + vector(1, session) + vector(2, b"\x13\x01") + vector(1, b"\0")
    block = raw if raw is not None else vector(2, b"".join(k.to_bytes(2, "big") + vector(2, v) for k, v in extensions))
    body += block
    return record(b"\x01" + vector(3, body))


def named(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    return 0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names))


def in_records(hello: bytes, cuts: list[int]) -> bytes:
    """The same hello with its message cut over several records."""
    message = hello[5:]
    edges = sorted({0, len(message), *(cut % len(message) for cut in cuts)})
    return b"".join(record(message[start:stop]) for start, stop in pairwise(edges))


REAL = client_hello(alpn=("h2", "http/1.1"))


def test_a_real_hello_says_name_protocols_and_versions() -> None:
    hello = read_hello(REAL)
    assert isinstance(hello, Hello)
    assert hello.server_name == "shop.example"
    assert hello.alpn == ("h2", "http/1.1")
    assert hello.versions == (TLS_1_3, TLS_1_2)


def test_a_tls_12_client_offers_its_version_in_the_old_field() -> None:
    with warnings.catch_warnings():
        hello = read_hello(client_hello(top=TLS_1_2))
    assert isinstance(hello, Hello)
    assert hello.versions == (TLS_1_2,)
    assert not hello.resumes


def test_istio_names_pass_whole() -> None:
    name = "outbound_.80_v1_.reviews.shop.svc.cluster.local"
    hello = read_hello(client_hello(name))
    assert isinstance(hello, Hello)
    assert hello.server_name == name


def test_without_a_name() -> None:
    for data in (client_hello(None), client_hello("127.0.0.1"), made(), made(raw=b"")):
        hello = read_hello(data)
        assert isinstance(hello, Hello)
        assert hello.server_name == ""


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"Shop.EXAMPLE", "shop.example"),
        (b"shop.example.", "shop.example"),
        (b"localhost", "localhost"),
        (b"1and1.com", "1and1.com"),
    ],
)
def test_names_are_lower_case_without_the_dot(raw: bytes, name: str) -> None:
    hello = read_hello(made(named(raw)))
    assert isinstance(hello, Hello)
    assert hello.server_name == name


@pytest.mark.parametrize(
    "extensions",
    [
        (named(b"::1"),),
        (named(b""),),
        (named(b"."),),
        (named(b".example"),),
        (named(b"a..b"),),
        (named(b"a.example.."),),
        (named(b"a\0.example"),),
        (named("bücher.example".encode()),),
        (named(b"a" * 64 + b".example"),),
        (named(b".".join([b"a" * 60] * 5)),),
        (named(b"*.example"),),
        (named(b"a.example", b"b.example"),),
        (named(b"a.example", kind=1),),
        (named(b"a.example"), named(b"b.example")),
        ((0, b""),),
        ((0, vector(2, b"\0" + vector(2, b"a.example")) + b"x"),),
        ((16, vector(2, b"")),),
        ((16, vector(2, vector(1, b""))),),
        ((16, b"\0\x09" + vector(1, b"h2")),),
        ((43, b"\x03\x03\x04"),),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(extensions: tuple[tuple[int, bytes], ...]) -> None:
    assert isinstance(read_hello(made(*extensions)), NotTls)


@pytest.mark.parametrize("address", [b"127.0.0.1", b"10.1"])
def test_an_address_is_no_name(address: bytes) -> None:
    """wrk sends it, and means that it has none."""
    hello = read_hello(made(named(address)))
    assert isinstance(hello, Hello)
    assert hello.server_name == ""


def test_grease_is_passed_over() -> None:
    hello = read_hello(
        made(
            (0x3A3A, b""),
            (43, vector(1, b"\x7a\x7a\x03\x04\x03\x03")),
            (16, vector(2, vector(1, b"\xba\xba") + vector(1, b"h2"))),
            (0xFAFA, b"\0"),
        )
    )
    assert hello == Hello(server_name="", alpn=("h2",), versions=(TLS_1_3, TLS_1_2), resumes=False)


def test_a_session_id_is_seen() -> None:
    hello = read_hello(made(session=bytes(32)))
    assert isinstance(hello, Hello)
    assert hello.resumes
    assert isinstance(read_hello(made(session=bytes(33))), NotTls)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x80\x2e\x01\x03\x01",  # an SSL 2 hello
        b"\x16\x02",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        b"\x15\x03\x01\0\x02\x01\0",
        b"\x16\x03\x01\0\x04\x02\0\0\0",  # a server hello
        b"\x16\x03\x01\x40\0\x01\0\x40\0",  # announces 16 KiB + 4
    ],
)
def test_other_bytes_are_refused_at_once(data: bytes) -> None:
    assert isinstance(read_hello(data), NotTls)


def test_bounds() -> None:
    message = b"\x01" + vector(3, bytes(2000))
    shredded = b"".join(record(message[at : at + 1]) for at in range(MAX_RECORDS + 1))
    assert read_hello(shredded[: 6 * MAX_RECORDS]) == NeedMore()
    assert read_hello(shredded) == NotTls("client hello is in too many records")
    # never asks for more than it will take
    large = b"\x01" + vector(3, bytes(MAX_HELLO - 4))
    data = record(large[:100]) + record(large[100:])
    answers = [read_hello(data[:size]) for size in range(0, len(data) + 1, 7)]
    assert NotTls("client hello is too large") in answers
    assert isinstance(read_hello(record(large[:-5])), NeedMore | NotTls)


@given(st.lists(st.integers(0, 5000), max_size=MAX_RECORDS - 1))
def test_cut_over_records_it_says_the_same(cuts: list[int]) -> None:
    assert read_hello(in_records(REAL, cuts)) == read_hello(REAL)


@given(st.lists(st.integers(0, 5000), max_size=6), st.binary(max_size=40))
def test_every_prefix_agrees(cuts: list[int], tail: bytes) -> None:
    """Once decided, more bytes do not change it; before that, it asks for more. So no split of the bytes matters."""
    data = in_records(REAL, cuts) + tail
    whole = read_hello(data)
    decided = False
    for size in range(0, len(data) + 1):
        answer = read_hello(data[:size])
        decided = decided or not isinstance(answer, NeedMore)
        assert answer == (whole if decided else NeedMore())
    assert decided


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    base = draw(st.sampled_from([REAL, made(named(b"a.example"), (16, vector(2, vector(1, b"h2"))), session=bytes(8))]))
    data = bytearray(in_records(base, draw(st.lists(st.integers(0, 5000), max_size=3))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from("wdi")):
            case "w":
                data[at] = draw(st.integers(0, 255))
            case "d" if len(data) > 10:
                del data[at : at + draw(st.integers(1, 4))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
    return bytes(data)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda b: b"\x16\x03\x01" + b), mutated()))
def test_hostile_bytes_get_one_answer_whatever_the_split(data: bytes) -> None:
    whole = read_hello(data)
    assert isinstance(whole, NeedMore | NotTls | Hello)
    seen = [read_hello(data[:size]) for size in range(len(data) + 1)]
    final = [answer for answer in seen if not isinstance(answer, NeedMore)]
    assert all(answer == whole for answer in final)
    if final:
        first = next(index for index, answer in enumerate(seen) if not isinstance(answer, NeedMore))
        assert len(seen) - first == len(final)


@given(st.binary(max_size=60))
def test_what_is_made_of_lengths_alone_never_raises(body: bytes) -> None:
    assert isinstance(read_hello(record(b"\x01" + vector(3, body))), NotTls | Hello)
