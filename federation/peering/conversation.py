"""A session on a stream: reads, writes, pings and waits for what Session and Carrier decide.

Three tasks share no state but through `_do`, which never waits: one reads, one writes (the only one that does), one keeps time. The first
reason to end ends all three; then what was still to be said (Refused, GOAWAY) has LINGER seconds to leave.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable

import trio

from federation.peering import carrier as c
from federation.peering import session as s
from federation.peering.carrier import Carrier
from federation.peering.wire import Hello, WireError

LINGER = 0.5  # seconds for the last words; who does not take them in that time is not listening
READ = 65536  # bytes at a time


class Conversation:
    """`run` it once. learn: called with Replaced, Changed and Gone, in order."""

    def __init__(
        self, stream: trio.abc.Stream, session: s.Importer | s.Exporter, carrier: Carrier, learn: Callable[[s.Action], None]
    ) -> None:
        self.session = session
        self._stream, self._carrier, self._learn = stream, carrier, learn
        self._written = trio.Event()  # set when there may be bytes to write or another deadline
        self._greeted = trio.Event()
        self._ended: s.Close | None = None
        self._scope = trio.CancelScope()

    async def run(self, beside: Callable[[Conversation], Awaitable[None]] | None = None) -> s.Close:
        """Talk until the session ends; returns why. `beside` runs along (an exporter's offers). The stream is closed afterwards, also
        by cancellation."""
        try:
            if isinstance(self.session, s.Importer):
                self.do(self.session.start())
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for task in (self._read, self._write, self._keep_time):
                        nursery.start_soon(task)
                    if beside is not None:
                        nursery.start_soon(beside, self)
            with trio.move_on_after(LINGER):
                self._carrier.close()
                await self._drain()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the last words found nobody
        finally:
            await trio.aclose_forcefully(self._stream)
        return self._ended or s.Close("ended")

    def do(self, actions: Iterable[s.Action]) -> None:
        """Carry out what the session decided."""
        for action in actions:
            match action:
                case s.Send(message):
                    try:
                        self._carrier.send(message)
                    except WireError as error:
                        self._end(s.Close(str(error)))
                case s.Ping(payload):
                    self._carrier.ping(payload)
                case s.Close():
                    self._end(action)
                case _:
                    self._learn(action)
        self._written.set()

    async def greeted(self) -> Hello:
        """What the other side said of itself; waits until it has."""
        await self._greeted.wait()
        assert self.session.peer is not None
        return self.session.peer

    def close(self, reason: str) -> None:
        """End it from our side."""
        self.do(self.session.close(reason))

    def _end(self, close: s.Close) -> None:
        if self._ended is None:
            self._ended = close
            self._scope.cancel()

    async def _read(self) -> None:
        while True:
            try:
                data = await self._stream.receive_some(READ)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._end(s.Close(broken(error), silent=True))
                return
            now = trio.current_time()
            for event in self._carrier.receive(bytes(data)):
                match event:
                    case c.Heard(message):
                        self.do(self.session.receive(message, now))
                        if self.session.peer is not None:
                            self._greeted.set()
                    case c.Pong(payload):
                        self.session.pong(payload, now)
                    case c.Ended(reason):
                        self._end(s.Close(reason, silent=True))
            self._written.set()
            if not data:
                return

    async def _write(self) -> None:
        try:
            while True:
                self._written = trio.Event()
                await self._drain()
                await self._written.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # Why it was closed (an alert about our certificate) may be waiting to be read: the reader then ends this wait
            await trio.sleep(LINGER)
            self._end(s.Close(broken(error), silent=True))

    async def _drain(self) -> None:
        while data := self._carrier.pending():
            await self._stream.send_all(data)

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep_until(self.session.deadline())
            self.do(self.session.tick(trio.current_time()))


def broken(error: BaseException) -> str:
    """Why a connection broke, in words for people: TLS alerts of the other side are about our certificate."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (ssl.SSLError, OSError)):
        cause = cause.__cause__
    if isinstance(cause, ssl.SSLError):
        return tls_words(cause)
    if isinstance(cause, OSError):
        return f"the connection broke: {cause.strerror or cause}"
    return "the connection broke"


def tls_words(error: ssl.SSLError) -> str:
    """A TLS failure, with what to do about it where one can tell."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message or str(error)
        advice = (
            "its gateway has to renew its certificate"
            if "expired" in what
            else "does spec.bundle of the Peer document hold the roots that its `fedgate ca bundle` prints?"
        )
        return f"the peer's certificate does not verify: {what}; {advice}"
    if isinstance(error, ssl.SSLEOFError):
        return "the peer closed the connection in the TLS handshake; is its control process up, and its east-west port at this address?"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        return f"the peer refused our certificate ({reason}); does its Peer document for this cluster hold our `fedgate ca bundle`?"
    return f"TLS failed: {reason}"
