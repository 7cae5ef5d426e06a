"""One http route of a VirtualService → what a gateway Route does: matches, actions, header operations, retries.

Pure translations, each field by itself. Which backend a destination means is the caller's to say (`routes.py`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping

from federation.resources import header, route
from federation.resources import match as matching
from gateway.snapshot import (
    DirectResponse,
    HeaderOperations,
    MatchKind,
    NamedMatch,
    Redirect,
    RetryPolicy,
    RouteMatch,
    StringMatch,
)

_PRESENT = StringMatch(MatchKind.PRESENT)
BACKOFF_CAP = 10  # Envoy router_filter: the longest pause is ten times the base


def string_match(match: matching.StringMatch, *, ignore_case: bool = False) -> StringMatch:
    """Nothing written = present. ignore_case does not hold for a regex (Istio ignoreUriCase)."""
    if match.exact is not None:
        return StringMatch(MatchKind.EXACT, match.exact, ignore_case)
    if match.prefix is not None:
        return StringMatch(MatchKind.PREFIX, match.prefix, ignore_case)
    if match.regex is not None:
        return StringMatch(MatchKind.REGEX, match.regex)
    return _PRESENT


def route_match(request: matching.HTTPMatchRequest | None) -> RouteMatch:
    """The listener's port is not in it: a table belongs to one port, so `port` is decided when the table is made."""
    if request is None:
        return RouteMatch()
    present = [NamedMatch(name.lower(), string_match(match)) for name, match in sorted(request.headers.items())]
    absent = [
        NamedMatch(name.lower(), string_match(match), inverted=True) for name, match in sorted(request.without_headers.items())
    ]
    return RouteMatch(
        path=None if request.uri is None else string_match(request.uri, ignore_case=request.ignore_uri_case),
        method=_optional(request.method),
        authority=_optional(request.authority),
        scheme=_optional(request.scheme),
        headers=(*present, *absent),
        query=tuple(NamedMatch(name, string_match(match)) for name, match in sorted(request.query_params.items())),
    )


def catches_all(match: RouteMatch) -> bool:
    """Whether no request escapes it: what Istio moves behind the routes of other VirtualServices of the same host."""
    path = match.path
    any_path = (
        path is None
        or (path.kind is MatchKind.PREFIX and path.value == "/")
        or (path.kind is MatchKind.REGEX and path.value == ".*")
    )
    return any_path and not (match.method or match.authority or match.scheme or match.headers or match.query)


def header_operations(operations: header.HeaderOperations) -> HeaderOperations:
    return HeaderOperations(
        set=_lowered(operations.set), add=_lowered(operations.add), remove=tuple(name.lower() for name in operations.remove)
    )


def redirect(action: route.HTTPRedirect) -> Redirect:
    return Redirect(
        status=action.redirect_code or 301,
        uri=action.uri or None,
        prefix_rewrite=action.prefix_rewrite or None,
        authority=action.authority,
        scheme=action.scheme,
        port=action.port or 0,
        derive_port=action.derive_port.value if action.derive_port else "",
    )


def direct_response(action: route.HTTPDirectResponse) -> DirectResponse:
    """A body that is not base64 is empty; reading the document has refused it before."""
    body = b""
    if action.body is not None and action.body.string is not None:
        body = action.body.string.encode()
    elif action.body is not None and action.body.bytes is not None:
        try:
            body = base64.b64decode(action.body.bytes, validate=True)
        except (ValueError, binascii.Error):
            body = b""
    return DirectResponse(action.status, body)


def retry_policy(retries: route.HTTPRetry | None, *, fedgate: bool) -> RetryPolicy | None:
    """None = never retry. Nothing written = Istio's two with its conditions.

    fedgate: retries go at once, and after two tries in one priority to the next one, so that the loss of every endpoint near by
    costs no request, whether or not anybody wrote `retries`."""
    if retries is None:
        return RetryPolicy(immediate=fedgate, previous_priorities=fedgate)
    if retries.attempts == 0:
        return None
    standard = RetryPolicy()
    conditions = tuple(word for word in retries.conditions if word and not word.isdigit())
    statuses = tuple(int(word) for word in retries.conditions if word.isdigit())  # Istio b18: numbers are retriable statuses
    base = retries.backoff or standard.base_ms
    avoid = retries.retry_ignore_previous_hosts
    return RetryPolicy(
        attempts=retries.attempts,
        conditions=conditions or (() if statuses else standard.conditions),
        statuses=statuses,
        per_try_timeout_ms=retries.per_try_timeout or 0,
        base_ms=base,
        max_ms=base * BACKOFF_CAP,
        previous_hosts=standard.previous_hosts if avoid is None else avoid,
        previous_priorities=retries.retry_remote_localities or fedgate,
        immediate=fedgate and retries.backoff is None,
    )


def _optional(match: matching.StringMatch | None) -> StringMatch | None:
    return None if match is None else string_match(match)


def _lowered(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    pairs: Iterable[tuple[str, str]] = ((name.lower(), value) for name, value in headers.items())
    return tuple(sorted(pairs))
