"""HTTP/2 towards endpoints: connections that many exchanges share, and one request on them as an Upstream.

Theory of operation. A Host's pool holds its multiplexed connections in `pool.shared` (`connecting` makes them); an exchange takes a
stream of the first that has room.

What became of a request when a connection ends: streams above GOAWAY's last one, and those reset with REFUSED_STREAM, were not
processed and may be sent again whatever their method (RFC 9113 section 8.7).
"""

from __future__ import annotations

from typing import Any

from gateway.errors import UpstreamProtocolError
from gateway.native.codec.events import END, ResponseHead, Trailers
from gateway.native.codec.fields import Kind
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import Goaway, Pong, Reset, SettingsArrived
from gateway.native.http2 import Connection, Unflushed
from gateway.native.http2_stream import CANCEL, REFUSED_STREAM, Http2Stream
from gateway.native.pool import AttemptFailed, Pool, Upstream
from gateway.native.reactor import NEVER, WRITE, Strand, suspend
from gateway.policy.failure import Failure
from gateway.snapshot import Backend

_LENGTH = int(Kind.CONTENT_LENGTH)
_BODILESS = frozenset((204, 304))
_PROTOCOL_ERRORS = frozenset((0x1, 0x3, 0x5, 0x6, 0x9))  # RFC 9113 section 7: what only a broken peer gives as a reason
_PINGED = b"fedgate!"  # our PING's eight bytes


class Http2Upstream(Http2Stream):
    """A request on a multiplexed connection: what `pool.Upstream` is for HTTP/1."""

    __slots__ = ("expect", "interim", "log_json", "log_text", "pool", "requests", "server_name", "to_http2", "trailers")

    connection: Http2Client

    def __init__(self, connection: Http2Client, sid: int) -> None:
        super().__init__(connection, sid)
        self.pool = connection.pool
        self.requests = connection.requests
        self.interim = 0
        self.expect = b""
        self.to_http2 = False  # the client needs no length, and may be given trailers whatever the length
        self.trailers: list[bytes] = []  # of an answer that came whole
        self.server_name = connection.server_name
        self.log_text, self.log_json = connection.log_text, connection.log_json

    @property
    def stream(self) -> Http2Upstream:
        return self

    @property
    def codec(self) -> Http2Upstream:
        return self

    def next_event(self, data: bytes = b"") -> Any:
        """As ClientCodec.next_event: a small answer that is here whole comes as a head with its body."""
        event = Http2Stream.next_event(self)
        if type(event) is ResponseHead and not event.interim:
            self._complete(event)
        return event

    def _complete(self, head: ResponseHead) -> None:
        """Give the head the form that HTTP/1 needs: a body that is here, a length that is known."""
        inbox = self.inbox
        if not head.end and self.over and inbox and inbox[-1] is END:
            if len(inbox) == 2 and type(inbox[0]) is bytes:
                head.body = inbox[0]
            elif self.to_http2 and len(inbox) == 3 and type(inbox[0]) is bytes and type(inbox[1]) is Trailers:
                head.body, self.trailers = inbox[0], inbox[1].lines
            if len(inbox) == 1 or head.body:
                inbox.clear()
                head.end = True
        if not head.end:
            if head.length < 0:
                head.length = -2
            return
        if self.to_http2:
            return
        said = any(field[0] == _LENGTH for field in head.specials)
        if not said and head.status not in _BODILESS and self.expect != b"HEAD":
            line = b"content-length: %d" % len(head.body)
            head.lines.append(line)
            head.raw = b"%b\r\n%b" % (head.raw, line) if head.raw else line
        head.length = len(head.body)

    def release(self, backend: Backend) -> None:
        """The answer is complete, and so should be the request."""
        if self.over and self.sent_end and not self.inbox and not self.held:
            connection = self.connection
            if connection.streams.pop(self.sid, None) is not None and (not connection.streams or self.pool.line):
                connection.gone()
        else:
            self.reset(CANCEL)

    def close(self) -> None:
        """The attempt is over. Any number of times."""
        self.reset(CANCEL)

    def alive(self) -> bool:
        return self.error is None


