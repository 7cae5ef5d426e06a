"""deadline: the route's timeout, gRPC's, and what a proxy before us may order (FIELD b17, j4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.deadline import Limits, expected, grpc_timeout, milliseconds, request_limit


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"250m", 0.25),
        (b"250u", 0.00025),
        (b"5n", 5e-9),
        (b"0S", 0),
        (b"99999999S", 99_999_999),
        (b"100000000S", None),  # nine digits
        (b"S", None),
        (b"1", None),
        (b"1s", None),
        (b"-1S", None),
        (b"+1S", None),
        (b"1.5S", None),
        (b" 1S", None),
        (b"\xb2S", None),
        (b"", None),
    ],
)
def test_grpc_timeout(value, seconds):
    assert grpc_timeout(value) == (None if seconds is None else pytest.approx(seconds))


@given(st.binary(max_size=12))
def test_any_bytes_are_a_timeout_or_none(value):
    found = grpc_timeout(value)
    assert found is None or found >= 0
    milliseconds([value])


@pytest.mark.parametrize(
    ("values", "seconds"),
    [([b"250"], 0.25), ([b"0"], 0.0), ([], None), ([b"1", b"2"], None), ([b"1s"], None), ([b"-1"], None), ([b"9" * 16], None)],
)
def test_headers_in_milliseconds(values, seconds):
    assert milliseconds(values) == seconds


@pytest.mark.parametrize(
    ("route", "grpc", "whole"),
    [
        (0.0, None, 0.0),
        (2.0, None, 2.0),
        (0.0, [b"1S"], 1.0),  # GrpcTimeoutHeaderMax 0 caps nothing
        (2.0, [b"1S"], 1.0),
        (2.0, [b"5S"], 2.0),  # the route caps
        (2.0, [b"0S"], 2.0),  # 0 is infinity to Envoy
        (0.0, [b"0S"], 0.0),
        (2.0, [], 2.0),
        (0.0, [], 0.0),
        (2.0, [b"soon"], 2.0),
        (2.0, [b"1S", b"9S"], 2.0),
        (0.0, [b"1n"], 0.001),  # never rounded to "no timeout"
    ],
)
def test_grpc_and_the_route(route, grpc, whole):
    assert request_limit(route, 0.0, grpc=grpc).whole == whole


@pytest.mark.parametrize(
    ("ordered", "per_try", "internal", "limits"),
    [
        ([b"700"], [], True, Limits(0.7, 0.5)),
        ([b"700"], [b"100"], True, Limits(0.7, 0.1)),
        ([], [b"100"], True, Limits(2.0, 0.1)),
        ([b"0"], [], True, Limits(0.0, 0.5)),  # no timeout, by order
        ([b"400"], [], True, Limits(0.4, 0.0)),  # a try that may take as long as the whole has no limit of its own
        ([b"x"], [b"y"], True, Limits(2.0, 0.5)),
        ([b"700"], [b"100"], False, Limits(2.0, 0.5)),  # from outside nobody gives orders
    ],
)
def test_orders_count_from_inside_only(ordered, per_try, internal, limits):
    assert request_limit(2.0, 0.5, upstream=ordered, upstream_per_try=per_try, internal=internal) == limits


@pytest.mark.parametrize(
    ("limits", "elapsed", "told"),
    [
        (Limits(0.0, 0.0), 0.0, 0),
        (Limits(2.0, 0.0), 0.0, 2000),
        (Limits(2.0, 0.5), 0.0, 500),
        (Limits(2.0, 0.5), 1.8, 200),
        (Limits(2.0, 0.0), 2.5, 1),
        (Limits(0.0, 0.5), 9.0, 500),
    ],
)
def test_what_the_endpoint_is_told(limits, elapsed, told):
    assert expected(limits, elapsed) == pytest.approx(told, abs=1)
