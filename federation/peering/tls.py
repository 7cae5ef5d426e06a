"""TLS over any trio stream, by an SSLObject.

Why not trio.SSLStream: when a handshake fails it drops the alert that OpenSSL has written, so the other side would see a bare end and could
not be told that its certificate expired or is of an unknown CA; and it keeps the SSLObject, whose verified chain we need, to itself.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import TypeVar

import trio

RECORD = 16384 + 512  # bytes: one TLS record with its overhead; a read takes several

T = TypeVar("T")


class TlsStream(trio.abc.Stream):
    """`handshake` first; then one task may read while another writes. An end without close_notify reads like one with it: what is
    carried says for itself whether it was whole. Closing says nothing (no close_notify)."""

    def __init__(
        self, transport: trio.abc.Stream, context: ssl.SSLContext, *, server_side: bool, hostname: str | None = None
    ) -> None:
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=hostname)
        self._sending = (
            trio.Lock()
        )  # records must leave in the order they were made; reading can make some too (alerts, key updates)

    async def handshake(self) -> None:
        """Raises ssl.SSLError, after the alert has been sent, or trio.BrokenResourceError. Cancelled, the stream is of no use."""
        await self._through(self._handshaken, writes=True)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises trio.BrokenResourceError, whose cause is an ssl.SSLError for an alert or damage."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return await self._through(lambda: self.tls.read(max_bytes or 4 * RECORD), writes=False)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("TLS failed") from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Cancelled, part of it may have left, and nothing more can be sent."""
        await trio.lowlevel.checkpoint_if_cancelled()
        with memoryview(data) as view:
            sent = 0
            try:
                while sent < len(view):
                    sent += self.tls.write(view[sent : sent + RECORD * 4])
            except ssl.SSLError:  # it has failed or ended before, and reading says why
                raise trio.BrokenResourceError("TLS has ended") from None
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _handshaken(self) -> bool:
        self.tls.do_handshake()
        return True

    async def _through(self, step: Callable[[], T], *, writes: bool) -> T:
        """Do `step` as often as it takes, feeding it what it wants to read. writes: what it makes is sent at once; reading leaves it (a
        key update's answer) to the next write, so that a cancelled reader never takes half of a writer's record with it."""
        while True:
            result, failure = None, None
            try:
                result = step()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                failure = error
            if writes or failure is not None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    # Who cannot be written to may have said why, and that is still to be read. After a failure this is our alert.
                    await self._flush()
            if failure is not None:
                raise failure
            if result is not None:
                return result
            data = await self._transport.receive_some(4 * RECORD)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            async with self._sending:
                if data := self._outgoing.read():
                    await self._transport.send_all(data)
