"""Cross-origin requests (the Fetch standard's CORS protocol), decided as Envoy's cors filter does.

Theory of operation. A request with a non-empty Origin is a CORS request. Whether its origin may have the answer decides two things. A
preflight (OPTIONS with Origin and Access-Control-Request-Method) is answered here with 200 and no body; one whose origin does not match
goes on to the service (FORWARD) or is answered without an allowed origin (IGNORE). Any other answer, the gateway's own as well, gets the
origin written back, so that credentials may be used with it, never `*`. As in Envoy no Vary is added, and an origin pattern that takes
`*` takes every origin. Pure.
"""

from __future__ import annotations

from typing import Protocol

from gateway.matching import string_test
from gateway.snapshot import Cors as Policy

ORIGIN = b"access-control-allow-origin"
CREDENTIALS = b"access-control-allow-credentials"
EXPOSE = b"access-control-expose-headers"


class Head(Protocol):
    """What CORS looks at of a request."""

    method: bytes

    def values(self, name: bytes) -> list[bytes]: ...


class Cors:
    """A policy made ready.

    replaces: names (lower case) that the caller takes out of the service's answer before it appends `response_lines`, when those
    are not empty: what Envoy sets there replaces what the service said. Every other access-control-* of the service stays.
    """

    __slots__ = ("_common", "_every", "_expose", "_forward", "_headers", "_max_age", "_methods", "_tests", "replaces")

    def __init__(self, policy: Policy) -> None:
        self._tests = [string_test(origin) for origin in policy.origins]
        self._every = any(test(b"*") for test in self._tests)
        self._common: tuple[bytes, ...] = (CREDENTIALS + b": true",) if policy.credentials else ()
        self._expose: tuple[bytes, ...] = (EXPOSE + b": " + _list(policy.expose),) if policy.expose else ()
        self._methods = _list(policy.methods)
        self._headers = _list(policy.headers)
        self._max_age: tuple[bytes, ...] = ()
        if policy.max_age_ms:
            self._max_age = (b"access-control-max-age: %d" % (policy.max_age_ms // 1000),)
        self._forward = policy.forward_unmatched
        named = ((ORIGIN, True), (CREDENTIALS, bool(policy.credentials)), (EXPOSE, bool(policy.expose)))
        self.replaces = frozenset(name for name, written in named if written)

    def preflight(self, head: Head) -> tuple[bytes, ...] | None:
        """The header lines of the 200 that answers it here; None = it is no preflight for us and goes on."""
        if head.method != b"OPTIONS":
            return None
        origin, method = _value(head, b"origin"), _value(head, b"access-control-request-method")
        if not origin or not method:
            return None
        allowed = self._allows(origin)
        if not allowed and self._forward:
            return None
        lines = [ORIGIN + b": " + origin] if allowed else []
        lines += self._common
        if self._methods:
            lines.append(b"access-control-allow-methods: " + (method if self._methods == b"*" else self._methods))
        if self._headers:
            asked = _value(head, b"access-control-request-headers") if self._headers == b"*" else self._headers
            lines.append(b"access-control-allow-headers: " + asked)
        lines += self._max_age
        if allowed:
            lines += self._expose  # Envoy's filter sees its own answer pass, and treats it like any other
        return tuple(lines)

    def response_lines(self, head: Head) -> tuple[bytes, ...]:
        """Header lines for the answer to this request, to be appended after `replaces` are taken out; empty = leave it as it is."""
        origin = _value(head, b"origin")
        if not origin or not self._allows(origin):
            return ()
        return (ORIGIN + b": " + origin, *self._common, *self._expose)

    def _allows(self, origin: bytes) -> bool:
        return self._every or any(test(origin) for test in self._tests)


def _list(names: tuple[str, ...]) -> bytes:
    return ",".join(names).encode()


def _value(head: Head, name: bytes) -> bytes:
    values = head.values(name)
    return values[0] if len(values) == 1 else b",".join(values)
