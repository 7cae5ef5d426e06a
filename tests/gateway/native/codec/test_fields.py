"""The memo of header lines: bounded, without secrets, and never of what is malformed."""

import pytest

from gateway.native.codec.fields import Kind, Malformed, Memo, field_of


def test_an_ordinary_line_is_remembered_and_means_nothing():
    memo = Memo()
    assert memo[b"Accept: */*"] is None
    assert b"Accept: */*" in memo


@pytest.mark.parametrize(
    "line", [b"Authorization: Bearer x", b"cookie: a=b", b"Set-Cookie: a", b"x-request-id: 1", b"traceparent: 00"]
)
def test_secrets_and_what_is_new_every_time_are_not_remembered(line):
    memo = Memo()
    memo[line]
    assert len(memo) == 0


@pytest.mark.parametrize("line", [b"cookie: a\0b", b"cookie: a\nb", b"authorization : x", b"cookie:\x7f"])
def test_secrets_are_checked_all_the_same(line):
    with pytest.raises(Malformed):
        Memo()[line]


def test_long_lines_are_not_remembered():
    memo = Memo()
    assert memo[b"a: " + b"x" * 1000] is None
    assert len(memo) == 0


def test_ever_new_lines_push_out_old_ones_but_not_those_in_use():
    memo = Memo()
    for number in range(100_000):
        memo[b"x-a: %d" % number]
        if number % 500 == 0:
            memo[b"accept: */*"]
    assert len(memo) <= 2048
    assert len(memo._old) <= 2048
    assert b"accept: */*" in memo or b"accept: */*" in memo._old


def test_what_is_malformed_stays_so():
    memo = Memo()
    for _ in range(2):
        with pytest.raises(Malformed):
            memo[b"a : b"]
    assert len(memo) == 0


def test_meanings():
    memo = Memo()
    assert memo[b"Content-Length: 12"] == (Kind.CONTENT_LENGTH, b"content-length", b"12", 12)
    assert memo[b"Connection: Keep-Alive, , X-A"] == (Kind.CONNECTION, b"connection", b"Keep-Alive, , X-A", (b"keep-alive", b"x-a"))
    assert memo[b"Host: A.test:80"][3] == (b"a.test", b"80")
    assert memo[b"X-Envoy-Anything: 1"][0] == Kind.ENVOY
    assert memo[b"x-request-id:  7 "][2] == b"7"
    assert field_of(b"A:  b c \t") == (b"a", b"b c")
