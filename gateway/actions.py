"""What is done to a request of a route: header operations, destinations, rewrites, redirects, made ready once.

Theory of operation. Everything that costs something (cumulative weights, header operations as bytes, compiled substitutions) is done when
the Snapshot comes. Pure; randomness is an argument.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from gateway.matching import Request
from gateway.parts.substitution import Template
from gateway.policy.substitution import Changes, reads_request
from gateway.rewrite import Substitution
from gateway.snapshot import (
    DirectResponse,
    Forward,
    HeaderOperations,
    MatchKind,
    Redirect,
    RetryPolicy,
    Route,
    Split,
)

_AUTHORITY = ("host", ":authority")  # one thing with two names
# Where a message ends is said by whoever sends its body. Taken out or changed, one message's body would be read as the next message.
_FRAMING = ("content-length", "transfer-encoding")
_KEPT = frozenset((b"host", *(name.encode() for name in _FRAMING)))


class Operations:
    """Header operations as bytes, those of the destination before those of the route; each removes, then sets, then adds. An empty
    value does nothing, as in Envoy (keep_empty_value off). What frames the body is passed over.

    steps: (removed or replaced names, lines to append) in order; of a level whose values have command operators (removed names, Changes).
    authority: what Host was set to, b"" if it was not. recalls: an answer with these tells of the request's headers.
    """

    __slots__ = ("authority", "recalls", "steps")

    def __init__(self, *levels: HeaderOperations) -> None:
        self.authority = b""
        self.steps: list[tuple[frozenset[bytes], tuple[bytes, ...] | Changes]] = []
        self.recalls = any(reads_request(value) for level in levels for _, value in (*level.set, *level.add))
        for level in levels:
            gone = {name.lower().encode() for name in level.remove} - _KEPT
            self.authority = _authority(level) or self.authority
            if any(isinstance(value, Template) for _, value in (*level.set, *level.add)):
                self.steps.append((frozenset(gone), Changes(*(_ours(values) for values in (level.set, level.add)))))
                continue
            lines: dict[bytes, bytes] = {}
            for name, value in _texts(level.set):
                gone.add(name.encode())
                lines[name.encode()] = value.encode()
            ready = [*lines.items(), *((name.encode(), value.encode()) for name, value in _texts(level.add))]
            if gone or ready:
                self.steps.append((frozenset(gone), tuple(name + b": " + value for name, value in ready)))

    def __bool__(self) -> bool:
        return bool(self.steps)


_Values = tuple[tuple[str, str | Template], ...]


def _ours(values: _Values) -> list[tuple[str, str | Template]]:
    """Those of headers: not the authority's, which is no header, nor the body's framing."""
    return [(name.lower(), value) for name, value in values if value and name.lower() not in (*_AUTHORITY, *_FRAMING)]


def _texts(values: _Values) -> list[tuple[str, str]]:
    return [(name, value) for name, value in _ours(values) if isinstance(value, str)]


def _authority(level: HeaderOperations) -> bytes:
    """Of `set` and `add`, set's is taken (Istio)."""
    given = [value for name, value in (*level.add, *level.set) if name.lower() in _AUTHORITY and value]
    return given[-1].encode() if given and isinstance(given[-1], str) else b""


class Destination:
    """One split made ready. plain: the request's head needs no change but what every gateway makes, and need not be remembered. recalled:
    the answer's headers tell of the request's. request.authority: what the request's authority becomes, the route's rewrite before any
    header operation; b"" = kept."""

    __slots__ = ("backend", "plain", "recalled", "request", "response")

    def __init__(self, split: Split, route: Route, forward: Forward) -> None:
        self.backend = split.backend
        self.request = Operations(split.request_headers, route.request_headers)
        self.response = Operations(split.response_headers, route.response_headers)
        self.request.authority = forward.rewrite_authority.encode() or self.request.authority
        rewritten = forward.rewrite_prefix is not None or forward.rewrite_regex is not None
        self.recalled = self.response.recalls
        self.plain = not self.request and not self.request.authority and not rewritten and not self.recalled


