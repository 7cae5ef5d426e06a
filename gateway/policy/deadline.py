"""How long a request may take, and one try of it: the route's timeout, gRPC's, and what a proxy before us says (FIELD b17, j4).

Theory of operation, as Envoy's router under the configuration that Istio gives it:

- A gRPC request may say how long its caller waits (`grpc-timeout`); a route's timeout caps that, and 0 there caps nothing
  (GrpcTimeoutHeaderMax = the route's timeout). A gRPC request that says nothing, and any other one, has the route's timeout.
- `x-envoy-upstream-rq-timeout-ms` replaces that, `x-envoy-upstream-rq-per-try-timeout-ms` the policy's per-try timeout. They are orders to a
  proxy, so they count only when they come from inside: the listener's side has taken them from anybody else's requests.
- A per-try timeout that is not under the whole one is none.
- `x-envoy-expected-rq-timeout-ms` tells the endpoint how long the answer is waited for: the per-try timeout, else the whole.

Pure: no clock; durations are seconds, 0 = none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# gRPC over HTTP/2, "Timeout": 1 to 8 digits, then a unit.
_DIGITS = 8
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# Longer than that nobody means (317 years in ms have 13 digits); int() of an endless number is work for nothing.
_MOST_DIGITS = 15
# Envoy keeps durations in whole milliseconds. Less than one is one: 0 would be "no timeout", the contrary of what was asked for.
_LEAST = 0.001

UPSTREAM_TIMEOUT = b"x-envoy-upstream-rq-timeout-ms"
PER_TRY_TIMEOUT = b"x-envoy-upstream-rq-per-try-timeout-ms"
EXPECTED_TIMEOUT = b"x-envoy-expected-rq-timeout-ms"
GRPC_TIMEOUT = b"grpc-timeout"


class Limits(NamedTuple):
    """Seconds for the whole request with all its tries, and for one try; 0 = none."""

    whole: float
    per_try: float


def grpc_timeout(value: bytes) -> float | None:
    """Seconds that `grpc-timeout` says; None when it is not one (it is then passed over, as by Envoy)."""
    digits, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _DIGITS:
        return None
    return int(digits) * unit


def milliseconds(values: Sequence[bytes]) -> float | None:
    """Seconds that a header of whole milliseconds says; None when it is missing, written twice or no number."""
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > _MOST_DIGITS:
        return None
    return int(values[0]) / 1000


def request_limit(
    route: float,
    per_try: float,
    *,
    grpc: Sequence[bytes] | None = None,
    upstream: Sequence[bytes] = (),
    upstream_per_try: Sequence[bytes] = (),
    internal: bool = False,
) -> Limits:
    """The limits of one request. route, per_try: what its route says. grpc: the values of `grpc-timeout` of a gRPC request, None for any
    other. upstream, upstream_per_try: values of the two headers; heeded only if `internal`."""
    whole = route
    if grpc:
        asked = grpc_timeout(grpc[0]) if len(grpc) == 1 else None
        if asked is not None:
            # "0m" is a deadline that has passed; Envoy takes a 0 here for infinity and so do we, under the route's cap.
            asked = max(asked, _LEAST) if asked else 0.0
            whole = asked if not route or (asked and asked < route) else route
    if internal:
        ordered = milliseconds(upstream)
        if ordered is not None:
            whole = ordered
        ordered = milliseconds(upstream_per_try)
        if ordered is not None:
            per_try = ordered
    if whole and per_try >= whole:
        per_try = 0.0
    return Limits(whole, per_try)


def expected(limits: Limits, elapsed: float = 0.0) -> int:
    """Milliseconds for `x-envoy-expected-rq-timeout-ms` of an attempt that begins `elapsed` seconds into the request; 0 = leave it out."""
    wait = limits.per_try or limits.whole
    if not wait:
        return 0
    if limits.whole:
        wait = min(wait, limits.whole - elapsed)
    return max(1, int(wait * 1000))
