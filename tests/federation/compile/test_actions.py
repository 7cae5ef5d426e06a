"""Fields of one http route → snapshot records; trap 4 (retries) and the redirect, rewrite and body forms."""

from __future__ import annotations

import pytest

from federation.compile.actions import (
    catches_all,
    cors,
    direct_response,
    fault,
    header_operations,
    redirect,
    retry_policy,
    route_match,
    string_match,
)
from federation.resources.cors_policy import CorsPolicy
from federation.resources.header import HeaderOperations as WrittenOperations
from federation.resources.injection import HTTPFaultInjection
from federation.resources.match import HTTPMatchRequest
from federation.resources.match import StringMatch as WrittenMatch
from federation.resources.route import HTTPDirectResponse, HTTPRedirect, HTTPRetry
from gateway.snapshot import (
    Cors,
    DirectResponse,
    Fault,
    HeaderOperations,
    MatchKind,
    Operator,
    Redirect,
    RetryPolicy,
    StringMatch,
    Template,
)


@pytest.mark.parametrize(
    ("written", "ignore", "made"),
    [
        ({"exact": "/a"}, True, StringMatch(MatchKind.EXACT, "/a", True)),
        ({"prefix": "/a"}, True, StringMatch(MatchKind.PREFIX, "/a", True)),
        ({"regex": "a+"}, True, StringMatch(MatchKind.REGEX, "a+")),
        ({"exact": ""}, False, StringMatch(MatchKind.EXACT, "")),
        ({}, False, StringMatch(MatchKind.PRESENT)),
    ],
)
def test_string_matches(written: dict[str, str], ignore: bool, made: StringMatch) -> None:
    assert string_match(WrittenMatch.model_validate(written), ignore_case=ignore) == made


@pytest.mark.parametrize(
    ("written", "all_of_it"),
    [
        ({}, True),
        ({"uri": {"prefix": "/"}}, True),
        ({"uri": {"regex": ".*"}}, True),
        ({"uri": {"prefix": "/a"}}, False),
        ({"uri": {"prefix": "/"}, "headers": {"x": {}}}, False),
        ({"method": {"exact": "GET"}}, False),
        ({"headers": {"@request.auth.claims.sub": {"exact": "a"}}}, False),
    ],
)
def test_catch_alls(written: dict[str, object], all_of_it: bool) -> None:
    assert catches_all(route_match(HTTPMatchRequest.model_validate(written))) is all_of_it


def test_header_names_are_lower_case_and_in_one_order() -> None:
    written = WrittenOperations(set={"X-B": "1", "X-A": "2"}, add={"X-C": "3"}, remove=("X-D",))
    assert header_operations(written) == HeaderOperations((("x-a", "2"), ("x-b", "1")), (("x-c", "3"),), ("x-d",))


def test_two_levels_are_one_as_istio_writes_them() -> None:
    route = WrittenOperations(set={"x": "r", "y": "r", "Host": "r"}, add={"z": "r"}, remove=("a",))
    destination = WrittenOperations(set={"X": "d", "host": "d"}, add={"z": "d"}, remove=("A", "b"))
    assert header_operations(route, destination) == HeaderOperations(
        set=(("host", "r"), ("x", "d"), ("y", "r")), add=(("z", "r"), ("z", "d")), remove=("a", "b")
    )


def test_a_per_cent_sign_is_written_twice() -> None:
    assert header_operations(WrittenOperations(set={"x": "5%%"})).set == (("x", "5%"),)


