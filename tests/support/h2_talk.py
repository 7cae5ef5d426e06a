"""HTTP/2 by the `h2` library on trio streams, for tests of whole engines: a client that asks, and a workload that answers."""

import contextlib
import socket

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

from gateway.native.http2_server import PREFACE

__all__ = ["PREFACE", "Client", "Http2Workload", "Talk"]


class Talk:
    """One stream as the client saw it. interim: heads before the last."""

    def __init__(self):
        self.head = None
        self.interim = []
        self.body = b""
        self.trailers = None
        self.reset = None
        self.ended = trio.Event()
        self.begun = trio.Event()

    @property
    def status(self):
        return int(self.head[b":status"])


class Client:
    """A connection. `async with Client.to(port) as client`; requests may overlap. consume: return flow-control credit at once."""

    def __init__(self, stream, *, consume=True, settings=None):
        self.stream = stream
        self.consume = consume
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        if settings:
            self.connection.update_settings(settings)
        self.talks = {}
        self.writing = trio.Lock()
        self.goaway = None
        self.closed = trio.Event()
        self.changed = trio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port, *, stream=None, **options):
        stream = stream or await trio.open_tcp_stream("127.0.0.1", port)
        async with stream, trio.open_nursery() as nursery:
            client = cls(stream, **options)
            client.connection.initiate_connection()
            await client.flush()
            nursery.start_soon(client._read)
            yield client
            nursery.cancel_scope.cancel()

    async def flush(self):
        async with self.writing:
            data = self.connection.data_to_send()
            if data:
                await self.stream.send_all(data)

    async def start(self, *, method="GET", path="/", authority="a.test", headers=(), end=True, scheme="http", pseudo=()):
        """Send a head; the Talk, to be filled as answers come."""
        sid = self.connection.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
        if method == "CONNECT":
            fields = [fields[0], *([] if not pseudo else fields[1:3]), fields[3]]
        fields += list(pseudo)
        self.connection.send_headers(sid, [*fields, *headers], end_stream=end)
        talk = self.talks[sid] = Talk()
        talk.sid = sid
        await self.flush()
        return talk

    async def send(self, talk, data=b"", *, end=False, trailers=None):
        """A piece of the body, as windows allow; nothing more once the stream is over."""
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            await self._send(talk, data, end, trailers)

    async def _send(self, talk, data, end, trailers):
        while data:
            room = min(self.connection.local_flow_control_window(talk.sid), self.connection.max_outbound_frame_size)
            if room <= 0:
                if self.changed.is_set():  # else others wait for it too
                    self.changed = trio.Event()
                await self.changed.wait()
                continue
            piece, data = data[:room], data[room:]
            self.connection.send_data(talk.sid, piece)
            await self.flush()
        if trailers is not None:
            self.connection.send_headers(talk.sid, trailers, end_stream=True)
        elif end:
            self.connection.end_stream(talk.sid)
        await self.flush()

    async def ask(self, body=b"", **request):
        """A whole exchange."""
        talk = await self.start(end=not body, **request)
        if body:
            await self.send(talk, body, end=True)
        await talk.ended.wait()
        return talk

    async def reset(self, talk, code=8):
        self.connection.reset_stream(talk.sid, code)
        await self.flush()

    async def _read(self):
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self.stream.receive_some(65536):
                for event in self.connection.receive_data(data):
                    self._take(event)
                await self.flush()
        self.closed.set()
        for talk in self.talks.values():
            talk.ended.set()
            talk.begun.set()

    def _take(self, event):
        talk = self.talks.get(getattr(event, "stream_id", 0))
        if isinstance(event, h2.events.ResponseReceived):
            talk.head = dict(event.headers)
            talk.lines = list(event.headers)
            talk.begun.set()
        elif isinstance(event, h2.events.InformationalResponseReceived):
            talk.interim.append(dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            talk.body += event.data
            if self.consume and event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            talk.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamReset):
            talk.reset = event.error_code
            talk.ended.set()
            talk.begun.set()
        elif isinstance(event, h2.events.StreamEnded):
            talk.ended.set()
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event.error_code
        self.changed.set()


