"""Both ends of a peering session joined, with the bytes in between: `Dialogue`, and `check_session` which any pair must pass."""

from __future__ import annotations

from collections.abc import Callable

from federation.peering import session as s
from federation.peering.wire import Decoder, ExportedService, Hello, encode

EAST = Hello(1, 0, "east", "east.example.com", "gw-east", "r1/z1", "east")
WEST = Hello(1, 0, "west", "west.example.com", "gw-west", "r2/z2", "west")


class Dialogue:
    """`importer` (east) and `exporter` (west). Bytes wait in `to_west` and `to_east` until `carry` moves some. `picture` is what a
    caller of the importer would believe now; `closed` the reasons by side."""

    def __init__(self, importer: s.Importer, exporter: s.Exporter) -> None:
        self.importer, self.exporter, self.now = importer, exporter, 0.0
        self.to_west, self.to_east = bytearray(), bytearray()
        self._west, self._east = Decoder(), Decoder()
        self.pings: list[tuple[str, bytes]] = []
        self.picture: dict[str, ExportedService] | None = None
        self.closed: dict[str, s.Close] = {}
        self.do("east", importer.start())

    def do(self, side: str, actions: list[s.Action]) -> None:
        for action in actions:
            match action:
                case s.Send(message):
                    (self.to_west if side == "east" else self.to_east).extend(encode(message))
                case s.Ping(payload):
                    self.pings.append((side, payload))
                case s.Replaced(services):
                    self.picture = {service.hostname: service for service in services}
                case s.Changed(service):
                    assert self.picture is not None
                    self.picture[service.hostname] = service
                case s.Gone(hostname):
                    assert self.picture is not None
                    del self.picture[hostname]
                case s.Close():
                    assert side not in self.closed
                    self.closed[side] = action

    def carry(self, size: int = 1 << 30, *, to: str) -> None:
        """Move up to `size` bytes that wait for that side."""
        pipe = self.to_west if to == "west" else self.to_east
        decoder, end = (self._west, self.exporter) if to == "west" else (self._east, self.importer)
        data = bytes(pipe[:size])
        del pipe[:size]
        for message in decoder.receive(data):
            self.do(to, end.receive(message, self.now))

    def offer(self, *services: ExportedService) -> None:
        self.do("west", self.exporter.offer(services, self.now))

    def settle(self) -> None:
        while self.to_west or self.to_east:
            self.carry(to="west")
            self.carry(to="east")

    def advance(self, seconds: float, *, answer: bool = True) -> None:
        """Let time pass, ticking both ends when they ask for it, and answering pings unless told otherwise."""
        until = self.now + seconds
        while min(self.importer.deadline(), self.exporter.deadline()) <= until:
            self.now = max(self.now, min(self.importer.deadline(), self.exporter.deadline()))
            self.do("east", self.importer.tick(self.now))
            self.do("west", self.exporter.tick(self.now))
            for side, payload in self.pings if answer else []:
                (self.importer if side == "east" else self.exporter).pong(payload, self.now)
            self.pings.clear()
        self.now = until


def joined(now: float = 0.0) -> Dialogue:
    return Dialogue(s.Importer(EAST, WEST.trust_domain, now), s.Exporter(WEST, EAST.trust_domain, now))


def service(hostname: str, healthy: int = 1, total: int = 1) -> ExportedService:
    from federation.peering.wire import ExportedPort, LocalityCount

    return ExportedService(hostname, "shop", (ExportedPort(80, "http", "HTTP"),), (LocalityCount("r2/z2", healthy, total),))


def check_session(make: Callable[[], Dialogue]) -> None:
    """What any pair of ends must do: begin with a Reset, follow changes, forget nothing when lost, end with a reason."""
    pair = make()
    pair.offer(service("a"), service("b"))
    assert pair.picture is None
    pair.settle()
    assert pair.picture == {"a": service("a"), "b": service("b")}
    pair.offer(service("a", 0), service("c"))
    pair.settle()
    assert pair.picture == {"a": service("a", 0), "c": service("c")}
    assert pair.exporter.acknowledged
    pair.advance(30.0)
    assert not pair.closed
    pair.advance(5.0, answer=False)
    assert pair.closed["east"].silent
    assert pair.closed["west"].silent
    assert pair.picture == {"a": service("a", 0), "c": service("c")}
