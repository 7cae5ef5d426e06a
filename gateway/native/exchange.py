"""One request and its response: routed, forwarded or answered here, recorded.

An Exchange serves requests one after the other: `run` → `_route` → `forward.forward` (attempts at endpoints, then `relay`), or an
answer of the gateway's own. Its attributes are what the access log and the metrics read; they hold until the next `run`. The client's
side, how an answer is written and how the client's body is read, is the subclass's: `http1.Http1Exchange` for all requests of a
connection, in the connection's strand; `http2_server.Http2Exchange` for one stream at a time, in a strand of its own.

Whatever happens, `state.finished` is called once for each `state.started`, an endpoint's connection that is not certainly in order
is closed, and the exchange is recorded.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import DownstreamClosed, GatewayError, LoopDetected, NoRoute, Overloaded
from gateway.native.accesslog import VIA_UPSTREAM
from gateway.native.answers import answer, refuse
from gateway.native.backend import BackendState
from gateway.native.calls import is_call
from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.codec.fields import Kind
from gateway.native.connection import ConnectionContext
from gateway.native.facts import Facts
from gateway.native.filters import before_routing_on
from gateway.native.forward import Broken, Evicted, forward, may_leave
from gateway.native.greeting import admits
from gateway.native.heads import Additions, forwarded_for
from gateway.native.host import Host
from gateway.native.http2_client import AnyUpstream
from gateway.native.identity import trust_domain
from gateway.native.paths import needs_normalising, normalised
from gateway.native.reactor import DeadlineExceeded, Strand
from gateway.native.runtime import Runtime
from gateway.native.tunnel import ByteStream
from gateway.native.upload import Body, Upload
from gateway.policy.failure import Failure
from gateway.snapshot import Forward, Redirect, RetryPolicy, Route, RouteMatch, Split
from gateway.table import CompiledRoute, Forwarding, Operations

_HOPS = 8
"""Gateways that a request may pass: more than any sensible chain of clusters, few enough that a loop ends soon."""

_TO_HTTPS = CompiledRoute(Route("https-redirect", RouteMatch(), Redirect(scheme="https")))

_SCHEMES = (b"http", b"https")

_UNCHANGED = Operations()

NO_HEAD = RequestHead()
"""Of what is not a request, for the log."""
NO_HEAD.method = NO_HEAD.target = NO_HEAD.path = b"-"
NO_HEAD.line = b"- - HTTP/1.1"
NO_HEAD.host = NO_HEAD.upgrade = NO_HEAD.authority = NO_HEAD.user_agent = NO_HEAD.request_id = NO_HEAD.body = b""
NO_HEAD.minor = 1
NO_HEAD.rewrite = False


class Exchange:
    """See the module."""

    __slots__ = (
        "_inbound_route",
        "_plain",
        "_table",
        "additions",
        "answered_at",
        "asked",
        "attempt_began",
        "authority",
        "began",
        "begun",
        "body",
        "busy",
        "chunked",
        "codec",
        "context",
        "cookie",
        "cors",
        "detail",
        "elsewhere",
        "ended",
        "exposed",
        "flag",
        "forwarded_for",
        "fresh_only",
        "given",
        "grpc",
        "grpc_status",
        "head",
        "hops",
        "host",
        "keep",
        "key",
        "limit",
        "log_json",
        "log_text",
        "operations",
        "policy",
        "port",
        "received",
        "request_id",
        "retries",
        "route_name",
        "runtime",
        "scheme",
        "sent",
        "source",
        "stale_once",
        "stat_prefix",
        "state",
        "status",
        "strand",
        "stream",
        "tees",
        "termination",
        "transport_failure",
        "tried",
        "unrecorded",
        "unusual",
        "upload",
        "upstream",
    )

    def __init__(self, strand: Strand, stream: Any, codec: Any, context: ConnectionContext, runtime: Runtime) -> None:
        """stream, codec: where the request's body comes from: a Stream and its ServerCodec, or an Http2Stream that is both."""
        self.strand, self.stream, self.context, self.runtime = strand, stream, context, runtime
        self.codec = codec
        self.additions = Additions(context, trusted=runtime.trusted_proxies > 0, client_cert=runtime.client_cert)
        self.source = runtime.observer.source(context)
        self.port = context.listener.port
        self.log_text = self.log_json = b""  # of the connection, once a line needs it (accesslog)
        self.busy = False  # with a request
        self.keep = False  # the client's connection after this answer
        self.chunked = False  # the answer's body goes to the client in chunks
        self.operations = _UNCHANGED
        self.grpc = False  # a gRPC call: errors are said in its way
        self.grpc_status = b""  # what it ended with, once known
        self.ended = 0.0
        self.unrecorded = False  # the last one is not counted yet
        self.head = NO_HEAD
        self.given: Host | None = None
        self.upload: Upload | None = None
        self.host: Host | None = None
        self.state: BackendState | None = None
        self.policy: RetryPolicy | None = None
        self.upstream: AnyUpstream | None = None
        chain = context.chain
        self._plain = context.inbound is None and not (chain is not None and (chain.redirect_https or chain.destinations))
        self._table = context.table
        self._forget()
        self._inbound_route: CompiledRoute | None = None
        self.began = runtime.reactor.now
        self.limit = 0.0

    # ----------------------------------------------------------------------------------------------- the client's side

    def watch(self) -> None:
        """While the exchange waits for others: notice the client leave (DownstreamClosed is thrown then)."""
        raise AssertionError

    def put(self, head: RequestHead, response: ResponseHead, data: bytes) -> bool:
        """Write a whole answer with `operations` applied; `keep` says whether the connection stays. False: drain `stream`."""
        raise AssertionError

    def open_answer(self, head: RequestHead, response: ResponseHead) -> bytes:
        """Begin an answer whose body is still coming. Returns what is to be written before its first piece."""
        raise AssertionError

    def close_answer(self, out: bytes, trailers: list[bytes]) -> bool:
        """Write the last piece and the end of the answer. False: drain `stream`."""
        raise AssertionError

    async def interim(self, head: RequestHead, response: ResponseHead) -> None:
        """Pass a 1xx answer on. Raises OSError."""
        raise AssertionError

    async def reply(self, head: RequestHead, status: int, body: bytes, headers: tuple[bytes, ...], grpc: int | None = None) -> bool:
        """An answer of the gateway's own. grpc: the code for a gRPC call, None = what the status means. True if the connection can
        carry another request. Raises OSError, DeadlineExceeded."""
        raise AssertionError

    async def open_tunnel(self, head: RequestHead, response: ResponseHead, lines: list[bytes]) -> tuple[ByteStream, bytes]:
        """Tell the client that bytes follow; lines are added to the head. Returns its stream, and what it has sent already.
        Raises OSError."""
        raise AssertionError

    def abort(self) -> None:
        """The answer had begun and will not be completed: make the client see that."""
        raise AssertionError

    def record_refusal(self, error: GatewayError, head: RequestHead = NO_HEAD) -> None:
        """Something that is not a request came and is answered with `error`: a line in the log, like Envoy's."""
        self._begin(head)
        self.unusual = True
        self.status, self.flag, self.detail = error.status, error.flag.encode(), error.detail.encode()
        self._end()

    @property
    def backend_name(self) -> bytes:
        """For the log of an exchange that reached no endpoint."""
        return self.state.backend.name.encode() if self.state is not None else b"-"

    # ------------------------------------------------------------------------------------------------- from end to end

    async def run(self, head: RequestHead) -> bool:
        """Answer one request. True if the connection can carry another. Raises OSError, DeadlineExceeded when the client cannot be
        reached any more. Interrupted at any wait, the endpoint's connection is closed and the exchange recorded."""
        self._begin(head)
        try:
            if self.runtime.overload.shedding:
                self._shed(head)
            route = self._route(head)
            if route.cors is not None or route.fault is not None:
                answered = await before_routing_on(self, head, route)
                if answered is not None:
                    return answered
            action = route.action
            if type(action) is Forwarding:
                return await forward(self, head, action)
            assert not isinstance(action, Forwarding)
            return await answer(self, head, action)
        except DownstreamClosed as error:
            self.flag, self.detail = b"DC", error.detail.encode()
            return False
        except GatewayError as error:
            return await refuse(self, head, error)
        except Broken as error:
            self.flag, self.detail = error.flag, error.detail
            self.abort()
            return False
        except (OSError, DeadlineExceeded, GeneratorExit):
            self.flag, self.detail = b"DC", b"downstream_remote_disconnect"
            raise
        finally:
            self._end()

    def _begin(self, head: RequestHead) -> None:
        if self.unrecorded:
            self.runtime.observer.record_all()
        self.head = head
        self.busy = True
        self.began = self.attempt_began = self.strand.reactor.now
        self.status = self.sent = 0
        self.received = len(head.body)
        self.flag = self.route_name = b"-"
        self.stat_prefix = b""
        self.detail = VIA_UPSTREAM
        self.operations = _UNCHANGED
        self.answered_at = 0.0
        self.authority = head.authority
        self.request_id = head.request_id
        self.forwarded_for = self.additions.address
        self.host = self.upstream = self.state = None
        self.begun = self.exposed = False
        if self.grpc:
            self.grpc_status = b""
        if self.unusual:
            self._forget()

    def _forget(self) -> None:
        """Reset what only unusual requests set; they say so in `unusual`."""
        self.unusual = self.fresh_only = self.stale_once = False
        self.scheme = self.additions.proto
        self.retries = self.elsewhere = self.hops = 0
        self.termination = self.transport_failure = b"-"
        self.tried: list[Host] = []
        self.body: Body | None = None
        self.asked = b""  # the request as it was sent on, where the answer's headers tell of it
        self.cors: tuple[frozenset[bytes], tuple[bytes, ...]] | None = None  # what its answer says to a browser
        self.key: int | None = None  # of consistent hashing
        self.cookie = b""  # a cookie that consistent hashing gives the client
        self.tees: list[Any] | None = None  # who else wants the body

    def _give_back(self) -> None:
        """What is still held."""
        if self.given is not None:
            self.give_up()
        if self.unusual:
            if self.state is not None and self.retries + self.elsewhere:
                self.state.retry_ended()
            if self.tees is not None and (self.body is None or not self.body.complete):
                for tee in self.tees:
                    tee.lose()

    def _end(self) -> None:
        """Give back what is still held, and record."""
        self._give_back()
        reactor = self.strand.reactor
        reactor.now = now = reactor.clock()
        self.runtime.observer.record(self, now)
        self.busy = False

    def give_up(self) -> None:
        """The attempt is over and its connection is not to be used again."""
        if self.upload is not None:
            self.upload.cancel()
            self.upload = None
        self.unusual = True
        upstream = self.upstream
        if upstream is not None:
            upstream.close()
        self.finished()

    def finished(self) -> None:
        """The attempt is over."""
        host, self.given = self.given, None
        if host is not None and self.state is not None:
            self.state.finished(host, self)

    # -------------------------------------------------------------------------------------------------------- routing

    def _route(self, head: RequestHead) -> CompiledRoute:
        if head.rewrite:
            self._look_at_additions(head)
        if head.odd and head.path and needs_normalising(head.target):
            head.target = normalised(head.target)
            head.path = head.target.partition(b"?")[0]
            head.rewrite = True
        route: CompiledRoute | None
        if self._plain:
            table = self.runtime.tables.get(self._table)
            route = None if table is None else table.match(head, self.scheme, self.port)
        else:
            route = self._inbound() if self.context.inbound is not None else self._apart(head)
        if route is None:
            self.unusual = True
            raise NoRoute
        self.route_name = route.name or b"-"
        self.stat_prefix = route.stat_prefix
        self.operations = route.response
        return route

    def _shed(self, head: RequestHead) -> None:
        """Raises Overloaded."""
        self.unusual = True
        self.grpc = is_call(head)
        self.runtime.overload.count()
        raise Overloaded

    def facts(self, lines: list[bytes], status: int) -> Facts:
        """For header values with operators, in these lines of the request (status 0) or the answer."""
        return Facts(self, self.head, lines, status)

    def client_address(self, head: RequestHead) -> str:
        """The client's, as far as the proxies before us may be believed (Node.trusted_proxies)."""
        trusted = self.runtime.trusted_proxies
        if trusted and self.additions.address:
            chain = [part.strip() for part in forwarded_for(head).split(b",") if part.strip()]
            if len(chain) >= trusted:
                return chain[-trusted].decode("latin-1")
        return self.context.peer_address

    def _look_at_additions(self, head: RequestHead) -> None:
        """What other proxies wrote: x-forwarded-for for the log, hops from those who may say so."""
        self.unusual = True
        self.grpc = is_call(head)
        own = self.additions.address
        chain = forwarded_for(head)
        if self.additions.trusted:
            said = head.special(Kind.FORWARDED_PROTO)
            if len(said) == 1 and said[0][2] in _SCHEMES:
                self.scheme = said[0][2]  # what the proxy before us ended
        if own:
            self.forwarded_for = chain + b"," + own if chain else own
            return
        self.forwarded_for = chain
        for field in head.special(Kind.HOPS):
            self.hops = max(self.hops, int(field[2]) if field[2].isdigit() and len(field[2]) < 4 else _HOPS + 1)
        if self.hops > _HOPS:
            raise LoopDetected

    def _apart(self, head: RequestHead) -> CompiledRoute | None:
        """Where only https is served: a trusted proxy may say that it was. By virtual address: the address names the service."""
        table = self.runtime.tables.get(self._table)
        context = self.context
        assert context.chain is not None
        if context.chain.destinations:
            return None if table is None else table.match_at(context.local.encode(), head, self.scheme, self.port)
        return _TO_HTTPS if table is None or self.scheme != b"https" else table.match(head, self.scheme, self.port)

    def _inbound(self) -> CompiledRoute:
        """What the connection's SNI names, whatever Host says; as long as it is still exported to this peer."""
        began = self.context.inbound
        assert began is not None
        inbound = self.runtime.inbounds.get(began.sni)
        identity = self.context.identity
        if inbound is None or (inbound is not began and not admits(inbound, identity, trust_domain(identity))):
            raise NoRoute("no_longer_exported")
        known = self._inbound_route
        if known is None or known.name != inbound.backend.encode():
            known = self._inbound_route = CompiledRoute(Route(inbound.backend, RouteMatch(), Forward((Split(inbound.backend),))))
        return known

    # --------------------------------------------------------------------------------------------------- interruptions

    def upload_failed(self, upload: Upload, error: GatewayError) -> None:
        """The client broke off its body, or sent nonsense. Between turns only."""
        if self.upload is upload:
            self.strand.throw(error)

    def evict(self, host: Host) -> None:
        """Waiter.evict: the endpoint was found silent or gone; go elsewhere if that is safe and there is somewhere."""
        if self.given is host and not self.begun and self.state is not None:
            failure = Failure.CONNECT if self.upstream is None else Failure.SILENCE
            if may_leave(self, self.head, self.state, host, failure):
                self.strand.throw(Evicted(failure))

    def __repr__(self) -> str:
        return f"<Exchange {self.context.peer} {self.head!r} {self.given!r}>"
