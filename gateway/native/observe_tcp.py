"""What relayed connections leave behind: Istio's TCP metrics as plain integers, and a line of the access log each.

A connection is counted as opened when it is connected, or at its end if it never was; its bytes are taken over whenever somebody asks
for statistics and at its end, so a reading is exact at any moment, however long a connection lasts (Istio's gateways report every 5 s).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gateway.engine import TcpSeries
from gateway.native.accesslog import Stamps
from gateway.native.accesslog_tcp import json_line, text_line
from gateway.native.host import Host
from gateway.snapshot import Backend, ListenerKind, Node

if TYPE_CHECKING:
    from gateway.native.tcp import Connection

Labels = tuple[tuple[str, str], ...]
Sources = Callable[[Node, str, str], Labels]
"""(node, reporter, identity) → labels of the source."""
Destinations = Callable[[Node, Backend | None, Host | None, str], Labels]
"""(node, backend, host, reporter) → labels of the destination."""


class Series:
    """Counts of one label combination. sent: response direction."""

    __slots__ = ("closed", "opened", "received", "sent")

    def __init__(self) -> None:
        self.opened = self.closed = self.sent = self.received = 0


class TcpObserver:
    """Of one worker. over: connections that ended and are not recorded yet. node: of the Snapshot that runs."""

    __slots__ = ("_by_labels", "_destinations", "_found", "_live", "_sources", "_stamps", "node", "over")

    def __init__(self, stamps: Stamps, sources: Sources, destinations: Destinations) -> None:
        self._stamps = stamps
        self._sources = sources
        self._destinations = destinations
        self._by_labels: dict[Labels, Series] = {}
        self._found: dict[tuple[str, str, str, Host | None, bytes], Series] = {}
        self._live: dict[Connection, Series] = {}
        self.node = Node(name="", cluster="")
        self.over: list[Connection] = []

    def configure(self, node: Node) -> None:
        """Take over a Snapshot's node; endpoints may have changed too, so labels are resolved anew."""
        self.node = node
        self._found.clear()

    # ------------------------------------------------------------------------------------------------------- recording

    def opened(self, c: Connection) -> None:
        """It is connected."""
        series = self._live[c] = self._series(c, b"-")
        series.opened += 1

    def closed(self, c: Connection) -> None:
        """It is over, whatever became of it; recorded at the end of the turn."""
        series = self._series(c, c.flag)
        if self._live.pop(c, None) is None:
            series.opened += 1
        series.closed += 1
        _take_over(c, series)
        self.over.append(c)

    def record(self, lines: list[bytes] | None, *, json: bool) -> None:
        """A line for each that is over; None = there is no log."""
        over, self.over = self.over, []
        if lines is None:
            return
        line, start = json_line if json else text_line, self._stamps.text
        lines += [line(c, start(c.began), int((c.ended - c.began) * 1000.0)) for c in over]

    def _series(self, c: Connection, flag: bytes) -> Series:
        reporter = "destination" if c.context.listener.kind is ListenerKind.EAST_WEST else "source"
        key = (reporter, c.context.identity, c.backend_name, c.host, flag)
        found = self._found.get(key)
        if found is None:
            backend = c.state.backend if c.state is not None else None
            labels = self._sources(self.node, reporter, c.context.identity)
            labels += self._destinations(self.node, backend, c.host, reporter)
            mutual = reporter == "destination" and bool(c.context.identity)
            labels += (
                ("request_protocol", "tcp"),
                ("response_flags", flag.decode()),
                ("connection_security_policy", "mutual_tls" if mutual else "unknown"),
            )
            found = self._found[key] = self._by_labels.setdefault(labels, Series())
        return found

    # ------------------------------------------------------------------------------------------------------ statistics

    def statistics(self) -> Iterator[TcpSeries]:
        for connection, series in self._live.items():
            _take_over(connection, series)
        for labels, one in self._by_labels.items():
            yield TcpSeries(labels, one.opened, one.closed, one.sent, one.received)


def _take_over(c: Connection, series: Series) -> None:
    counts = c.counts
    series.received += counts.received - c.counted[0]
    series.sent += counts.sent - c.counted[1]
    c.counted = counts.received, counts.sent
