"""What a request must be for a route: matches of a Snapshot made into functions of a request.

Theory of operation. Each match becomes a Test of bytes or a Matcher of a request once, when the Snapshot comes, so that a request costs
only the calls. Regular expressions are RE2 and take the whole text (linear time, whatever a client sends). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import re2

from gateway.snapshot import ClaimMatch, MatchKind, NamedMatch, RouteMatch, StringMatch

_REGEX_MEMORY = 8 << 20  # bytes a compiled expression may take: RE2's own default, so that what Envoy takes is taken here


class Request(Protocol):
    """What routes look at. `values(name)` gives the values of a header. Any head with these attributes will do; one of a gateway
    that verifies tokens also has `claims`, a mapping or None."""

    method: bytes
    target: bytes
    path: bytes
    host: bytes
    authority: bytes

    def values(self, name: bytes) -> list[bytes]: ...


Test = Callable[[bytes], bool]
Matcher = Callable[[Request, bytes, int], bool]
"""(request, scheme, listener's port) → whether the route is for it."""


def expression(pattern: str, *, ignore_case: bool = False) -> Any:
    """The compiled expression, of bytes. Raises ValueError when it is not RE2."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _REGEX_MEMORY
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        raise ValueError(f"regex {pattern!r} is not RE2: {error}") from None


def string_test(match: StringMatch) -> Test:
    """Raises ValueError for an expression that is not RE2."""
    value = match.value.encode()
    if match.kind is MatchKind.PRESENT:
        return lambda text: True
    if match.kind is MatchKind.REGEX:
        fullmatch = expression(match.value, ignore_case=match.ignore_case).fullmatch
        return lambda text: fullmatch(text) is not None
    if match.ignore_case:
        lower = value.lower()
        if match.kind is MatchKind.EXACT:
            return lambda text: text.lower() == lower
        return lambda text: text.lower().startswith(lower)
    if match.kind is MatchKind.EXACT:
        return value.__eq__
    return lambda text: text.startswith(value)


def request_tests(match: RouteMatch) -> list[Matcher]:
    """All but the path's and the query's, cheapest first."""
    found: list[Matcher] = []
    if match.port:
        number = match.port
        found.append(lambda request, scheme, port: port == number)
    if match.scheme is not None:
        scheme_test = string_test(match.scheme)
        found.append(lambda request, scheme, port: scheme_test(scheme))
    if match.method is not None:
        method_test = string_test(match.method)
        found.append(lambda request, scheme, port: method_test(request.method))
    if match.authority is not None:
        authority_test = string_test(match.authority)
        found.append(lambda request, scheme, port: authority_test(request.authority))
    found += [_header(named) for named in match.headers]
    found += [_claim(claim) for claim in match.claims]
    return found


def query_tests(match: RouteMatch) -> list[Matcher]:
    return [_query(named) for named in match.query]


_PSEUDO: Mapping[str, Callable[[Request, bytes], bytes]] = {
    ":method": lambda request, scheme: request.method,
    ":authority": lambda request, scheme: request.authority,
    "host": lambda request, scheme: request.authority,  # the same thing: HTTP/2 has no other, and Envoy keeps one
    ":path": lambda request, scheme: request.target,  # with the query: RFC 9113 section 8.3.1
    ":scheme": lambda request, scheme: scheme,
}


def _header(named: NamedMatch) -> Matcher:
    """Of several headers of a name one that matches is enough, each by itself, as in Envoy 1.40. `inverted` takes a missing header for
    an empty one, as Istio has Envoy do, but where presence itself is asked for."""
    test, wanted = string_test(named.match), not named.inverted
    get = _PSEUDO.get(named.name.lower())
    if get is not None:
        return lambda request, scheme, port: test(get(request, scheme)) is wanted
    name = named.name.lower().encode()
    missing = not wanted and (named.match.kind is MatchKind.PRESENT or not test(b""))

    def matches(request: Request, scheme: bytes, port: int) -> bool:
        values = request.values(name)
        if not values:
            return missing
        return (test(values[0]) if len(values) == 1 else any(map(test, values))) is wanted

    return matches


def _query(named: NamedMatch) -> Matcher:
    name, test, wanted = named.name.encode(), string_test(named.match), not named.inverted

    def matches(request: Request, scheme: bytes, port: int) -> bool:
        for pair in request.target.partition(b"?")[2].split(b"&"):
            key, _, value = pair.partition(b"=")
            if key == name:
                return test(value) is wanted  # the first one of a name decides; as it is written, as in Envoy
        return not wanted

    return matches


def _claim(claim: ClaimMatch) -> Matcher:
    """Only text is compared; a list matches when one of its items does."""
    test, wanted, path = string_test(claim.match), not claim.inverted, claim.path
    present = claim.match.kind is MatchKind.PRESENT

    def matches(request: Request, scheme: bytes, port: int) -> bool:
        value: object = getattr(request, "claims", None)
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if present:
            return (value is not None) is wanted
        items = value if isinstance(value, list | tuple) else (value,)
        return any(isinstance(item, str) and test(item.encode()) for item in items) is wanted

    return matches