class Http2Workload:
    """An endpoint. answer: an async function of (connection, stream id, head as dict, body) called once the request is complete; it writes
    with `connection.send_headers` and so on. early: called with the head as soon as it is there, None = nothing. heads: what came."""

    def __init__(self, answer=None, *, early=None, settings=None, context=None):
        self.answer = answer or plain(b"ok")
        self.early = early
        self.settings = settings
        self.context = context
        self.heads = []
        self.bodies = []
        self.trailers = []
        self.resets = []
        self.connections = 0
        self.changed = trio.Event()
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(128)
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]

    async def run(self):
        await trio.serve_listeners(self._serve, [trio.SocketListener(trio.socket.from_stdlib_socket(self.sock))])

    async def _serve(self, stream):
        self.connections += 1
        if self.context is not None:
            stream = trio.SSLStream(stream, self.context, server_side=True)
        peer = Peer(self, stream)
        async with stream:
            await peer.serve()


class Peer:
    """One connection of a Http2Workload."""

    def __init__(self, workload, stream):
        self.workload, self.stream = workload, stream
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.requests = {}
        self.writing = trio.Lock()
        self.window = trio.Event()

    async def flush(self):
        async with self.writing:
            data = self.connection.data_to_send()
            if data:
                await self.stream.send_all(data)

    async def serve(self):
        if self.workload.settings:
            self.connection.local_settings = h2.settings.Settings(client=False, initial_values=self.workload.settings)
        self.connection.initiate_connection()
        await self.flush()
        async with trio.open_nursery() as nursery:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, h2.exceptions.ProtocolError):
                while data := await self.stream.receive_some(65536):
                    for event in self.connection.receive_data(data):
                        await self._take(event, nursery)
                    await self.flush()
            nursery.cancel_scope.cancel()

    async def _take(self, event, nursery):
        workload = self.workload
        if isinstance(event, h2.events.RequestReceived):
            head = dict(event.headers)
            workload.heads.append(head)
            self.requests[event.stream_id] = [head, b""]
            if workload.early is not None:
                nursery.start_soon(self._do, workload.early, event.stream_id, head)
        elif isinstance(event, h2.events.DataReceived):
            self.requests[event.stream_id][1] += event.data
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            workload.trailers.append(dict(event.headers))
        elif isinstance(event, h2.events.StreamEnded):
            head, body = self.requests[event.stream_id]
            workload.bodies.append(body)
            nursery.start_soon(self._do, workload.answer, event.stream_id, head, body)
        elif isinstance(event, h2.events.StreamReset):
            workload.resets.append((event.stream_id, event.error_code))
        elif isinstance(event, h2.events.WindowUpdated):
            self.window.set()
        workload.changed.set()
        workload.changed = trio.Event()

    async def _do(self, function, sid, *what):
        with contextlib.suppress(h2.exceptions.StreamClosedError, trio.BrokenResourceError, trio.ClosedResourceError):
            await function(self, sid, *what)

    async def send(self, sid, data, *, end=False):
        while data:
            room = min(self.connection.local_flow_control_window(sid), self.connection.max_outbound_frame_size)
            if room <= 0:
                if self.window.is_set():
                    self.window = trio.Event()
                await self.window.wait()
                continue
            piece, data = data[:room], data[room:]
            self.connection.send_data(sid, piece)
            await self.flush()
        if end:
            self.connection.end_stream(sid)
            await self.flush()


def plain(body, *, status="200", headers=(), trailers=None):
    """An answer."""

    async def answer(peer, sid, head, data):
        end = not body and trailers is None
        peer.connection.send_headers(sid, [(":status", status), *headers], end_stream=end)
        await peer.flush()
        if body:
            await peer.send(sid, body, end=trailers is None)
        if trailers is not None:
            peer.connection.send_headers(sid, trailers, end_stream=True)
            await peer.flush()

    return answer
