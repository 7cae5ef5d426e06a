"""Is a peer's gateway still there? Asked when its session went silent, which may mean that only its control process is gone.

Theory of operation. Control calls an address SUSPECT. Each worker then opens a connection to it of its own, TLS and proof included,
and *reads from it*: a TLS 1.3 client's handshake is complete before the server has looked at its certificate, so a completed
handshake does not yet say that this gateway will be served. No request is made, since no workload is to be troubled: the worker
says close_notify at once and waits for the other side's. Whatever a living gateway sends in return (its own close_notify, session
tickets, data) says that it has taken the certificate; an alert, a reset, a bare end of the connection or silence say that no
traffic will pass. A process that is stopped still completes TCP connections (its kernel does), and is told by its silence.

Time: 250 ms or 4 round trips, whichever is longer: connect, two for TLS with its answer, and one to spare. The round trip is taken
from the endpoint's fastest recent answers, an upper bound; of an endpoint that never answered it is not known, and 250 ms is used as
the round trip of the longest ways there are on earth.

Silence for that long may also mean that this machine, or that one, has no time. Where others can take the traffic nothing is lost by
sending it to them. Where some backend has nobody else, its requests would fail for nothing: then the address is asked once more and given
longer. Who refuses is not asked again: that is an answer.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

from gateway.engine import Confirmed
from gateway.native.backend import BackendState
from gateway.native.host import Host
from gateway.native.pool import AttemptFailed, Dialer
from gateway.native.reactor import DeadlineExceeded, Strand
from gateway.native.stream import Stream, TlsStream
from gateway.policy.failure import Failure

LEAST_S = 0.25
MOST_S = 1.0  # 4 of the longest round trips; also bounds what a slow service's answers make of the estimate
# The second time: a TLS handshake of 1 ms that shares its core with a hundred busy others. The backend's connect timeout holds as well (1 s
# unless written): requests could not use a gateway that takes longer either.
AGAIN_S = 2.0
_FASTEST_PERCENT = 5.0


def patience(round_trip: float) -> float:
    """Seconds an address has to answer. round_trip in seconds; 0.0 = not known."""
    return min(MOST_S, max(LEAST_S, 4 * round_trip)) if round_trip else MOST_S


class Confirmations:
    """Asks suspect addresses, at most once at a time each."""

    def __init__(self, dialer: Dialer, answer: Callable[[Confirmed], None], alone: Callable[[str], bool]) -> None:
        """answer: called with each result, from the reactor; must not block. alone: whether some backend would have nobody left without
        this address."""
        self._dialer = dialer
        self._answer = answer
        self._alone = alone
        self._asked: set[str] = set()

    def confirm(self, address: str, state: BackendState, host: Host) -> bool:
        """Ask `address` by way of one endpoint that is there (`host` of `state`). False, and nothing is done, while it is being
        asked. Between two turns, or from a strand."""
        if address in self._asked:
            return False
        self._asked.add(address)
        self._dialer.reactor.spawn(self._ask, address, state, host, name=f"confirm {address}")
        return True

    async def _ask(self, strand: Strand, address: str, state: BackendState, host: Host) -> None:
        """Cancelled, it answers nothing."""
        reactor = self._dialer.reactor
        begin = reactor.clock()
        try:
            alive = await self._answers(strand, state, host, patience(host.latencies.percentile(_FASTEST_PERCENT)))
            if alive is None and self._alone(address):
                alive = await self._answers(strand, state, host, AGAIN_S)
        finally:
            self._asked.discard(address)
        self._answer(Confirmed(address=address, alive=bool(alive), took_ms=round((reactor.clock() - begin) * 1000)))

    async def _answers(self, strand: Strand, state: BackendState, host: Host, seconds: float) -> bool | None:
        """Whether it lives; None for silence."""
        limit = self._dialer.reactor.clock() + seconds
        try:
            upstream = await self._dialer.dial(strand, state, host, authority="", limit=limit)
            try:
                strand.until(limit)
                return await _hears(strand, upstream.stream)
            finally:
                upstream.close()
        except DeadlineExceeded:
            return None
        except AttemptFailed as failed:
            return None if failed.failure is Failure.CONNECT_TIMEOUT else False
        except OSError:
            return False

    def __repr__(self) -> str:
        return f"<Confirmations asking {sorted(self._asked)}>"


async def _hears(strand: Strand, stream: Stream) -> bool:
    """Say close_notify and read. Raises OSError for an alert, a reset or an end without a word."""
    if not isinstance(stream, TlsStream):
        return True  # without TLS the connection is all there is to see
    try:
        stream.tls.unwrap()
        return True
    except ssl.SSLWantReadError:
        pass
    if not stream._flush():
        await stream.drain(strand)
    with contextlib.suppress(ssl.SSLZeroReturnError):  # its close_notify
        await stream.recv(strand)
    return True
