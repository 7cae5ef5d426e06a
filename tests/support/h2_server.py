"""A server for conformance tools: the HTTP/2 codec on a trio socket, every request answered 200 with a small body.

It is no gateway: it shows what the codec does by itself. `serve_codec` runs until it is cancelled and says its port.
"""

from __future__ import annotations

import trio

from gateway.native.codec.events import END, RequestHead, Trailers
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import ConnectionFault, Reset, TooLarge

BODY = b"0123456789" * 5
_LINES = [b"content-type: text/plain", b"content-length: %d" % len(BODY)]


class Answering:
    """One connection's requests: each is answered when it is complete."""

    def __init__(self) -> None:
        self.codec = Http2Codec(server=True)

    def feed(self, data: bytes) -> bool:
        """False: the connection is over, once what is pending has been sent."""
        codec = self.codec
        try:
            events = codec.receive(data)
        except ConnectionFault:
            return False
        for sid, event in events:
            if isinstance(event, RequestHead):
                if event.end:
                    self._answer(sid)
            elif event is END:
                self._answer(sid)
            elif isinstance(event, bytes):
                codec.consumed(sid, len(event))
            elif isinstance(event, TooLarge):
                codec.send_head(sid, 431, [b"content-length: 0"], end=True)
            else:
                assert not sid or isinstance(event, Trailers | Reset) or codec.body_held(sid) == 0
        return True

    def _answer(self, sid: int) -> None:
        self.codec.send_head(sid, 200, _LINES, end=False)
        self.codec.send_data(sid, BODY, end=True)


async def _connection(stream: trio.SocketStream) -> None:
    answering = Answering()
    alive = True
    try:
        while True:
            out = answering.codec.pending()
            if out:
                await stream.send_all(out)
            if not alive:
                await stream.send_eof()
                while await stream.receive_some(65536):  # so that the last bytes are not lost to a reset
                    pass
                return
            data = await stream.receive_some(65536)
            if not data:
                return
            alive = answering.feed(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def serve_codec(task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve on a free port of 127.0.0.1, which `task_status` is told."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(_connection, listeners, handler_nursery=nursery)
