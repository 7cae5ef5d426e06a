"""Copies of requests to other backends: fire and forget (Istio mirrors, Envoy's request mirror policies).

Theory of operation. A copy is an Exchange of its own, in a strand of its own, whose client is nobody: its answer is read and thrown away,
it is neither logged nor counted as a request of a client, and whatever becomes of it the client never waits or notices. Its authority
ends in `-shadow`. A body that is still coming is copied as it passes, up to HELD bytes ahead of the copy's endpoint: a mirror that is slower
than that loses its copy, since the client must not be slowed by it.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

from gateway.errors import GatewayError
from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.exchange import Exchange
from gateway.native.facts import Facts
from gateway.native.forward import Broken, forward
from gateway.native.reactor import DeadlineExceeded, Handler, Reactor, Strand, suspend
from gateway.native.upgrade import wants_tunnel
from gateway.table import Destination, Forwarding

HELD = 1 << 20
"""Bytes of a body that wait for a mirror's endpoint: Envoy's buffer limit for a request."""

_SHADOW = b"-shadow"


class Tee:
    """A body as it passes, for one copy: what upload puts in, the copy's upload takes out. lost: the copy was too slow."""

    __slots__ = ("_held", "_inbox", "_input", "lost", "reactor")
    buffer = b""
    closed = spliceable = False

    def __init__(self, reactor: Reactor) -> None:
        self.reactor: Reactor = reactor
        self._inbox: deque[Any] = deque()
        self._held = 0
        self._input: Handler | None = None
        self.lost = False

    def put(self, event: Any) -> None:
        """By the original's upload."""
        if self.lost:
            return
        if type(event) is bytes:
            self._held += len(event)
            if self._held > HELD:
                self.lose()
                return
        self._inbox.append(event)
        self._tell()

    def lose(self) -> None:
        """The body will not be complete."""
        self.lost = True
        self._inbox.clear()
        self._tell()

    def _tell(self) -> None:
        if self._input is not None:
            handler, self._input = self._input, None
            self.reactor.soon(lambda: handler(0))

    def next_event(self, data: bytes = b"") -> Any:
        if not self._inbox:
            return None
        event = self._inbox.popleft()
        if type(event) is bytes:
            self._held -= len(event)
        return event

    async def recv(self, strand: Strand) -> bytes:
        """b"" when the body will not be complete."""
        while not self._inbox and not self.lost:
            self._input = strand.wake
            await suspend()
        return b"" if self.lost else b"."

    def receive(self, data: bytes) -> None:
        """Nothing: `put` has it."""

    def write(self, data: bytes) -> bool:
        """A piece of the answer that nobody wants."""
        return True

    def listen(self, handler: Handler | None) -> None:
        self._input = handler

    def pause(self) -> None:
        """Nothing: HELD bounds what waits."""

    def resume(self) -> None:
        """Nothing."""


class Shadow(Exchange):
    """A copy on its way."""

    __slots__ = ("_original",)

    def __init__(self, original: Exchange, tee: Tee | None) -> None:
        source = tee or Tee(original.runtime.reactor)
        super().__init__(original.strand, source, source, original.context, original.runtime)
        self.hops, self.grpc = original.hops, original.grpc
        self._original = original.head

    async def serve(self, strand: Strand, head: RequestHead, action: Forwarding) -> None:
        """Forward it; whatever becomes of it is nobody's concern. Interrupted, the endpoint's connection is closed."""
        self.strand = strand
        self._begin(head)
        try:
            await forward(self, head, action)
        except (GatewayError, Broken, OSError, DeadlineExceeded):
            return
        finally:
            self._give_back()

    def facts(self, lines: list[bytes], status: int) -> Facts:
        """A copy's headers tell of the original."""
        return Facts(self, self._original, lines, status)

    def watch(self) -> None:
        """Nobody leaves; and nobody uploads."""
        self.stream.listen(None)

    def put(self, head: RequestHead, response: ResponseHead, data: bytes) -> bool:
        return True

    def open_answer(self, head: RequestHead, response: ResponseHead) -> bytes:
        return b""

    def close_answer(self, out: bytes, trailers: list[bytes]) -> bool:
        return True

    async def interim(self, head: RequestHead, response: ResponseHead) -> None:
        """Nobody is told."""

    def abort(self) -> None:
        """Nobody is told."""


def mirror(x: Exchange, head: RequestHead, action: Forwarding, destination: Destination) -> None:
    """Send the copies that are due, of a request that is about to be forwarded."""
    if wants_tunnel(head):
        return  # nobody is there to speak on
    random = x.runtime.random
    for backend, share in action.mirrors:
        if share < 1_000_000 and random() * 1_000_000 >= share:
            continue
        tee: Tee | None = None
        if not head.end:
            tee = Tee(x.runtime.reactor)
            x.unusual = True
            x.tees = [*(x.tees or ()), tee]
        shadow = Shadow(x, tee)
        x.runtime.reactor.spawn(shadow.serve, _copied(x, head), _to(backend, action, destination), name="mirror")


def _copied(x: Exchange, head: RequestHead) -> RequestHead:
    """The head with the copy's authority."""
    copied = copy.copy(head)
    name, colon, port = (x.authority or head.authority).rpartition(b":")
    shadow = name + _SHADOW + colon + port if colon and port.isdigit() else (x.authority or head.authority) + _SHADOW
    copied.authority = shadow
    copied.lines = [line for line in head.lines if line[:5].lower() != b"host:"]
    copied.lines.insert(0, b"host: " + shadow)
    copied.rewrite = True
    return copied


def _to(backend: str, action: Forwarding, destination: Destination) -> Forwarding:
    """The same route to another backend, without retries."""
    there = copy.copy(action)
    one = copy.copy(destination)
    one.backend = backend
    one.request = copy.copy(destination.request)
    one.request.authority = b""
    there.only = one
    there.retry = None
    there.mirrors = ()
    return there
