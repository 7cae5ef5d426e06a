"""PROXY headers: tables of good and bad ones, any cut of the same bytes gives the same answer, what is written is read back."""

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.native.codec.proxy_protocol import MAX_V1, SIGNATURE, NeedMore, NotProxy, Proxied, header, read_header

TCP4 = bytes([10, 0, 0, 1, 10, 0, 0, 2]) + struct.pack("!HH", 5000, 80)


def v2(command=0x21, family=0x11, body=TCP4, length=None):
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(body) if length is None else length) + body


GOOD = {
    b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\r\n": (("10.0.0.1", 5000), ("10.0.0.2", 80)),
    b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n": (("2001:db8::1", 0), ("::1", 65535)),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n": (None, None),
    v2(): (("10.0.0.1", 5000), ("10.0.0.2", 80)),
    v2(body=TCP4 + b"\x04\x00\x05hello"): (("10.0.0.1", 5000), ("10.0.0.2", 80)),
    v2(family=0x21, body=bytes(15) + b"\x01" + bytes(15) + b"\x02" + struct.pack("!HH", 1, 2)): (("::1", 1), ("::2", 2)),
    v2(command=0x20): (None, None),
    v2(command=0x20, family=0, body=b""): (None, None),
    v2(command=0x20, family=0x77, body=b"anything"): (None, None),
    v2(family=0, body=b""): (None, None),
    v2(family=0x31, body=bytes(216)): (None, None),
    v2(body=TCP4 + bytes(536 - 28)): (("10.0.0.1", 5000), ("10.0.0.2", 80)),
}

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"proxy TCP4 10.0.0.1 10.0.0.2 5000 80\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 80 \r\n",
    b"PROXY  TCP4 10.0.0.1 10.0.0.2 5000 80\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 5000\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 05000 80\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 +500 80\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 65536 80\r\n",
    b"PROXY TCP4 10.0.0.01 10.0.0.2 1 80\r\n",
    b"PROXY TCP4 ::1 ::2 1 80\r\n",
    b"PROXY TCP6 10.0.0.1 10.0.0.2 1 80\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::2 1 80\r\n",
    b"PROXY UDP4 10.0.0.1 10.0.0.2 1 80\r\n",
    b"PROXY TCP4 \xff 10.0.0.2 1 80\r\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWN" + b"x" * 100 + b"\r\n",
    b"PROXY " + b"x" * 200,
    v2(command=0x11),
    v2(command=0x22),
    v2(family=0x12),
    v2(family=0x41),
    v2(body=TCP4[:-1]),
    v2(body=TCP4 + bytes(537 - 28)),
]


@pytest.mark.parametrize("data", GOOD)
def test_good_headers(data):
    assert read_header(data + b"rest") == Proxied(len(data), *GOOD[data])


@pytest.mark.parametrize("data", BAD)
def test_bad_headers(data):
    assert isinstance(read_header(data), NotProxy)


@pytest.mark.parametrize("data", GOOD)
def test_every_proper_beginning_of_a_good_header_asks_for_more(data):
    for cut in range(len(data)):
        assert read_header(data[:cut]) == NeedMore()


@given(st.one_of(st.binary(max_size=600), st.sampled_from(BAD), st.binary(max_size=560).map(lambda tail: SIGNATURE + tail)))
@example(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r")
def test_an_answer_never_changes_as_more_comes_and_is_bounded(data):
    answers = [read_header(data[:cut]) for cut in range(len(data) + 1)]
    settled = [answer for answer in answers if not isinstance(answer, NeedMore)]
    assert answers[len(answers) - len(settled) :] == settled
    assert len(set(settled)) <= 1
    assert settled or len(data) < 536


def test_a_line_of_the_longest_length_is_read():
    line = b"PROXY UNKNOWN "
    line += b"x" * (MAX_V1 - 2 - len(line)) + b"\r\n"
    assert len(line) == MAX_V1
    assert read_header(line) == Proxied(MAX_V1)


addresses = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))


@given(st.sampled_from(["V1", "V2"]), addresses, addresses)
def test_what_is_written_is_read_back(version, source, destination):
    data = header(version, source, destination)
    read = read_header(data)
    assert isinstance(read, Proxied)
    assert read.size == len(data)
    for found, given_ in ((read.source, source), (read.destination, destination)):
        ip, wanted = ipaddress.ip_address(found[0]), ipaddress.ip_address(given_[0])
        assert ip == wanted or (ip.version == 6 and ip.ipv4_mapped == wanted)
        assert found[1] == given_[1]


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("source", [None, ("/run/client.sock", 0)])
def test_what_is_not_known_is_said_to_be_unknown(version, source):
    data = header(version, source, ("10.0.0.1", 1))
    assert read_header(data) == Proxied(len(data))
