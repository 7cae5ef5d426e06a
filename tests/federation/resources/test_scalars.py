"""The values inside documents: what is read, and what is refused with which words."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Locality
from federation.resources.scalars import HostPort, choice_reader, ms, parse_duration, parse_host_port, parse_locality


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1s", 1000),
        ("500ms", 500),
        ("1.5s", 1500),
        ("1h30m", 5_400_000),
        ("0s", 0),
        ("0.001s", 1),
        ("3000000us", 3000),
        ("2m", 120_000),
        ("-0s", 0),
        (".5s", 500),
        ("1h1m1s1ms", 3_661_001),
        ("315576000000s", 315_576_000_000_000),
    ],
)
def test_reads_protobuf_and_go_durations(text, milliseconds):
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("", "is not a duration"),
        ("1", "is not a duration"),
        ("1 s", "is not a duration"),
        ("1d", "is not a duration"),
        ("s", "is not a duration"),
        ("1s\n", "is not a duration"),
        ("١s", "is not a duration"),
        ("1.5ms", "finer than a millisecond"),
        ("1ns", "finer than a millisecond"),
        ("-1s", "is negative"),
        ("315576000001s", "10,000 years"),
        (5, 'write "5s" or "5ms"'),
        (True, "is not a duration"),
        (None, "is not a duration"),
        (["1s"], "is not a duration"),
    ],
)
def test_refuses_what_is_no_duration(value, part):
    with pytest.raises(ValueError, match=part):
        parse_duration(value)


@given(st.integers(0, 10**9))
def test_every_whole_number_of_milliseconds_comes_back(number):
    assert parse_duration(f"{number}ms") == number
    assert parse_duration(f"{number // 1000}.{number % 1000:03}s") == number


def test_a_number_in_code_is_milliseconds_by_name():
    from federation.resources.virtual_service import HTTPRoute

    assert HTTPRoute(timeout=ms(250)).timeout == 250


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, "127.0.0.1:80"),
        ("[::1]:0", "::1", 0, "[::1]:0"),
        ("GW.example.com:15443", "gw.example.com", 15443, "gw.example.com:15443"),
    ],
)
def test_reads_addresses(text, host, port, shown):
    assert parse_host_port(text) == HostPort(host, port)
    assert str(parse_host_port(text)) == shown


@pytest.mark.parametrize(
    "text", ["", ":80", "a", "a:", "a:70000", "::1:80", "a:b", "a b:80", "http://a:80", "a/b:80", 80, None, "a:-1", "[]:1"]
)
def test_refuses_what_is_no_address(text):
    with pytest.raises(ValueError, match="write HOST:PORT"):
        parse_host_port(text)


def test_reads_localities():
    assert parse_locality("us-east-1/us-east-1a") == Locality("us-east-1", "us-east-1a")
    with pytest.raises(ValueError, match="4 parts"):
        parse_locality("a/b/c/d")
    with pytest.raises(ValueError, match="must be text"):
        parse_locality(1)


class Colour(enum.Enum):
    RED = "RED"
    BLUE = "BLUE"


read_colour = choice_reader(Colour, later=("GREEN",), same={"CRIMSON": Colour.RED})


def test_a_choice_by_its_word_in_any_case_or_by_another_name():
    assert read_colour("RED") is read_colour("red") is read_colour("CRIMSON") is Colour.RED


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("GREEN", "`GREEN` is not supported yet"),
        ("BLEU", "did you mean `BLUE`"),
        (1, "must be one of RED, BLUE"),
        (None, "one of"),
        ("", "one of"),
    ],
)
def test_refuses_other_choices(value, part):
    with pytest.raises(ValueError, match=part):
        read_colour(value)