class Forwarding:
    """A Forward made ready. only: its single destination, None if there are several. Seconds; 0.0 = none.

    rewrites: the path is changed, by `target`; what it was belongs in `x-envoy-original-path`, as Envoy does and Istio's access log
    shows. mirrors: (backend, share in parts per million).
    """

    __slots__ = (
        "_bounds",
        "_destinations",
        "_total",
        "authority",
        "mirrors",
        "only",
        "per_try",
        "prefix",
        "regex",
        "retry",
        "rewrite",
        "rewrites",
        "timeout",
    )

    def __init__(self, forward: Forward, route: Route) -> None:
        """Raises ValueError for a rewrite that RE2 cannot do."""
        self.timeout = forward.timeout_ms / 1000
        self.retry: RetryPolicy | None = forward.retry
        self.per_try = forward.retry.per_try_timeout_ms / 1000 if forward.retry is not None else 0.0
        self.rewrite = None if forward.rewrite_prefix is None else forward.rewrite_prefix.encode()
        self.regex = None if forward.rewrite_regex is None else Substitution(*forward.rewrite_regex)
        self.rewrites = self.rewrite is not None or self.regex is not None
        self.authority = forward.rewrite_authority.encode()
        self.prefix = matched_prefix(route)
        self.mirrors = tuple((mirror.backend, mirror.share) for mirror in forward.mirrors if mirror.share > 0)
        weighted = [split for split in forward.splits if split.weight > 0]
        self._destinations = [Destination(split, route, forward) for split in weighted]
        self._bounds = list(accumulate(split.weight for split in weighted))
        self._total = self._bounds[-1]
        self.only = self._destinations[0] if len(weighted) == 1 else None

    def choose(self, random: Callable[[], float]) -> Destination:
        """One of the splits, in proportion to the weights."""
        return self._destinations[bisect_right(self._bounds, int(random() * self._total))]

    def target(self, target: bytes) -> bytes:
        """The request's target after the route's rewrite. The matched prefix, or the whole path, is replaced, or every match of the
        expression in it; the query stays."""
        if self.rewrite is not None:
            rest = target[self.prefix :] if self.prefix >= 0 else _query(target)
            changed = self.rewrite + rest
        elif self.regex is not None:
            path = target.partition(b"?")[0]
            changed = self.regex.replace_all(path) + target[len(path) :]
        else:
            return target
        return changed if changed.startswith(b"/") else b"/" + changed


def matched_prefix(route: Route) -> int:
    """How much of the path a prefix rewrite replaces; -1 = all of it. No path match is the prefix `/`, as Istio writes it for Envoy."""
    path = route.match.path
    if path is None:
        return 1
    return len(path.value.encode()) if path.kind is MatchKind.PREFIX else -1


def _query(target: bytes) -> bytes:
    """With its question mark."""
    return b"".join(target.partition(b"?")[1:])


class Redirection:
    """A Redirect made ready (Istio HTTPRedirect).

    Where no port is written the authority stays as the client wrote it, port included; only a port that is the old scheme's own goes when
    the scheme changes (Envoy). FROM_PROTOCOL_DEFAULT is the new scheme's port, FROM_REQUEST_PORT the listener's (Istio). A port that
    is the scheme's own is not written.
    """

    __slots__ = ("_authority", "_derive", "_port", "_prefix", "_prefix_rewrite", "_scheme", "_uri", "status")

    def __init__(self, redirect: Redirect, route: Route) -> None:
        self.status = redirect.status
        self._authority = redirect.authority.encode()
        self._scheme = redirect.scheme.encode()
        self._port = redirect.port
        self._derive = redirect.derive_port
        self._uri = None if redirect.uri is None else redirect.uri.encode()
        self._prefix_rewrite = None if redirect.prefix_rewrite is None else redirect.prefix_rewrite.encode()
        self._prefix = max(0, matched_prefix(route))

    def location(self, request: Request, scheme: bytes, port: int) -> bytes:
        """The Location of the answer. port: the listener's."""
        wanted = self._scheme or scheme
        authority = self._authority or request.authority
        number = port if self._derive == "FROM_REQUEST_PORT" else self._port
        if number or self._derive:
            name = split_authority(authority)[0]
            authority = b"%b:%d" % (name, number) if number and number != PORTS.get(wanted) else name
        elif not self._authority and wanted != scheme:
            name, given = split_authority(authority)
            if given and int(given) == PORTS.get(scheme):
                authority = name
        return wanted + b"://" + authority + self._target(request.target)

    def _target(self, target: bytes) -> bytes:
        if self._uri is not None:
            return self._uri if b"?" in self._uri else self._uri + _query(target)
        if self._prefix_rewrite is not None:
            return self._prefix_rewrite + target[self._prefix :]
        return target


PORTS = {b"http": 80, b"https": 443}


def split_authority(authority: bytes) -> tuple[bytes, bytes]:
    """(name, port text) of an authority that was accepted before."""
    name, colon, port = authority.rpartition(b":")
    if not colon or not port.isdigit():
        return authority, b""
    return name, port


class Direct:
    """A DirectResponse."""

    __slots__ = ("body", "status")

    def __init__(self, direct: DirectResponse) -> None:
        self.status = direct.status
        self.body = direct.body
