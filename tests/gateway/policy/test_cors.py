"""CORS: which requests are preflights, what they are answered, and what other answers are given (Envoy's cors filter)."""

import pytest

from gateway.native.codec.h1 import ServerCodec
from gateway.policy.cors import Cors
from gateway.snapshot import Cors as Policy
from gateway.snapshot import MatchKind, StringMatch

A = StringMatch(MatchKind.EXACT, "https://a.test")
WHOLE = Policy(
    origins=(A, StringMatch(MatchKind.REGEX, r"https://.*\.b\.test")),
    methods=("GET", "POST"),
    headers=("x-one", "x-two"),
    expose=("x-seen",),
    max_age_ms=600_000,
    credentials=True,
)
PREFLIGHT = ("origin: https://a.test", "access-control-request-method: PUT")


def head(*headers, method="OPTIONS"):
    lines = "".join(f"{line}\r\n" for line in headers)
    return ServerCodec().next_event(f"{method} /x HTTP/1.1\r\nhost: s\r\n{lines}\r\n".encode())


def preflight(policy, *headers, **more):
    found = Cors(policy).preflight(head(*headers, **more))
    return None if found is None else [line.decode() for line in found]


def test_a_preflight_is_answered_with_all_that_is_allowed():
    assert preflight(WHOLE, *PREFLIGHT) == [
        "access-control-allow-origin: https://a.test",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: GET,POST",
        "access-control-allow-headers: x-one,x-two",
        "access-control-max-age: 600",
        "access-control-expose-headers: x-seen",
    ]


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        (PREFLIGHT, "GET"),
        (PREFLIGHT[:1], "OPTIONS"),
        (PREFLIGHT[1:], "OPTIONS"),
        (("origin:", PREFLIGHT[1]), "OPTIONS"),
        ((PREFLIGHT[0], "access-control-request-method:"), "OPTIONS"),
        (("origin: https://c.test", PREFLIGHT[1]), "OPTIONS"),  # not allowed: the service is asked
        (("origin: https://a.test.evil", PREFLIGHT[1]), "OPTIONS"),
    ],
)
def test_what_goes_on(headers, method):
    assert preflight(WHOLE, *headers, method=method) is None


def test_an_unmatched_preflight_may_be_answered_here_without_an_origin():
    policy = Policy(origins=(A,), methods=("GET",), forward_unmatched=False)
    assert preflight(policy, "origin: https://c.test", PREFLIGHT[1]) == ["access-control-allow-methods: GET"]
    assert preflight(policy, PREFLIGHT[0]) is None  # no preflight at all


def test_stars_become_what_is_asked_for():
    policy = Policy(origins=(StringMatch(MatchKind.EXACT, "*"),), methods=("*",), headers=("*",), credentials=True)
    assert preflight(policy, "origin: null", PREFLIGHT[1], "access-control-request-headers: x-a, x-b") == [
        "access-control-allow-origin: null",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: PUT",
        "access-control-allow-headers: x-a, x-b",
    ]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (StringMatch(MatchKind.EXACT, "*"), True),
        (StringMatch(MatchKind.REGEX, ".*"), True),
        (StringMatch(MatchKind.PREFIX, "https://a."), True),
        (StringMatch(MatchKind.PREFIX, "http://a."), False),
        (StringMatch(MatchKind.REGEX, "a.test"), False),  # the whole origin must match
    ],
)
def test_origins(origin, allowed):
    found = Cors(Policy(origins=(origin,))).response_lines(head(PREFLIGHT[0], method="GET"))
    assert found == ((b"access-control-allow-origin: https://a.test",) if allowed else ())


def test_other_answers_name_the_origin_and_what_may_be_seen():
    cors = Cors(WHOLE)
    assert cors.response_lines(head("origin: https://x.b.test", method="POST")) == (
        b"access-control-allow-origin: https://x.b.test",
        b"access-control-allow-credentials: true",
        b"access-control-expose-headers: x-seen",
    )
    assert cors.response_lines(head(method="POST")) == ()
    assert cors.response_lines(head("origin: https://c.test", method="POST")) == ()
    assert cors.replaces == {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-expose-headers",
    }
    assert Cors(Policy(origins=(A,), credentials=False)).replaces == {b"access-control-allow-origin"}