class Http2Client(Connection):
    """A connection to an endpoint. Made from an Upstream that was just dialled, which stays the pool's record of it."""

    __slots__ = (
        "_pinged",
        "_ungreeted",
        "armed",
        "backend",
        "born",
        "deadline",
        "going",
        "heard",
        "log_json",
        "log_text",
        "lowest",
        "peer",
        "pool",
        "record",
        "requests",
        "server_name",
    )

    multiplexed = True

    def __init__(self, record: Upstream, backend: Backend, unflushed: Unflushed, *, peer: bool) -> None:
        """peer: the endpoint is another gateway."""
        super().__init__(record.stream, Http2Codec(server=False), unflushed)
        self.record = record
        self.peer = peer
        self.backend = backend
        self.pool: Pool = record.pool
        self.requests = 0
        self.server_name = record.server_name
        self.log_text, self.log_json = record.log_text, record.log_json
        self.going = False  # no new streams: GOAWAY, age, too many requests
        self.born = self.heard = self.reactor.now
        self.deadline = self.armed = NEVER
        self._pinged = False
        self._ungreeted: list[Strand] = []  # who waits for its settings
        self.pool.multiplexed.add(self)
        self.stream.listen(self.readable)
        self.stream.resume()
        self.schedule()
        self._rest()

    def available(self) -> bool:
        """Whether another request may begin here."""
        if self.going or self.closed:
            return False
        backend = self.backend
        if backend.max_connection_ms and self.reactor.now - self.born >= backend.max_connection_ms / 1000:
            self.leave()
            return False
        most = self.codec.peer_max_streams
        if backend.http2 is not None and backend.http2.streams:
            most = min(most, backend.http2.streams)
        return len(self.streams) < most

    @property
    def idle(self) -> bool:
        """Whether nobody uses it, or is about to."""
        return not self.streams and not self._ungreeted

    def request(self, block: bytes, *, scheme: bytes, end: bool, protocol: bytes = b"", repeats: bool = False) -> Http2Upstream:
        """Begin a request. block: its head as HTTP/1.1. repeats: as the codec has it."""
        sid = self.codec.send_request(block, scheme=scheme, end=end, connect_protocol=protocol, repeats=repeats)
        self.requests += 1
        upstream = Http2Upstream(self, sid)
        upstream.sent_end = end
        self.streams[sid] = upstream
        limit = self.backend.max_requests_per_connection
        if limit and self.requests >= limit:
            self.leave()
        self.schedule()
        return upstream

    async def greeted(self, strand: Strand) -> None:
        """Wait until the endpoint has said what it takes: extended CONNECT may not be sent before. The strand's deadline holds.

        Raises OSError when the connection ends first, AttemptFailed when it then takes no more requests."""
        self._ungreeted.append(strand)
        try:
            while not self.codec.settled and not self.closed:
                await suspend()
        finally:
            self._ungreeted.remove(strand)
        if self.closed:
            raise ConnectionResetError("remote_close")
        if not self.available():
            self.gone()
            raise AttemptFailed(Failure.REFUSED_STREAM, "too_many_streams")

    def _greet(self) -> None:
        """Its settings are here, or it has ended."""
        for strand in list(self._ungreeted):
            strand.wake(0)

    def leave(self) -> None:
        """Begin no more here; close after the last."""
        self.going = True
        if self in self.pool.shared:
            self.pool.shared.remove(self)
        if not self.streams:
            self.reactor.soon(self.close)

    # ---------------------------------------------------------------------------------------------------------- events

    def readable(self, events: int) -> None:
        self.heard = self.reactor.now
        self._pinged = False
        super().readable(events)

    def head(self, sid: int, head: Any) -> Http2Upstream | None:
        upstream: Http2Upstream | None = self.streams.get(sid)
        if upstream is None or type(head) is not ResponseHead:
            return None
        upstream.inbox.append(head)
        if head.end and not head.interim:
            upstream.over = True
        return upstream

    def was_reset(self, stream: Http2Upstream, reset: Reset) -> None:
        self.streams.pop(stream.sid, None)
        error: Exception
        if reset.local:
            error = UpstreamProtocolError("upstream_reset_before_response_started{protocol_error}")
        elif reset.code == REFUSED_STREAM:
            error = AttemptFailed(Failure.REFUSED_STREAM, "remote_refused_stream_reset")
        elif reset.code == 0 and stream.over:
            # Complete before all of the request was read (RFC 9113 section 8.1): the answer stands.
            stream.held = False
            if stream.writer is not None:
                stream.writer(WRITE)
            self.gone()
            return
        elif reset.code in _PROTOCOL_ERRORS:
            error = UpstreamProtocolError("upstream_reset_before_response_started{protocol_error}")
        else:
            error = ConnectionResetError(f"remote_reset_{reset.code}")
        stream.fail(error)
        self.gone()

    def event(self, event: Any) -> None:
        if type(event) is Goaway:
            self.leave()
            for sid in [sid for sid in self.streams if sid > event.last_stream]:
                self.streams.pop(sid).fail(AttemptFailed(Failure.REFUSED_STREAM, "remote_goaway"))
            self.gone()
        elif type(event) is Pong:
            self._pinged = False
        elif type(event) is SettingsArrived and self._ungreeted:
            self._greet()

    def gone(self) -> None:
        line, known = self.pool.line, self.pool.multiplexed
        if line and not self.going:
            # Its place goes to who can use none of these connections, after the last request on it. One goes at a time, or all would
            # with the next requests that end; but one that carries nothing need not wait for another's last.
            first = not self.streams or not any(each.going for each in known)
            if first and not line.first_shares and self.pool.opened <= len(known):
                self.leave()
            elif self.available():
                line.room()  # who waits because no more connections may be opened finds room here
        if not self.streams:
            if self.going:
                self.reactor.soon(self.close)
            else:
                self._rest()

    def lost(self, error: Exception) -> None:
        if not self.closed:
            fail = error if isinstance(error, OSError) else UpstreamProtocolError()
            self.close()
            self.fail_streams(fail)

    # ------------------------------------------------------------------------------------------------------------ time

    def _rest(self) -> None:
        """Nothing is going on: close after the idle timeout. With a keepalive, look at that often instead."""
        http2 = self.backend.http2
        seconds = self.backend.idle_timeout_ms / 1000
        if http2 is not None and http2.ping_ms:
            seconds = min(seconds or NEVER, http2.ping_ms / 1000)
        if seconds:
            self.deadline = self.reactor.now + seconds
            if self.deadline < self.armed:
                self.reactor.arm(self)

    def expired(self) -> None:
        """By the reactor, between turns."""
        if self.closed:
            return
        now, http2 = self.reactor.now, self.backend.http2
        idle = self.backend.idle_timeout_ms / 1000
        if self._pinged:
            self.lost(ConnectionResetError("keepalive_timeout"))
        elif not self.streams and idle and now - self.heard >= idle:
            self.close()
        elif http2 is not None and http2.ping_ms and now - self.heard >= http2.ping_ms / 1000:
            self._pinged = True
            self.codec.ping(_PINGED)
            self.schedule()
            self.deadline = now + (http2.ping_timeout_ms or 20_000) / 1000
        else:
            self._rest()

    def close(self) -> None:
        """Close it, whatever is going on. Any number of times."""
        if not self.closed:
            self.end()
            self.deadline = NEVER
            if self._ungreeted:
                self.reactor.soon(self._greet)
            self.farewell()
            if self in self.pool.shared:
                self.pool.shared.remove(self)
            self.pool.multiplexed.discard(self)
            self.record.close()


AnyUpstream = Upstream | Http2Upstream
"""One request on its way to an endpoint."""
