"""RouteTable: the index of a Snapshot's virtual hosts, built by each worker, never sent.

A request finds its virtual host by name (exact, then the longest wildcard suffix, then `*`) and in it the first route that matches.
There is no falling through to another virtual host (as in Envoy). What costs something (regular expressions, cumulative weights,
header operations as bytes) is done once, here.

Pure. Compiled virtual hosts are reused as long as their part is the same object, so a change costs what it touches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Protocol
from urllib.parse import unquote_to_bytes

import re2

from gateway.snapshot import (
    DirectResponse,
    Forward,
    HeaderOperations,
    MatchKind,
    NamedMatch,
    Redirect,
    RetryPolicy,
    Route,
    RouteMatch,
    Snapshot,
    Split,
    StringMatch,
    VirtualHost,
)

_REGEX_MEMORY = 8 << 20  # bytes a compiled expression may take: RE2's own default, so that what Envoy takes is taken here


class Request(Protocol):
    """What routes look at. `values(name)` gives the values of a header. Any head with these attributes will do."""

    method: bytes
    target: bytes
    path: bytes
    host: bytes
    authority: bytes

    def values(self, name: bytes) -> list[bytes]: ...


Test = Callable[[bytes], bool]
Matcher = Callable[[Request, bytes, int], bool]
"""(request, scheme, listener's port) → whether the route is for it."""

# ---------------------------------------------------------------------------------------------------------- matching


def string_test(match: StringMatch) -> Test:
    """Raises ValueError for an expression that is not RE2."""
    value = match.value.encode()
    if match.kind is MatchKind.PRESENT:
        return lambda text: True
    if match.kind is MatchKind.REGEX:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _REGEX_MEMORY
        options.case_sensitive = not match.ignore_case
        try:
            fullmatch = re2.compile(value, options).fullmatch
        except re2.error as error:
            raise ValueError(f"regex {match.value!r} is not RE2: {error}") from None
        return lambda text: fullmatch(text) is not None
    if match.ignore_case:
        lower = value.lower()
        if match.kind is MatchKind.EXACT:
            return lambda text: text.lower() == lower
        return lambda text: text.lower().startswith(lower)
    if match.kind is MatchKind.EXACT:
        return value.__eq__
    return lambda text: text.startswith(value)


def _header(named: NamedMatch) -> Matcher:
    name, test, wanted = named.name.lower().encode(), string_test(named.match), not named.inverted

    def matches(request: Request, scheme: bytes, port: int) -> bool:
        values = request.values(name)
        # Several headers of a name are one list (RFC 9110 section 5.3), as Envoy matches them.
        return (bool(values) and test(values[0] if len(values) == 1 else b",".join(values))) is wanted

    return matches


def _query(named: NamedMatch) -> Matcher:
    name, test, wanted = named.name.encode(), string_test(named.match), not named.inverted

    def matches(request: Request, scheme: bytes, port: int) -> bool:
        for pair in request.target.partition(b"?")[2].split(b"&"):
            key, _, value = pair.partition(b"=")
            if unquote_to_bytes(key) == name:
                return test(unquote_to_bytes(value)) is wanted  # the first one of a name decides
        return not wanted

    return matches


def _tests(match: RouteMatch) -> list[Matcher]:
    """All but the path's, cheapest first."""
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
    found += [_query(named) for named in match.query]
    return found


# ------------------------------------------------------------------------------------------------------------ actions


class Operations:
    """Header operations as bytes, those of the destination before those of the route; each removes, then sets, then adds.

    steps: (removed or replaced names, lines to append) in order. authority: what Host was set to, b"" if it was not.
    """

    __slots__ = ("authority", "steps")

    def __init__(self, *levels: HeaderOperations) -> None:
        self.authority = b""
        self.steps: list[tuple[frozenset[bytes], tuple[bytes, ...]]] = []
        for level in levels:
            gone = {name.lower().encode() for name in level.remove}
            lines = []
            for name, value in level.set:
                if name.lower() in ("host", ":authority"):
                    self.authority = value.encode()
                    continue
                gone.add(name.lower().encode())
                lines.append(name.lower().encode() + b": " + value.encode())
            lines += [name.lower().encode() + b": " + value.encode() for name, value in level.add]
            if gone or lines:
                self.steps.append((frozenset(gone - {b"host"}), tuple(lines)))

    def __bool__(self) -> bool:
        return bool(self.steps)


class Destination:
    """One split made ready. plain: the request's head needs no change but what every gateway makes."""

    __slots__ = ("backend", "plain", "request", "response")

    def __init__(self, split: Split, route: Route, *, rewritten: bool) -> None:
        self.backend = split.backend
        self.request = Operations(split.request_headers, route.request_headers)
        self.response = Operations(split.response_headers, route.response_headers)
        self.plain = not self.request and not self.request.authority and not rewritten


class Forwarding:
    """A Forward made ready. only: its single destination, None if there are several. Seconds; 0.0 = none."""

    __slots__ = ("_bounds", "_destinations", "_total", "authority", "only", "per_try", "prefix", "retry", "rewrite", "timeout")

    def __init__(self, forward: Forward, route: Route) -> None:
        self.timeout = forward.timeout_ms / 1000
        self.retry: RetryPolicy | None = forward.retry
        self.per_try = forward.retry.per_try_timeout_ms / 1000 if forward.retry is not None else 0.0
        self.rewrite = None if forward.rewrite_prefix is None else forward.rewrite_prefix.encode()
        self.authority = forward.rewrite_authority.encode()
        path = route.match.path
        self.prefix = len(path.value.encode()) if path is not None and path.kind is MatchKind.PREFIX else -1
        rewritten = self.rewrite is not None or bool(self.authority)
        weighted = [split for split in forward.splits if split.weight > 0]
        self._destinations = [Destination(split, route, rewritten=rewritten) for split in weighted]
        self._bounds = list(accumulate(split.weight for split in weighted))
        self._total = self._bounds[-1]
        self.only = self._destinations[0] if len(weighted) == 1 else None

    def choose(self, random: Callable[[], float]) -> Destination:
        """One of the splits, in proportion to the weights."""
        return self._destinations[bisect_right(self._bounds, int(random() * self._total))]

    def target(self, target: bytes) -> bytes:
        """The request's target after the route's rewrite: the matched prefix, or the whole path, is replaced; the query stays."""
        if self.rewrite is None:
            return target
        rest = target[self.prefix :] if self.prefix >= 0 else b"".join(target.partition(b"?")[1:])
        changed = self.rewrite + rest
        return changed if changed.startswith(b"/") else b"/" + changed


class Redirection:
    """A Redirect made ready (Istio HTTPRedirect)."""

    __slots__ = ("_prefix", "_redirect", "status")

    def __init__(self, redirect: Redirect, route: Route) -> None:
        self.status = redirect.status
        self._redirect = redirect
        path = route.match.path
        self._prefix = len(path.value.encode()) if path is not None and path.kind is MatchKind.PREFIX else 0

    def location(self, request: Request, scheme: bytes, port: int) -> bytes:
        """The Location of the answer. port: the listener's."""
        redirect = self._redirect
        wanted = redirect.scheme.encode() or scheme
        name, given = split_authority(redirect.authority.encode() or request.authority)
        number = redirect.port
        if redirect.derive_port == "FROM_REQUEST_PORT":
            number = port
        elif not number and not redirect.derive_port and wanted == scheme:
            number = int(given or 0)
        plain = not number or number == _PORTS.get(wanted)
        authority = name if plain else b"%b:%d" % (name, number)
        if redirect.uri is not None:
            uri = redirect.uri.encode()
            query = b"" if b"?" in uri else b"".join(request.target.partition(b"?")[1:])
            target = uri + query
        elif redirect.prefix_rewrite is not None:
            target = redirect.prefix_rewrite.encode() + request.target[self._prefix :]
        else:
            target = request.target
        return wanted + b"://" + authority + target


_PORTS = {b"http": 80, b"https": 443}


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


# ------------------------------------------------------------------------------------------------------------- tables


class CompiledRoute:
    """One Route made ready."""

    __slots__ = ("action", "name", "only_prefix", "path", "prefix", "response", "tests")

    def __init__(self, route: Route) -> None:
        match = route.match
        self.name = route.name.encode()
        self.prefix: bytes | None = b""  # None: look at path
        self.path: Test | None = None
        if match.path is not None:
            if match.path.kind is MatchKind.PREFIX and not match.path.ignore_case:
                self.prefix = match.path.value.encode()
            else:
                self.prefix = None
                self.path = string_test(match.path)
        self.tests = _tests(match)
        self.only_prefix = self.prefix if not self.tests else None  # the fast way: nothing else to look at
        self.response = Operations(route.response_headers)
        self.action: Forwarding | Redirection | Direct
        match route.action:
            case Forward():
                self.action = Forwarding(route.action, route)
            case Redirect():
                self.action = Redirection(route.action, route)
            case DirectResponse():
                self.action = Direct(route.action)

    def matches(self, request: Request, scheme: bytes, port: int) -> bool:
        if self.prefix is not None:
            if not request.path.startswith(self.prefix):
                return False
        elif self.path is not None and not self.path(request.path):
            return False
        return all(test(request, scheme, port) for test in self.tests)


class CompiledHost:
    """One VirtualHost made ready. Raises ValueError, with the part's name, for what cannot be."""

    __slots__ = ("domains", "part", "routes")

    def __init__(self, part: VirtualHost) -> None:
        self.part = part
        self.domains = tuple(domain.lower().encode() for domain in part.domains)
        self.routes: list[CompiledRoute] = []
        for index, route in enumerate(part.routes):
            try:
                self.routes.append(CompiledRoute(route))
            except ValueError as error:
                raise ValueError(f"host/{part.table}/{part.name}.routes[{index}]: {error}") from None


class RouteTable:
    """All virtual hosts of one table. Immutable once built: an exchange keeps the one it began with."""

    __slots__ = ("_any", "_exact", "_suffixes")

    def __init__(self, hosts: Iterable[CompiledHost]) -> None:
        self._exact: dict[bytes, list[CompiledRoute]] = {}
        self._suffixes: dict[bytes, list[CompiledRoute]] = {}
        self._any: list[CompiledRoute] | None = None
        for host in hosts:
            for domain in host.domains:
                if domain == b"*":
                    self._any = self._any or host.routes
                elif domain.startswith(b"*"):
                    self._suffixes.setdefault(domain[1:], host.routes)
                else:
                    self._exact.setdefault(domain, host.routes)

    def match(self, request: Request, scheme: bytes, port: int) -> CompiledRoute | None:
        """The route for a request that came by `scheme` to a listener's `port`; None when there is none."""
        routes = self._exact.get(request.host)
        if routes is None:
            routes = self._wildcard(request.host)
        if routes is not None:
            path = request.path
            for route in routes:
                if route.only_prefix is not None:
                    if path.startswith(route.only_prefix):
                        return route
                elif route.matches(request, scheme, port):
                    return route
        return None

    def _wildcard(self, host: bytes) -> list[CompiledRoute] | None:
        if self._suffixes:
            dot = host.find(b".")
            while dot > 0:
                routes = self._suffixes.get(host[dot:])
                if routes is not None:
                    return routes
                dot = host.find(b".", dot + 1)
        return self._any


class Tables:
    """The tables of the running Snapshot, by name. Built in steps, so that a big one does not hold up traffic."""

    def __init__(self) -> None:
        self.tables: Mapping[str, RouteTable] = {}
        self._hosts: dict[str, CompiledHost] = {}

    def build(self, snapshot: Snapshot) -> Iterator[None]:
        """Compile what changed, a virtual host a step; the last step swaps all tables at once. Raises ValueError and changes
        nothing when a part cannot be used."""
        hosts: dict[str, CompiledHost] = {}
        grouped: dict[str, list[CompiledHost]] = {}
        changed: set[str] = set()
        for name, part in snapshot.parts.items():
            if isinstance(part, VirtualHost):
                known = self._hosts.get(name)
                if known is None or known.part is not part:
                    known = CompiledHost(part)
                    changed.add(part.table)
                    yield
                hosts[name] = known
                grouped.setdefault(part.table, []).append(known)
        changed |= {known.part.table for name, known in self._hosts.items() if name not in hosts}
        tables = dict(self.tables)
        for table in changed:
            if table in grouped:
                tables[table] = RouteTable(grouped[table])
                yield
            else:
                tables.pop(table, None)
        self.tables, self._hosts = tables, hosts
