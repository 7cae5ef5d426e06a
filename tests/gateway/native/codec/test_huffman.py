"""The Huffman code against RFC 7541's own examples and the `hpack` library's coder."""

import contextlib

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from gateway.native.codec import huffman

encode = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode


@pytest.mark.parametrize(
    ("coded", "text"),
    [
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),
        ("a8eb10649cbf", b"no-cache"),
        ("25a849e95ba97d7f", b"custom-key"),
        ("25a849e95bb8e8b4bf", b"custom-value"),
        ("6402", b"302"),
        ("d07abe941054d444a8200595040b8166e082a62d1bff", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        ("9d29ad171863c78f0b97c8e9ae82ae43d3", b"https://www.example.com"),
        ("94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
         b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ("", b""),
    ],
)  # fmt: skip
def test_examples_of_the_rfc(coded, text):
    assert huffman.decode(bytes.fromhex(coded)) == text


@given(st.binary(max_size=300))
def test_what_another_coder_coded(text):
    assert huffman.decode(encode(text)) == text


@pytest.mark.parametrize(
    "coded",
    [
        b"\xff",  # eight ones: padding longer than seven bits
        b"\xff\xff\xff\xfc",  # EOS itself, and two zeros
        encode(b"a") + b"\xff",
        b"\x18",  # "a", then zeros
        b"\x1f\xff\xff\xff\xff",
    ],
)
def test_what_is_no_string(coded):
    with pytest.raises(huffman.HuffmanFault):
        huffman.decode(coded)


@pytest.mark.parametrize("length", range(1, 8))
def test_padding_of_one_to_seven_ones_is_right_and_with_a_zero_wrong(length):
    by_bits = {0: b"", **{len(encode(text)) * 8 - _bits(text): text for text in (b"0" * n for n in range(1, 9))}}
    text = by_bits[length]
    coded = encode(text)
    assert huffman.decode(coded) == text
    with pytest.raises(huffman.HuffmanFault):
        huffman.decode(coded[:-1] + bytes((coded[-1] & 0xFE,)))


def _bits(text: bytes) -> int:
    return sum(REQUEST_CODES_LENGTH[byte] for byte in text)


@given(st.binary(max_size=40))
def test_every_string_of_bytes_is_decoded_or_refused_as_the_library_does(coded):
    from hpack.exceptions import HPACKDecodingError
    from hpack.huffman_table import decode_huffman

    try:
        mine = huffman.decode(coded)
    except huffman.HuffmanFault:
        mine = None
    try:
        theirs = bytes(decode_huffman(coded))
    except HPACKDecodingError:
        theirs = None
    assert mine == theirs


def test_kept_steps_are_bounded():
    for place in range(1 << 16):
        with contextlib.suppress(huffman.HuffmanFault):  # EOS
            huffman._steps[place]
    assert len(huffman._steps) <= huffman._KEPT
