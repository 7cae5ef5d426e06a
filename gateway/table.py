"""RouteTable: the index of a Snapshot's virtual hosts, built by each worker, never sent.

A request finds its virtual host by name (exact, then the longest wildcard suffix, then `*`) and in it the first route that matches.
There is no falling through to another virtual host (as in Envoy). What costs something is done once, here: matches in `matching.py`,
actions in `actions.py`.

Pure. Compiled virtual hosts are reused as long as their part is the same object, so a change costs what it touches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from gateway.actions import Destination, Direct, Forwarding, Operations, Redirection, split_authority
from gateway.matching import Matcher, Request, Test, query_tests, request_tests, string_test
from gateway.policy.cors import Cors
from gateway.policy.fault import Faults
from gateway.snapshot import DirectResponse, Forward, MatchKind, Redirect, Route, Snapshot, VirtualHost

__all__ = [
    "CompiledHost",
    "CompiledRoute",
    "Destination",
    "Direct",
    "Forwarding",
    "Operations",
    "Redirection",
    "Request",
    "RouteTable",
    "Tables",
    "split_authority",
    "string_test",
]


class CompiledRoute:
    """One Route made ready. connect: it takes CONNECT requests, and only those. cors, fault: None = none; a redirect or a direct
    response has neither, as in Istio. stat_prefix: b"" = not counted by itself."""

    __slots__ = (
        "_all_tests",
        "action",
        "connect",
        "cors",
        "fault",
        "name",
        "only_prefix",
        "path",
        "prefix",
        "response",
        "stat_prefix",
        "tests",
    )

    def __init__(self, route: Route) -> None:
        match = route.match
        self.name = route.name.encode()
        self.stat_prefix = route.stat_prefix.encode()
        self.prefix: bytes | None = b"/"  # None: look at path. No match of the path is the prefix "/", as Istio writes it for Envoy
        self.path: Test | None = None
        if match.path is not None:
            if match.path.kind is MatchKind.PREFIX and not match.path.ignore_case:
                self.prefix = match.path.value.encode()
            else:
                self.prefix = None
                self.path = string_test(match.path)
        method = match.method
        self.connect = method is not None and method.kind is MatchKind.EXACT and method.value == "CONNECT"
        self.tests: list[Matcher] = request_tests(match)
        self._all_tests = [*self.tests, *query_tests(match)]
        # The fast way: nothing else to look at. An empty prefix would take CONNECT, too, whose path does not begin with a slash.
        self.only_prefix = self.prefix or None if not self._all_tests else None
        self.response = Operations(route.response_headers)
        self.cors: Cors | None = None
        self.fault: Faults | None = None
        self.action: Forwarding | Redirection | Direct
        match route.action:
            case Forward():
                self.action = Forwarding(route.action, route)
                self.cors = Cors(route.cors) if route.cors is not None else None
                self.fault = Faults(route.fault) if route.fault is not None else None
            case Redirect():
                self.action = Redirection(route.action, route)
            case DirectResponse():
                self.action = Direct(route.action)

    def matches(self, request: Request, scheme: bytes, port: int) -> bool:
        """Whether the route takes this request; a CONNECT never."""
        if self.prefix is not None:
            if not request.path.startswith(self.prefix):
                return False
        elif self.path is not None and not self.path(request.path):
            return False
        for test in self._all_tests:
            if not test(request, scheme, port):
                return False
        return request.method != b"CONNECT"

    def matches_connect(self, request: Request, scheme: bytes, port: int) -> bool:
        """Whether the route takes this CONNECT, which has no path and no query."""
        return self.connect and all(test(request, scheme, port) for test in self.tests)


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

    def __init__(self, hosts: Iterable[CompiledHost] = ()) -> None:
        self._exact: dict[bytes, list[CompiledRoute]] = {}
        self._suffixes: dict[bytes, list[CompiledRoute]] = {}
        self._any: list[CompiledRoute] | None = None
        for host in hosts:
            self.add(host)

    def add(self, host: CompiledHost) -> None:
        """One more, before the table is in use. A domain that is known stays whose it is."""
        for domain in host.domains:
            if domain == b"*":
                self._any = self._any or host.routes
            elif domain.startswith(b"*"):
                self._suffixes.setdefault(domain[1:], host.routes)
            else:
                self._exact.setdefault(domain, host.routes)

    def match(self, request: Request, scheme: bytes, port: int) -> CompiledRoute | None:
        """The route for a request that came by `scheme` to a listener's `port`; None when there is none.

        Of a CONNECT only method, authority, headers, claims and port are looked at, and only routes whose match says method CONNECT
        take it; its `path` is empty or the authority, and begins with no slash. An extended CONNECT (RFC 8441) is asked for as the GET
        that it stands for, as in Envoy."""
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
            if request.method == b"CONNECT":
                return next((route for route in routes if route.matches_connect(request, scheme, port)), None)
        return None

    def match_at(self, address: bytes, request: Request, scheme: bytes, port: int) -> CompiledRoute | None:
        """As `match`, of a request that came to this `ADDRESS:PORT`: where that is a name of a virtual host, the request is for it
        whatever Host says."""
        routes = self._exact.get(address)
        if routes is None:
            return self.match(request, scheme, port)
        if request.method == b"CONNECT":
            return next((route for route in routes if route.matches_connect(request, scheme, port)), None)
        return next((route for route in routes if route.matches(request, scheme, port)), None)

    def _wildcard(self, host: bytes) -> list[CompiledRoute] | None:
        if self._suffixes:
            dot = host.find(b".")
            while dot > 0:
                routes = self._suffixes.get(host[dot:])
                if routes is not None:
                    return routes
                dot = host.find(b".", dot + 1)
        return self._any


_STEP = 100  # of what takes 1 to 5 µs each


class Tables:
    """The tables of the running Snapshot, by name. Built in steps, so that a big one does not hold up traffic."""

    def __init__(self) -> None:
        self.tables: Mapping[str, RouteTable] = {}
        self._hosts: dict[str, CompiledHost] = {}

    def build(self, snapshot: Snapshot, names: Collection[str] | None = None) -> Iterator[None]:
        """Compile what changed, in short steps; the last one swaps all tables at once. names: of the parts that differ since the last
        time, if that is known. Raises ValueError and changes nothing when a part cannot be used."""
        if names is not None and not any(name.startswith("host/") for name in names):
            return
        hosts: dict[str, CompiledHost] = {}
        grouped: dict[str, list[CompiledHost]] = {}
        changed: set[str] = set()
        for index, (name, part) in enumerate(snapshot.parts.items()):
            if index % _STEP == 0:
                yield
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
                made = tables[table] = RouteTable()
                for index, host in enumerate(grouped[table]):
                    made.add(host)
                    if index % _STEP == 0:
                        yield
            else:
                tables.pop(table, None)
        self.tables, self._hosts = tables, hosts
