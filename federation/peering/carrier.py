"""One HTTP/2 stream with messages on it, over the `h2` library: the dialling side's in the request, the other's in the response.

Sans-I/O: bytes in and events out, messages in and bytes out. h2's types and exceptions stay in this file. HTTP/2 gives what a bare
stream of messages has not: PING, which is answered by the library over there even while its session computes, and a window, so that
what is sent and not read waits at the sender, in one bounded place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import msgspec

from federation.peering.wire import Decoder, Message, Received, WireError, encode

PATH = "/fedgate.peering/session"
WINDOW = 1 << 20  # bytes; one message of the longest kind fits, so none needs two round trips for want of a window
MAX_WAITING = 32 << 20  # bytes to send: a whole Reset of 20,000 services (some 10 MB), and room; beyond that nobody reads

# h2 gives the events of a whole read after it has taken in all of it: when a goodbye came in the same read, it no longer lets us answer
# what stood before it, which is still worth hearing
_too_late = contextlib.suppress(h2.exceptions.ProtocolError)


class Opened(msgspec.Struct, frozen=True):
    """The other side has opened its direction."""


class Heard(msgspec.Struct, frozen=True):
    message: Received


class Pong(msgspec.Struct, frozen=True):
    payload: bytes


class Ended(msgspec.Struct, frozen=True):
    """Nothing more will come. reason: in words for people."""

    reason: str


Event = Opened | Heard | Pong | Ended


class Carrier:
    """One end. `client`: the side that dialled. Never raises for what the other side does: that is an Ended."""

    def __init__(self, *, client: bool, authority: str = "") -> None:
        self._client = client
        config = h2.config.H2Configuration(client_side=client, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = h2.settings.Settings(
            client=client,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 4096,  # ours has six short fields
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW)
        self._stream: int | None = None
        self._decoder = Decoder()
        self._waiting = bytearray()
        self.ended = False
        if client:
            self._stream = self._h2.get_next_available_stream_id()
            head = [(":method", "POST"), (":scheme", "https"), (":authority", authority), (":path", PATH)]
            self._h2.send_headers(self._stream, [*head, ("content-type", "application/vnd.fedgate.peering")])

    def receive(self, data: bytes) -> list[Event]:
        """What these bytes say; b"" = the connection was closed."""
        if self.ended:
            return []
        if not data:
            return [self._end("the peer closed the connection")]
        found: list[Event] = []
        try:
            for event in self._h2.receive_data(data):
                found += self._translate(event)
                if self.ended:
                    break
            self._flush()
        except h2.exceptions.ProtocolError as error:
            found.append(self._end(f"the peer broke HTTP/2: {error or type(error).__name__}"))
        except WireError as error:
            found.append(self._end(f"the peer sent {error}"))
        return found

    def send(self, message: Message) -> None:
        """Put a message behind those that wait. Raises WireError when more waits than any reader could be slow for."""
        self._waiting += encode(message)
        if len(self._waiting) > MAX_WAITING:
            raise WireError(f"{len(self._waiting)} bytes wait to be sent; the peer does not read")
        self._flush()

    def ping(self, payload: bytes) -> None:
        if not self.ended:
            self._h2.ping(payload)

    def pending(self) -> bytes:
        """Bytes to write now; each byte is given once."""
        return self._h2.data_to_send() or b""

    def close(self) -> None:
        """Say good-bye (GOAWAY); what `pending` gives then is the last."""
        if not self.ended:
            self.ended = True
            self._h2.close_connection()

    def _translate(self, event: h2.events.Event) -> Iterator[Event]:
        match event:
            case h2.events.RequestReceived() | h2.events.ResponseReceived():
                yield self._opened(event)
            case h2.events.DataReceived():
                if event.flow_controlled_length:
                    with _too_late:
                        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                for message in self._decoder.receive(event.data):
                    yield Heard(message)
            case h2.events.PingAckReceived():
                yield Pong(event.ping_data)
            case h2.events.StreamEnded():
                cut = " in the middle of a message" if self._decoder.partial else ""
                yield self._end(f"the peer ended the session{cut}")
            case h2.events.StreamReset():
                yield self._end("the peer reset the session")
            case h2.events.ConnectionTerminated():
                yield self._end("the peer closed the session")
            case _:
                pass

    def _opened(self, event: h2.events.RequestReceived | h2.events.ResponseReceived) -> Event:
        headers = {str(name): str(value) for name, value in event.headers or ()}
        if self._client:
            if headers.get(":status") != "200":
                return self._end(
                    f"the peer answered status {headers.get(':status')} instead of a session; is it a fedgate gateway?"
                )
            return Opened()
        stream = event.stream_id
        if headers.get(":method") != "POST" or headers.get(":path") != PATH:
            with _too_late:
                self._h2.send_headers(stream, [(":status", "404")], end_stream=True)
            return self._end(f"the peer asked for {headers.get(':method')} {headers.get(':path')}, here is only POST {PATH}")
        self._stream = stream
        with _too_late:
            self._h2.send_headers(stream, [(":status", "200"), ("content-type", "application/vnd.fedgate.peering")])
        return Opened()

    def _flush(self) -> None:
        if self._stream is None or self.ended:
            return
        while self._waiting:
            room = min(self._h2.local_flow_control_window(self._stream), self._h2.max_outbound_frame_size, len(self._waiting))
            if room <= 0:
                return
            self._h2.send_data(self._stream, bytes(self._waiting[:room]))
            del self._waiting[:room]

    def _end(self, reason: str) -> Ended:
        self.ended = True
        return Ended(reason)

    def __repr__(self) -> str:
        return f"<Carrier {'dialled' if self._client else 'accepted'} waiting={len(self._waiting)}{' ended' if self.ended else ''}>"
