"""The peering session: what either side says next, given what it heard and what time it is.

Pure. Theory of operation. The importer dials and says Hello; the exporter answers with its Hello, then Reset, then Upsert and Remove
as its offer changes. Messages of the exporter are numbered from 1 without gaps and acknowledged one by one. A session never
resumes: who reconnects begins with a Reset, and until its last piece has come the importer's old picture stands (the caller's: a
session that ends has told nobody to forget anything).

Back-pressure: at most WINDOW messages are unacknowledged. Beyond that the exporter holds the names of what changed, and when the window
opens it says what they are by then, so a slow reader skips what came and went, and nothing queues twice. One that acknowledges nothing for
ACK_TIMEOUT is cut off.

Every call returns the actions to carry out, in order. After a Close there are no more.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from federation.peering import wire
from federation.peering.keepalive import Keepalive
from federation.peering.wire import Ack, ExportedService, Hello, Message, Received, Refused, Remove, Reset, Unknown, Upsert

GREETING_TIMEOUT = 5.0  # seconds from connect to the other side's Hello; a TLS handshake's worth of patience (handshakes get 10)
FILL_TIMEOUT = 30.0  # seconds from Hello to the last piece of the Reset: 20,000 services at 1 Mbit/s
ACK_TIMEOUT = 10.0  # seconds without any acknowledgement while some is owed: it lags, or only its kernel is alive
WINDOW = 64  # messages unacknowledged: a round trip of 250 ms still lets 256 changes a second pass
MAX_SERVICES = 20_000  # of one peer; DESIGN section 9 reckons with 5,000
MAX_PARTS = 500_000  # ports and locality counts of one peer together: some 100 MB of objects


class Send(msgspec.Struct, frozen=True):
    message: Message


class Ping(msgspec.Struct, frozen=True):
    """Send an HTTP/2 PING with these 8 bytes; the answer goes to `pong`."""

    payload: bytes


class Replaced(msgspec.Struct, frozen=True):
    """The importer's whole picture is this now."""

    services: tuple[ExportedService, ...]


class Changed(msgspec.Struct, frozen=True):
    service: ExportedService


class Gone(msgspec.Struct, frozen=True):
    hostname: str


class Close(msgspec.Struct, frozen=True):
    """The session has ended. silent: the other side was not heard of any more, so it may be dead; else it, or we, ended it."""

    reason: str
    silent: bool = False


Action = Send | Ping | Replaced | Changed | Gone | Close


class Phase(enum.Enum):
    GREETING = "greeting"
    FILLING = "filling"
    LIVE = "live"
    ENDED = "ended"


