"""Accepting: this worker's listening sockets, those of absent neighbours, and the limits of what comes in.

Theory of operation. For each Listener there is one SO_REUSEPORT socket a worker, and every worker holds all of them. A worker accepts
from its own and, every 25 ms, says in shared memory that it lives. It also accepts from the socket of a neighbour whose stamp is
older than 50 ms or who says that it drains: the kernel goes on giving that socket its share of new connections, and without help
they would wait for ever (measured: 83 of 200 stranded; with lending none, the slowest connection 57 ms). When the neighbour, or its
successor with the same socket, stamps again, its socket is left to it. Two who accept from one socket at a time do no harm: the
kernel gives each connection once. A unix socket is one for all workers, and whoever comes first accepts.

25 and 50 ms: two stamps may be missed by a worker in a long turn (a full batch of TLS handshakes takes about 100 ms, so it is then
helped, which is right: it is overloaded). Writing a stamp costs 0.1 µs. A process that was killed is noticed within 75 ms, less
than the 200 ms that TCP waits before it says anything again.

A nameserver's datagrams come to sockets of their own, kept under `datagrams_key`; they are read and lent in the same way, by a handler
that the engine gives, and to the very end of a drain: a client that is not answered waits for seconds.

Every accepted connection is one strand, from here to its end: greeting (`greeting`), then `serve`. What a client without any
credentials can make this process hold is bounded:
- connections by the descriptors there are: a new one over the limit is closed at once (health checks have some in reserve);
- greetings under way by GREETINGS: the oldest gives way to a new one. An honest greeting is over in a few round trips, so the
  oldest of a thousand is nearly surely one that was begun to be held open; and whoever opens more only drops his own.
- time by the greeting's deadline, bytes by the hello's bound, the PROXY header's and OpenSSL's own.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import trio

from discovery.watch import Watchable
from gateway.native.connection import ConnectionContext
from gateway.native.greeting import Door, HandedOff, Refused
from gateway.native.reactor import NEVER, DeadlineExceeded, Handler, Reactor, Strand
from gateway.native.shared import Shared
from gateway.native.sockets import Handoff, Sockets, datagrams_key
from gateway.native.stream import Stream
from gateway.native.tls import Contexts
from gateway.snapshot import Inbound, ListenerKind, Snapshot

log = structlog.get_logger("gateway.listener")

STAMP_S = 0.025
SILENT_NS = 50_000_000
# Connections accepted from one socket before others have their turn: an accept takes about 25 µs with what belongs to it, so 32
# are under 1 ms.
ACCEPTS = 32
# A worker completes about 1,200 handshakes a second (DATAPLANE.md): a thousand under way is a second's work, and 1,000 times the 60 KB
# that OpenSSL keeps for each is what this process can spare.
GREETINGS = 1024
# However many descriptors there are: with TLS a connection keeps about 60 KB, so 50,000 are 3 GB. The same number is Envoy's advice for
# a proxy at the edge (docs/configuration/best_practices/edge).
_MOST_CONNECTIONS = 50_000
# Descriptors that are not connections: listening sockets, pipes, shared memory, logs, name look-ups.
_DESCRIPTORS_APART = 128
_UNLIMITED = 1 << 30
_HEALTH_RESERVE = 16  # connections to the health port beyond the limit: a full gateway is not a dead one
# When the system has no descriptor or memory for another connection: the pause after which it is tried again. Without one the waiting
# connection would wake the loop without end.
_PAUSE_S = 0.1
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LOG_EVERY_S = 1.0  # one line a reason and second: a flood of refusals must not become a flood of lines

Serve = Callable[[Strand, Stream, ConnectionContext, bytes], Coroutine[None, Any, None]]
"""Carries a connection to its end: HTTP, or what `context.tcp` says. The bytes were read already and come first. Need not close the
stream. May raise OSError and DeadlineExceeded."""


def connection_limit() -> int:
    """How many connections a worker may hold: each may need a second descriptor, towards an endpoint."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(_MOST_CONNECTIONS, max(_HEALTH_RESERVE, (soft - _DESCRIPTORS_APART) // 2))


