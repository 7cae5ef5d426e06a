"""An HTTP/2 client by the `h2` library that heeds GOAWAY as RFC 9113 section 6.8 wants, where the library itself takes any for the end."""

import contextlib

import trio
from h2_talk import Client

_PING, _GOAWAY, _ACK = 6, 7, 1
ANY = 2**31 - 1
"""The last stream of a GOAWAY that only says that there will be one."""


class Leaving(Client):
    """last_streams: what each GOAWAY said. whole: streams whose answer came to its end. answers_pings: at once; else `pong` answers those
    that came. left: the server ended the connection in order, with nothing cut off."""

    def __init__(self, stream, *, answers_pings=True, **options):
        super().__init__(stream, **options)
        self.answers_pings = answers_pings
        self.last_streams = []
        self.whole = set()
        self.left = False
        self._pings = []
        self._heard = b""

    async def pong(self):
        """Answer the pings that came."""
        pings, self._pings = b"".join(self._pings), []
        if pings:
            async with self.writing:
                await self.stream.send_all(pings)

    async def told(self, count):
        """Wait until so many GOAWAYs have come."""
        while len(self.last_streams) < count:
            self.changed = trio.Event()
            await self.changed.wait()

    def is_wanted(self):
        """Whether another stream may be opened."""
        return not self.last_streams and not self.closed.is_set()

    def lost(self):
        """Talks that have no whole answer, though no GOAWAY gave them up."""
        last = min(self.last_streams, default=ANY)
        return [talk for talk in self.talks.values() if talk.sid <= last and talk.sid not in self.whole]

    def refused(self):
        """Talks that the last GOAWAY gave up."""
        return [talk for talk in self.talks.values() if talk.sid > min(self.last_streams, default=ANY)]

    async def _read(self):
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self.stream.receive_some(65536):
                for event in self.connection.receive_data(self._kept(data)):
                    self._take(event)
                if self.answers_pings:
                    await self.pong()
                await self.flush()
            self.left = True
        self.closed.set()
        self.changed.set()
        for talk in self.talks.values():
            talk.ended.set()
            talk.begun.set()

    def _take(self, event):
        super()._take(event)
        if type(event).__name__ == "StreamEnded":
            self.whole.add(event.stream_id)

    def _kept(self, data):
        """All but the frames that are looked at here."""
        self._heard += data
        kept = b""
        while len(self._heard) >= 9:
            size = 9 + int.from_bytes(self._heard[:3], "big")
            if len(self._heard) < size:
                break
            frame, self._heard = self._heard[:size], self._heard[size:]
            if frame[3] == _GOAWAY:
                self.last_streams.append(int.from_bytes(frame[9:13], "big") & ANY)
                self.changed.set()
            elif frame[3] == _PING and not frame[4] & _ACK:
                self._pings.append(frame[:4] + bytes((_ACK,)) + frame[5:])
            else:
                kept += frame
        return kept
