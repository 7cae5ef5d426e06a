"""One http route of a VirtualService → what a gateway Route does: matches, actions, header operations, retries.

Pure translations, each field by itself. Which backend a destination means is the caller's to say (`routes.py`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec

from federation.resources import cors_policy, header, injection, route
from federation.resources import match as matching
from federation.resources.percent import share
from federation.resources.substitution import parse
from gateway.snapshot import (
    ClaimMatch,
    Cors,
    DirectResponse,
    Fault,
    HeaderOperations,
    MatchKind,
    NamedMatch,
    Redirect,
    RetryPolicy,
    RouteMatch,
    StringMatch,
    Template,
)

_PRESENT = StringMatch(MatchKind.PRESENT)
_BY_STATUS = ("retriable-status-codes",)  # what makes Envoy look at the statuses; Istio adds it to numbers in retryOn
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
    named = [(name, match, False) for name, match in sorted(request.headers.items())]
    named += [(name, match, True) for name, match in sorted(request.without_headers.items())]
    return RouteMatch(
        path=None if request.uri is None else string_match(request.uri, ignore_case=request.ignore_uri_case),
        method=_optional(request.method),
        authority=_optional(request.authority),
        scheme=_optional(request.scheme),
        headers=tuple(
            NamedMatch(name.lower(), string_match(match), inverted)
            for name, match, inverted in named
            if not matching.claim_path(name)
        ),
        query=tuple(NamedMatch(name, string_match(match)) for name, match in sorted(request.query_params.items())),
        claims=tuple(
            ClaimMatch(matching.claim_path(name), string_match(match), inverted)
            for name, match, inverted in named
            if matching.claim_path(name)
        ),
    )


def catches_all(match: RouteMatch) -> bool:
    """Whether no request escapes it: what Istio moves behind the routes of other VirtualServices of the same host."""
    path = match.path
    any_path = (
        path is None
        or (path.kind is MatchKind.PREFIX and path.value == "/")
        or (path.kind is MatchKind.REGEX and path.value == ".*")
    )
    return any_path and not (match.method or match.authority or match.scheme or match.headers or match.query or match.claims)


def header_operations(*levels: header.HeaderOperations) -> HeaderOperations:
    """Several levels as one: the last one's `set` holds, but for the authority, which the first one has (Istio)."""
    setting: dict[str, str | Template] = {}
    adding: list[tuple[str, str | Template]] = []
    for level in levels:
        for name, value in _lowered(level.set):
            if name not in setting or name not in header.AUTHORITY:
                setting[name] = value
        adding += _lowered(level.add)
    removing = dict.fromkeys(name.lower() for level in levels for name in level.remove)
    return HeaderOperations(set=tuple(sorted(setting.items(), key=_by_name)), add=tuple(adding), remove=tuple(removing))


def fault(written: injection.HTTPFaultInjection) -> Fault | None:
    """None when it would do nothing whatever is drawn. A share that is not written is 0 (Istio)."""
    delay, abort = written.delay, written.abort
    made = Fault()
    if delay is not None and delay.fixed_delay:
        made = msgspec.structs.replace(
            made, delay_ms=delay.fixed_delay, delay_share=share(delay.percentage, delay.percent, otherwise=0)
        )
    code = injection.grpc_code(abort.grpc_status) if abort is not None and abort.grpc_status is not None else None
    if abort is not None and (abort.http_status or code is not None):
        made = msgspec.structs.replace(
            made,
            abort_status=abort.http_status or 0,
            abort_grpc=-1 if code is None else code,
            abort_share=share(abort.percentage, None, otherwise=0),
        )
    return made if made.delay_share or made.abort_share else None


def cors(written: cors_policy.CorsPolicy) -> Cors:
    return Cors(
        origins=tuple(string_match(origin) for origin in written.origins),
        methods=written.allow_methods,
        headers=written.allow_headers,
        expose=written.expose_headers,
        max_age_ms=written.max_age or 0,
        credentials=written.allow_credentials,
        forward_unmatched=written.unmatched_preflights is not cors_policy.UnmatchedPreflights.IGNORE,
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
        conditions=(*conditions, *_BY_STATUS) if statuses else conditions or standard.conditions,
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


def _lowered(headers: Mapping[str, str]) -> tuple[tuple[str, str | Template], ...]:
    """What cannot be read, and operators in an authority, were refused when the document was read."""
    return tuple(sorted(((name.lower(), parse(value)) for name, value in headers.items()), key=_by_name))


def _by_name(pair: tuple[str, str | Template]) -> str:
    return pair[0]