def test_values_with_operators_come_taken_apart():
    written = WrittenOperations(set={"B": "%REQ(X-A)%", "a": "100%%"}, add={"x": "on %HOSTNAME%"})
    made = header_operations(written)
    assert made.set == (("a", "100%"), ("b", Template((Operator("REQ", "x-a"),))))
    assert made.add == (("x", Template(("on ", Operator("HOSTNAME")))),)


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ({"delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}}}, Fault(delay_ms=2000, delay_share=5000)),
        ({"delay": {"fixedDelay": "2s", "percent": 5}}, Fault(delay_ms=2000, delay_share=50_000)),
        ({"delay": {"fixedDelay": "2s"}}, None),
        ({"delay": {"percentage": {"value": 100}}}, None),
        ({"abort": {"httpStatus": 503, "percentage": {"value": 100}}}, Fault(abort_status=503, abort_share=1_000_000)),
        ({"abort": {"grpcStatus": "OK", "percentage": {"value": 1}}}, Fault(abort_grpc=0, abort_share=10_000)),
        ({"abort": {"httpStatus": 503}}, None),
        (
            {"abort": {"httpStatus": 503}, "delay": {"fixedDelay": "1ms", "percentage": {"value": 100}}},
            Fault(delay_ms=1, delay_share=1_000_000, abort_status=503),
        ),
    ],
)
def test_faults(written: dict[str, object], made: Fault | None) -> None:
    assert fault(HTTPFaultInjection.model_validate(written)) == made


def test_cors_says_only_what_is_written() -> None:
    assert cors(CorsPolicy()) == Cors()
    made = cors(CorsPolicy.model_validate({"allowOrigin": ["a"], "maxAge": "10s", "unmatchedPreflights": "IGNORE"}))
    assert made == Cors((StringMatch(MatchKind.EXACT, "a"),), max_age_ms=10_000, forward_unmatched=False)


def test_redirects() -> None:
    assert redirect(HTTPRedirect(uri="/x")) == Redirect(301, "/x")
    made = redirect(HTTPRedirect.model_validate({"prefixRewrite": "/x", "derivePort": "FROM_REQUEST_PORT", "redirectCode": 307}))
    assert made == Redirect(307, prefix_rewrite="/x", derive_port="FROM_REQUEST_PORT")


@pytest.mark.parametrize(
    ("body", "made"), [(None, b""), ({"string": "hé"}, "hé".encode()), ({"bytes": "aGk="}, b"hi"), ({"string": ""}, b"")]
)
def test_direct_responses(body: dict[str, str] | None, made: bytes) -> None:
    assert direct_response(HTTPDirectResponse.model_validate({"status": 418, "body": body})) == DirectResponse(418, made)


ISTIO = RetryPolicy(2, ("connect-failure", "refused-stream", "unavailable", "cancelled"))


@pytest.mark.parametrize(
    ("written", "made"),
    [
        (None, ISTIO),
        ({}, None),  # no attempts written where retries are: none, as in Istio
        ({"attempts": 0}, None),
        ({"attempts": 5}, RetryPolicy(5)),
        ({"attempts": 2, "retryOn": "5xx, 503 ,reset"}, RetryPolicy(2, ("5xx", "reset", "retriable-status-codes"), (503,))),
        ({"attempts": 2, "retryOn": "503"}, RetryPolicy(2, ("retriable-status-codes",), (503,))),
        (
            {"attempts": 2, "perTryTimeout": "250ms", "backoff": "100ms"},
            RetryPolicy(2, per_try_timeout_ms=250, base_ms=100, max_ms=1000),
        ),
        (
            {"attempts": 2, "retryIgnorePreviousHosts": False, "retryRemoteLocalities": True},
            RetryPolicy(2, previous_hosts=False, previous_priorities=True),
        ),
    ],
)
def test_retries_under_istios_defaults(written: dict[str, object] | None, made: RetryPolicy | None) -> None:
    retries = None if written is None else HTTPRetry.model_validate(written)
    assert retry_policy(retries, fedgate=False) == made


def test_retries_under_ours_go_at_once_and_to_the_next_priority() -> None:
    assert retry_policy(None, fedgate=True) == RetryPolicy(immediate=True, previous_priorities=True)
    assert retry_policy(HTTPRetry.model_validate({"attempts": 0}), fedgate=True) is None
    paced = retry_policy(HTTPRetry.model_validate({"attempts": 3, "backoff": "1s"}), fedgate=True)
    assert paced is not None
    assert not paced.immediate  # who writes a pause wants it
