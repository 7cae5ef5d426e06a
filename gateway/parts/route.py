"""What becomes of a request: matches, actions and what is done on the way (Istio VirtualService)."""

from __future__ import annotations

import enum

import msgspec

from gateway.parts.substitution import Template


class MatchKind(enum.Enum):
    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"  # RE2, full match
    PRESENT = "present"


class StringMatch(msgspec.Struct, frozen=True, gc=False):
    kind: MatchKind
    value: str = ""
    ignore_case: bool = False


class NamedMatch(msgspec.Struct, frozen=True, gc=False):
    """Of a header (name lower case) or a query parameter. inverted = withoutHeaders."""

    name: str
    match: StringMatch
    inverted: bool = False


class ClaimMatch(msgspec.Struct, frozen=True, gc=False):
    """Of a verified JWT's claim, named by its path (Istio b9 `@request.auth.claims.a.b`, `[a][b]`). A request without one matches
    nothing, but for `inverted`. A claim that is a list matches when one of its items does."""

    path: tuple[str, ...]
    match: StringMatch
    inverted: bool = False


class RouteMatch(msgspec.Struct, frozen=True, gc=False):
    """All must hold. path None = any that begins with a slash (so not the `*` of OPTIONS). path is matched without the query string;
    prefix is a raw string prefix (Istio b6)."""

    path: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    headers: tuple[NamedMatch, ...] = ()
    query: tuple[NamedMatch, ...] = ()
    claims: tuple[ClaimMatch, ...] = ()
    port: int = 0  # of the listener; 0 = any


class HeaderOperations(msgspec.Struct, frozen=True, gc=False):
    """set replaces, add appends another value, remove drops every value; names lower case. Applied remove, then set, then add … as Envoy.
    A value is text, or a Template where it has command operators; the authority's is text."""

    set: tuple[tuple[str, str | Template], ...] = ()
    add: tuple[tuple[str, str | Template], ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


class RetryPolicy(msgspec.Struct, frozen=True, gc=False):
    """Istio HTTPRetry. attempts: tries after the first. conditions: Envoy's names; statuses: retriable-status-codes.

    Back-off: attempt N waits uniform [0, (2^N - 1) * base_ms), at most max_ms (Envoy router_filter). Retries never wait when
    another endpoint is there and `immediate` (defaults: fedgate): going elsewhere needs no pause.
    """

    attempts: int = 2
    conditions: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled")
    statuses: tuple[int, ...] = ()
    per_try_timeout_ms: int = 0
    base_ms: int = 25
    max_ms: int = 250
    previous_hosts: bool = True  # a retry avoids endpoints already tried
    host_attempts: int = 5
    previous_priorities: bool = False  # retryRemoteLocalities
    immediate: bool = False


class Split(msgspec.Struct, frozen=True, gc=False):
    """A share of a route's traffic: weight / sum of weights. headers_*: destination level, applied before the route's."""

    backend: str
    weight: int = 1
    request_headers: HeaderOperations = HeaderOperations()
    response_headers: HeaderOperations = HeaderOperations()


class Mirror(msgspec.Struct, frozen=True, gc=False):
    """A copy of requests to another backend, its answer thrown away; the copy's authority ends in `-shadow` (Istio b21).
    share: parts per million of the requests."""

    backend: str
    share: int = 1_000_000


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Injected before anything is sent on (Istio b19, b20). Shares are parts per million; delay and abort are drawn by themselves,
    the delay first. abort_grpc: a gRPC status code instead of an HTTP one; -1 = none."""

    delay_ms: int = 0
    delay_share: int = 0
    abort_status: int = 0
    abort_grpc: int = -1
    abort_share: int = 0


class Cors(msgspec.Struct, frozen=True, gc=False):
    """Istio CorsPolicy (b22). max_age_ms 0 = no header. credentials None = not written. forward_unmatched: preflights whose origin
    does not match go to the service (FORWARD, the default) or are answered here without CORS headers (IGNORE)."""

    origins: tuple[StringMatch, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age_ms: int = 0
    credentials: bool | None = None
    forward_unmatched: bool = True


class Forward(msgspec.Struct, frozen=True, tag="forward", gc=False):
    """Proxy to one of the splits. timeout_ms covers all retries; 0 = none (Istio b17).

    rewrite_regex: (RE2 pattern, substitution with `\\1`): every match in the path is replaced; excludes rewrite_prefix.
    """

    splits: tuple[Split, ...]
    timeout_ms: int = 0
    retry: RetryPolicy | None = None
    rewrite_prefix: str | None = None  # replaces the matched prefix (prefix match) or the whole path (otherwise)
    rewrite_regex: tuple[str, str] | None = None
    rewrite_authority: str = ""
    mirrors: tuple[Mirror, ...] = ()


class Redirect(msgspec.Struct, frozen=True, tag="redirect", gc=False):
    """Istio HTTPRedirect. uri replaces the whole path (None = kept); port 0 = kept; scheme/authority "" = kept."""

    status: int = 301
    uri: str | None = None
    prefix_rewrite: str | None = None
    authority: str = ""
    scheme: str = ""
    port: int = 0
    derive_port: str = ""  # FROM_PROTOCOL_DEFAULT | FROM_REQUEST_PORT


class DirectResponse(msgspec.Struct, frozen=True, tag="direct", gc=False):
    status: int
    body: bytes = b""


class Route(msgspec.Struct, frozen=True, gc=False):
    """One (http route, match) pair in order of precedence; the first that matches wins. name: `route.match` for the log.

    A CONNECT request is taken only by a route whose match says method CONNECT: a gateway is no open tunnel by accident.
    stat_prefix: Istio statPrefix: counts of this match under a name of its own.
    """

    name: str
    match: RouteMatch
    action: Forward | Redirect | DirectResponse
    request_headers: HeaderOperations = HeaderOperations()
    response_headers: HeaderOperations = HeaderOperations()
    fault: Fault | None = None
    cors: Cors | None = None
    stat_prefix: str = ""


class VirtualHost(msgspec.Struct, frozen=True, tag="host", gc=False):
    """Routes for some Host names in one table. domains: exact, `*.suffix` or `*`, lower case, without port."""

    table: str
    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