class Listeners:
    """All listening of one worker. Counters are plain attributes, for `gateway.engine.Statistics`."""

    def __init__(
        self,
        reactor: Reactor,
        shared: Shared,
        *,
        serve: Serve,
        handoff: Handoff,
        datagrams: Callable[[socket.socket], Handler] | None = None,
        most_connections: int = 0,
        most_greetings: int = GREETINGS,
    ) -> None:
        """most_connections: 0 = `connection_limit()`. datagrams: gives the handler of a nameserver's socket."""
        self.reactor = reactor
        self.shared = shared
        self.connections = 0
        self.connections_total = 0
        self.handshakes = 0
        self.handshake_failures = 0
        self.refused: Counter[str] = Counter()
        self.draining = False
        self._serve = serve
        self._handoff = handoff
        self._datagrams = datagrams
        self._most = most_connections or connection_limit()
        self._most_greetings = most_greetings
        self._greetings: dict[Strand, None] = {}  # in order of their beginning
        self._doors: dict[str, Door] = {}
        self._applied = 0  # how often `_doors` were made
        self._sockets: Sockets = {}
        self._open: dict[tuple[str, int], socket.socket] = {}  # (listener key, worker) → what this worker accepts from
        self._absent: list[int] = []
        self._paused_until = 0.0
        self._empty = trio.Event()
        self._logged: dict[str, float] = {}
        self._stamp = _Stamp(self)

    # ---------------------------------------------------------------------------------------------------- what to serve

    def apply(self, snapshot: Snapshot, contexts: Contexts) -> tuple[str, ...]:
        """Serve this Snapshot's listeners from now on; connections that stand keep what they began with. Returns what of it does
        not load. Between two turns only."""
        inbounds = {part.sni: part for part in snapshot.parts.values() if isinstance(part, Inbound)}
        served = [listener for listener in snapshot.listeners() if listener.kind is not ListenerKind.ADMIN]
        before = self._doors
        self._applied += 1
        self._doors = {
            listener.key: Door(listener, contexts, inbounds, snapshot.parts, before=before.get(listener.key)) for listener in served
        }
        self._doors |= {
            datagrams_key(door.listener): door for door in list(self._doors.values()) if door.listener.kind is ListenerKind.DNS
        }
        self._arrange()
        return tuple(fault for door in self._doors.values() for fault in door.faults)

    def offers(self, context: ConnectionContext, local: str, backend: str) -> bool:
        """Whether a relayed connection like this one, were it new and come to this IP, might go to this backend."""
        door = self._doors.get(context.listener.key)
        if door is not None and door.places is not None:
            door = door.at(local) if local else None
        return door is not None and door.offers(context, backend)

    def limit(self, most: int) -> None:
        """Hold at most so many connections from now on; 0 = `connection_limit()`, under 0 = as many as there are descriptors for."""
        self._most = connection_limit() if not most else most if most > 0 else _UNLIMITED

    def take(self, sockets: Sockets) -> None:
        """Accept from these sockets from now on, and let go of those that are not among them. Between two turns only."""
        for socks in sockets.values():
            for sock in socks:
                if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                    # Accepted sockets inherit it: answers leave at once, and no connection pays a system call for that.
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets = sockets
        self._arrange()

    def missing(self) -> tuple[str, ...]:
        """Keys of listeners that no socket has come for."""
        return tuple(key for key in self._doors if key not in self._sockets)

    async def run(self, sockets: Watchable[Sockets], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stamp, lend and follow `sockets` until cancelled. Cancelled: nothing is accepted any more; connections are the
        reactor's to close."""
        seen, value = sockets.version, sockets.value
        try:
            self.take(value)
            self._stamp.expired()
            self.reactor.arm(self._stamp)
            task_status.started()
            while True:
                seen, value = await sockets.newer_than(seen)
                self.take(value)
        finally:
            self._stamp.deadline = NEVER
            self._sockets = {}
            self._arrange()

    def drain(self) -> None:
        """Accept what waits, then no more, for good. Neighbours accept in this worker's place; connections go on. The health port is
        still answered when all workers drain."""
        for (key, _), sock in list(self._open.items()):
            if sock.type == socket.SOCK_DGRAM:
                continue
            for _ in range(socket.SOMAXCONN // ACCEPTS):  # a queue is no longer than that
                if self.accept(key, sock):
                    break
        self.draining = True
        self.shared.drain()
        self._arrange()

    async def wait_empty(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            if self._empty.is_set():
                self._empty = trio.Event()
            await self._empty.wait()

    # ---------------------------------------------------------------------------------------------- from which to accept

    def tick(self) -> None:
        """Say that this worker lives, and look who does not. Every STAMP_S."""
        now = self.reactor.clock()
        now_ns = int(now * 1e9)
        self.shared.stamp(now_ns)
        absent = self.shared.absent(now_ns, silent_for_ns=SILENT_NS)
        if absent != self._absent:
            log.info("listener.lending", absent=absent, before=self._absent)
            self._absent = absent
            self._arrange()
        elif self._paused_until and now >= self._paused_until:
            self._arrange()

    def _arrange(self) -> None:
        """Make what is accepted from what it should be."""
        wanted: dict[tuple[str, int], socket.socket] = {}
        if self.reactor.clock() >= self._paused_until:
            self._paused_until = 0.0
            wanted = {
                (key, worker): socks[worker]
                for key, socks in self._sockets.items()
                if key in self._doors and self._accepts(key, self._doors[key])
                for worker in ((0,) if self._doors[key].listener.unix else (self.shared.worker, *self._absent))
                if worker < len(socks)
            }
        for place in [place for place, sock in self._open.items() if wanted.get(place) is not sock]:
            self.reactor.unregister(self._open.pop(place).fileno())
        for place, sock in wanted.items():
            if place not in self._open:
                self._open[place] = sock
                self.reactor.register(sock.fileno(), self._handler(place[0], sock))

    def _handler(self, key: str, sock: socket.socket) -> Handler:
        if sock.type == socket.SOCK_DGRAM and self._datagrams is not None:
            return self._datagrams(sock)
        return _Acceptor(self, key, sock)

    def _accepts(self, key: str, door: Door) -> bool:
        if not self.draining or key == datagrams_key(door.listener):
            return True
        # Somebody must say "not ready" while the whole gateway drains; as long as one worker goes on, he answers, and is ready.
        return door.listener.kind is ListenerKind.HEALTH and len(self._absent) == self.shared.workers - 1

    def _pause(self, error: OSError) -> None:
        self.refuse("exhausted", f"{error}; raise ulimit -n or add workers")
        self._paused_until = self.reactor.clock() + _PAUSE_S
        self._arrange()

    # ----------------------------------------------------------------------------------------------------- connections

    def accept(self, key: str, sock: socket.socket) -> bool:
        """Take what waits at this socket, a bounded number of connections. True if nothing waits any more."""
        door = self._doors.get(key)
        if door is None:
            return True
        most = self._most + (_HEALTH_RESERVE if door.listener.kind is ListenerKind.HEALTH else 0)
        family = sock.family
        for _ in range(ACCEPTS):
            try:
                # socket.accept's own two lines; it looks up three enumerations besides, 2.5 µs of a connection's 75.
                descriptor, address = sock._accept()  # type: ignore[attr-defined]
                connection = socket.socket(family, socket.SOCK_STREAM, 0, descriptor)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return True
                continue  # accept(2): errors of the new connection itself are to be passed over
            if self.connections >= most:
                connection.close()
                what = f"{self.connections} are open, {most} are allowed"
                self.refuse("too-many-connections", f"{what}; add workers, or raise ulimit -n and overload.maxConnections")
                continue
            connection.setblocking(False)
            chosen = door if door.places is None else self._placed(door, connection)
            if chosen is None:
                continue
            if chosen.greets and len(self._greetings) >= self._most_greetings:
                self._drop_oldest()
            self.reactor.spawn(self._connection, chosen, connection, address, name="connection")
        return False

    def _placed(self, door: Door, connection: socket.socket) -> Door | None:
        """Who serves a connection by the address that it came to. Nobody: it is closed."""
        try:
            local = connection.getsockname()[0]
        except OSError:
            local = ""  # it is gone already
        found = door.at(local) if local else None
        if found is None:
            connection.close()
            self.refuse("unknown-address", f"no service has {local or 'its address'} on this port", listener=door.listener.key)
        return found

    def _drop_oldest(self) -> None:
        """No strand runs now: accepting is done by the reactor itself."""
        oldest = next(iter(self._greetings))
        self._greetings.pop(oldest, None)
        oldest.cancel()
        self.refuse("too-many-greetings", f"{self._most_greetings} clients are between accept and handshake")

    async def _connection(self, strand: Strand, door: Door, sock: socket.socket, address: Any) -> None:
        """A connection's whole life."""
        stream = Stream(self.reactor, sock, strand.wake)
        self.connections += 1
        self.connections_total += 1
        try:
            peer = (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
            if not door.greets:
                await self._serve(strand, stream, door.open(stream, peer), b"")
                return
            self._greetings[strand] = None
            applied = self._applied
            try:
                stream, context, data = await door.greet(strand, stream, peer, self._handoff)
            finally:
                self._greetings.pop(strand, None)
            self.handshakes += bool(context.tls_version)
            if applied != self._applied and context.tcp is not None:
                self._look_again(context, stream)
            await self._serve(strand, stream, context, data)
        except Refused as refused:
            self.handshake_failures += refused.in_tls
            self.refuse(refused.reason, refused.detail, listener=door.listener.key, peer=address)
        except (OSError, DeadlineExceeded, HandedOff):
            pass  # the client is gone, or has had its time, or is control's
        finally:
            stream.close()
            self.connections -= 1
            if not self.connections:
                self._empty.set()

    def _look_again(self, context: ConnectionContext, stream: Stream) -> None:
        """What a connection that will be relayed chose before it greeted us to the end may have gone meanwhile; once it is relayed, nobody
        looks until the next change (native/withdrawn). Raises Refused."""
        assert context.tcp is not None
        local = "" if context.listener.unix else stream.sock.getsockname()[0]
        gone = [backend for backend in sorted(context.tcp.backends) if not self.offers(context, local, backend)]
        if gone:
            raise Refused("unknown-name", f"{gone[0]} was taken away during the handshake")

    def refuse(self, reason: str, detail: str = "", **where: object) -> None:
        """Count it, and say so, at most once a second for each reason."""
        self.refused[reason] += 1
        now = self.reactor.now
        if now - self._logged.get(reason, -NEVER) >= _LOG_EVERY_S:
            self._logged[reason] = now
            log.info("connection.refused", reason=reason, detail=detail, total=self.refused[reason], **where)

    def __repr__(self) -> str:
        state = "draining" if self.draining else "accepting"
        return f"<Listeners {state} from {sorted(self._open)} {self.connections} connections {len(self._greetings)} greetings>"


class _Acceptor:
    """The reactor's handler of one listening socket."""

    __slots__ = ("_key", "_listeners", "_sock")

    def __init__(self, listeners: Listeners, key: str, sock: socket.socket) -> None:
        self._listeners = listeners
        self._key = key
        self._sock = sock

    def __call__(self, events: int) -> None:
        self._listeners.accept(self._key, self._sock)


class _Stamp:
    """The reactor's timer that comes again every STAMP_S."""

    __slots__ = ("_listeners", "armed", "deadline")

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self.deadline = NEVER
        self.armed = NEVER

    def expired(self) -> None:
        self._listeners.tick()
        self.deadline = self._listeners.reactor.clock() + STAMP_S