class _Ended(Exception):
    """Raised inside to end the session; `said` is told to the other side."""

    def __init__(self, reason: str, *, said: bool = True, silent: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.said, self.silent = reason, said, silent


class _Session:
    """What both roles share: greeting, keepalive, ends."""

    def __init__(self, hello: Hello, proven: str, now: float, rtt: float | None = None) -> None:
        """proven: the trust domain that the other side's certificate proved."""
        self.hello, self.proven = hello, proven
        self.phase = Phase.GREETING
        self.peer: Hello | None = None
        self.keepalive = Keepalive(now, rtt)
        self._limit = now + GREETING_TIMEOUT

    def receive(self, message: Received, now: float) -> list[Action]:
        """What to do about a message."""
        if self.phase is Phase.ENDED:
            return []
        self.keepalive.heard()
        try:
            if isinstance(message, Refused):
                raise _Ended(f"the peer refused: {message.reason}", said=False)
            if isinstance(message, Hello):
                return self._greeted(message, now)
            if self.peer is None:
                raise _Ended(f"the first message was {type(message).__name__}, not Hello")
            if isinstance(message, Unknown):
                if self.peer.minor <= wire.MINOR:
                    raise _Ended(f"{message.kind!r} is no message of version {self.peer.major}.{self.peer.minor}")
                return []
            return self._receive(message, now)
        except _Ended as end:
            return self._end(end)

    def pong(self, payload: bytes, now: float) -> None:
        """A PING was answered."""
        self.keepalive.pong(payload, now)

    def deadline(self) -> float:
        """When `tick` is wanted, at the latest. Infinite once ended."""
        if self.phase is Phase.ENDED:
            return float("inf")
        return min(self.keepalive.due(), self._limit)

    def tick(self, now: float) -> list[Action]:
        """Time has passed. May be called early; does what is due."""
        if self.phase is Phase.ENDED:
            return []
        try:
            if now >= self._limit:
                raise self._late()
            if now < self.keepalive.due():
                return []
            payload = self.keepalive.tick(now)
            if payload is None:
                raise _Ended(f"no answer to {self.keepalive.missed} keepalives", said=False, silent=True)
            return [Ping(payload)]
        except _Ended as end:
            return self._end(end)

    def close(self, reason: str) -> list[Action]:
        """End it from our side, saying why."""
        return [] if self.phase is Phase.ENDED else self._end(_Ended(reason))

    def _greeted(self, hello: Hello, now: float) -> list[Action]:
        if self.peer is not None:
            raise _Ended("a second Hello")
        if hello.major != wire.MAJOR:
            raise _Ended(f"the peer speaks peering version {hello.major}.{hello.minor}, we speak {wire.MAJOR}.{wire.MINOR}")
        if hello.trust_domain != self.proven:
            raise _Ended(f"Hello says trust domain {hello.trust_domain!r}, the certificate proved {self.proven!r}")
        if hello.cluster == self.hello.cluster and hello.trust_domain == self.hello.trust_domain:
            raise _Ended(f"both ends are cluster {hello.cluster!r}; a Peer's address leads back to this cluster")
        self.peer = hello
        self.phase = Phase.FILLING
        self._limit = now + FILL_TIMEOUT
        return self._begin(now)

    def _begin(self, now: float) -> list[Action]:
        raise AssertionError

    def _receive(self, message: Message, now: float) -> list[Action]:
        raise AssertionError

    def _late(self) -> _Ended:
        what = "Hello" if self.phase is Phase.GREETING else "the end of the Reset"
        return _Ended(f"waited too long for {what}")

    def _end(self, end: _Ended) -> list[Action]:
        self.phase = Phase.ENDED
        said: list[Action] = [Send(Refused(end.reason[:1024]))] if end.said else []
        return [*said, Close(end.reason, silent=end.silent)]

    def __repr__(self) -> str:
        peer = f"{self.peer.cluster}/{self.peer.gateway}" if self.peer else "?"
        return f"<{type(self).__name__} {self.phase.value} with {peer} missed={self.keepalive.missed}>"


class Importer(_Session):
    """The side that dials and learns. `start` first."""

    def __init__(self, hello: Hello, proven: str, now: float, rtt: float | None = None) -> None:
        super().__init__(hello, proven, now, rtt)
        self._picture: dict[str, ExportedService] = {}
        self._filling: dict[str, ExportedService] | None = {}
        self._parts = 0
        self._sequence = 0

    def start(self) -> list[Action]:
        return [Send(self.hello)]

    def _begin(self, now: float) -> list[Action]:
        return []

    def _receive(self, message: Message, now: float) -> list[Action]:
        if isinstance(message, (Reset, Upsert, Remove)):
            if message.sequence != self._sequence + 1:
                raise _Ended(f"message {message.sequence} came after {self._sequence}")
            self._sequence = message.sequence
            return [*self._learn(message), Send(Ack(message.sequence))]
        raise _Ended(f"{type(message).__name__} is nothing an exporter says")

    def _learn(self, message: Reset | Upsert | Remove) -> list[Action]:
        if isinstance(message, Reset):
            if self._filling is None:
                self._filling, self._parts = {}, 0
            for service in message.services:
                self._add(self._filling, service)
            if message.more:
                return []
            self._picture, self._filling = self._filling, None
            self.phase, self._limit = Phase.LIVE, float("inf")
            return [Replaced(tuple(self._picture.values()))]
        if self._filling is not None:
            raise _Ended(f"{type(message).__name__} in the middle of a Reset")
        if isinstance(message, Upsert):
            self._add(self._picture, message.service)
            return [Changed(message.service)]
        gone = self._picture.pop(message.hostname, None)
        self._parts -= _parts(gone)
        return [Gone(message.hostname)] if gone is not None else []

    def _add(self, picture: dict[str, ExportedService], service: ExportedService) -> None:
        self._parts += _parts(service) - _parts(picture.get(service.hostname))
        picture[service.hostname] = service
        if len(picture) > MAX_SERVICES or self._parts > MAX_PARTS:
            raise _Ended(f"more than {MAX_SERVICES} services, or {MAX_PARTS} ports and locality counts in them")


class Exporter(_Session):
    """The side that is dialled and tells. It says nothing before the importer's Hello, and no Reset before `offer` was called."""

    def __init__(self, hello: Hello, proven: str, now: float, rtt: float | None = None) -> None:
        super().__init__(hello, proven, now, rtt)
        self._offer: dict[str, ExportedService] | None = None
        self._sent: dict[str, ExportedService] | None = None  # what the importer will believe once all that is sent has arrived
        self._urgent: dict[str, None] = {}  # hostnames still to be told of: gone, or without a healthy workload
        self._usual: dict[str, None] = {}  # and the others
        self._sequence = 0
        self._acked = 0

    def offer(self, services: Iterable[ExportedService], now: float) -> list[Action]:
        """What is offered from now on, whole; only differences go out."""
        old, self._offer = self._offer, {service.hostname: service for service in services}
        if self._sent is not None and old is not None:
            for hostname in old.keys() - self._offer.keys():
                self._queue(hostname, urgent=True)
            for hostname, service in self._offer.items():
                known = old.get(hostname)
                if known is not service and known != service:
                    self._queue(hostname, urgent=not any(count.healthy for count in service.localities))
        return self._say(now)

    @property
    def acknowledged(self) -> bool:
        """True when the importer has taken in everything that is offered."""
        return self._sent is not None and not self._urgent and not self._usual and self._acked == self._sequence

    def _begin(self, now: float) -> list[Action]:
        self._limit = float("inf")
        return [Send(self.hello), *self._say(now)]

    def _receive(self, message: Message, now: float) -> list[Action]:
        if not isinstance(message, Ack):
            raise _Ended(f"{type(message).__name__} is nothing an importer says")
        if not self._acked < message.sequence <= self._sequence:
            raise _Ended(f"acknowledged {message.sequence}, but {self._acked} was the last and {self._sequence} is sent")
        self._acked = message.sequence
        if self._acked == self._sequence:
            self.phase = Phase.LIVE
        self._limit = float("inf") if self._acked == self._sequence else now + ACK_TIMEOUT
        return self._say(now)

    def _late(self) -> _Ended:
        if self.phase is Phase.GREETING:
            return super()._late()
        return _Ended(f"nothing was acknowledged for {ACK_TIMEOUT:.0f} s: the peer lags and has to begin anew")

    def _queue(self, hostname: str, *, urgent: bool) -> None:
        """Traffic of what lost its workloads has to move; the rest can wait behind it."""
        there, other = (self._urgent, self._usual) if urgent else (self._usual, self._urgent)
        other.pop(hostname, None)
        there[hostname] = None

    def _say(self, now: float) -> list[Action]:
        """Tell what the window allows of how the offer differs from what was sent."""
        if self.peer is None or self._offer is None or self.phase is Phase.ENDED:
            return []
        idle = self._acked == self._sequence
        messages: list[Message]
        if self._sent is None:
            messages = list(wire.resets(self._sequence + 1, tuple(self._offer.values())))
            self._sequence += len(messages)
            self._sent = dict(self._offer)
        else:
            messages = self._differences(self._offer, self._sent)
        if messages and idle:
            self._limit = now + ACK_TIMEOUT
        return [Send(message) for message in messages]

    def _differences(self, offer: dict[str, ExportedService], sent: dict[str, ExportedService]) -> list[Message]:
        messages: list[Message] = []
        for queue in (self._urgent, self._usual):
            while queue and self._sequence - self._acked < WINDOW:
                hostname = next(iter(queue))
                del queue[hostname]
                service = offer.get(hostname)
                if service == sent.get(hostname):
                    continue  # it changed, and changed back, before it was told
                self._sequence += 1
                if service is None:
                    del sent[hostname]
                    messages.append(Remove(self._sequence, hostname))
                else:
                    sent[hostname] = service
                    messages.append(Upsert(self._sequence, service))
        return messages


def _parts(service: ExportedService | None) -> int:
    if service is None:
        return 0
    return len(service.ports) + len(service.labels) + sum(1 + len(count.labels) for count in service.localities)
