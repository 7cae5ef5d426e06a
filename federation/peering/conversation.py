"""A session on a stream: reads, writes, pings and waits for what Session and Carrier decide.

Three tasks share no state but through `do`, which never waits: one reads, one writes (the only one that does), one keeps time. The
first reason to end ends them; then what was still to be said (Refused, GOAWAY) has LINGER seconds to leave.
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
    """`run` it once. learn: called after each read with what was learned from it: Replaced, Changed and Gone, in order."""

    def __init__(
        self, stream: trio.abc.Stream, session: s.Importer | s.Exporter, carrier: Carrier, learn: Callable[[list[s.Action]], None]
    ) -> None:
        self.session = session
        self._stream, self._carrier, self._learn = stream, carrier, learn
        self._written = trio.Event()  # set when there may be bytes to write or another deadline
        self._greeted = trio.Event()
        self._ended: s.Close | None = None
        self._closing = False
        self._scope = trio.CancelScope()

    async def run(self, beside: Callable[[Conversation], Awaitable[None]] | None = None) -> s.Close:
        """Talk until the session ends; returns why. `beside` runs along (an exporter's offers). The stream is closed afterwards, also
        by cancellation."""
        try:
            if isinstance(self.session, s.Importer):
                self.do(self.session.start())
            async with trio.open_nursery() as outer:
                # The writer is never cancelled while others could still end in peace: half a TLS record would garble the last words
                outer.start_soon(self._write)
                with self._scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._read)
                        nursery.start_soon(self._keep_time)
                        if beside is not None:
                            nursery.start_soon(beside, self)
                self._carrier.close()
                self._closing = True
                self._written.set()
                silent = self._ended is not None and self._ended.silent
                outer.cancel_scope.deadline = trio.current_time() + (0 if silent else LINGER)
        finally:
            await trio.aclose_forcefully(self._stream)
        return self._ended or s.Close("ended")

    async def greeted(self) -> Hello:
        """What the other side said of itself; waits until it has."""
        await self._greeted.wait()
        assert self.session.peer is not None
        return self.session.peer

    def do(self, actions: Iterable[s.Action]) -> None:
        """Carry out what the session decided."""
        learned: list[s.Action] = []
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
                    learned.append(action)
        if learned:
            self._learn(learned)
        self._written.set()

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
            actions: list[s.Action] = []
            for event in self._carrier.receive(bytes(data)):
                match event:
                    case c.Heard(message):
                        actions += self.session.receive(message, now)
                        if self.session.peer is not None:
                            self._greeted.set()
                    case c.Pong(payload):
                        self.session.pong(payload, now)
                    case c.Ended(reason):
                        actions.append(s.Close(reason))
            self.do(actions)
            if not data:
                return

    async def _write(self) -> None:
        try:
            while True:
                self._written = trio.Event()
                while data := self._carrier.pending():
                    await self._stream.send_all(data)
                if self._closing:
                    return
                await self._written.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # Why it was closed (an alert about our certificate) may be waiting to be read: the reader then ends it first
            await trio.sleep(LINGER)
            self._end(s.Close(broken(error), silent=True))

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
