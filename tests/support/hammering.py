"""A crowd of clients that keep their connections, over HTTP/1.1 and HTTP/2, and notice what is lost.

A GET whose connection ends before its answer is complete is *lost*: it is noted with the client's port, and asked once more on a new
connection. If that fails too, or if an answer is not the one to its request, it has *failed*. Who drives the chaos knows which ports
may have been lost: those of connections that a killed worker held.
"""

from __future__ import annotations

import random
import socket

import h2.config
import h2.connection
import h2.errors
import h2.events
import msgspec
import trio

PATIENCE_S = 15.0  # for an answer, on a machine that runs other tests
STREAMS = 3  # requests at once on a connection of HTTP/2


class Ended(Exception):
    """The connection is over before everything was answered. graceful: the gateway had said so."""

    def __init__(self, graceful=False):
        super().__init__("graceful" if graceful else "lost")
        self.graceful = graceful


class Loss(msgspec.Struct):
    """at: the loop's time."""

    at: float
    port: int
    protocol: str
    unanswered: int


class Plain:
    """HTTP/1.1: one request after the other."""

    protocol = "http/1.1"
    most = 1

    def __init__(self, sock):
        self.sock = sock
        self.port = sock.getsockname()[1]

    async def ask(self, paths, host):
        """{path: (status, body)}. Raises Ended; what was answered until then is in `answered`."""
        (path,) = paths
        self.answered = {}
        try:
            await self.sock.send(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            data = b""
            while b"\r\n\r\n" not in data:
                data += await self._more()
            head, _, body = data.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            while len(body) < int(fields[b"content-length"]):
                body += await self._more()
        except OSError:
            raise Ended from None
        self.answered = {path: (int(head[9:12]), body)}
        return self.answered, fields.get(b"connection") == b"close"

    async def _more(self):
        data = await self.sock.recv(65536)
        if not data:
            raise Ended
        return data


class Multiplexed:
    """HTTP/2 by prior knowledge: as many requests at once as are asked for."""

    protocol = "http/2"
    most = STREAMS

    def __init__(self, sock):
        self.sock = sock
        self.port = sock.getsockname()[1]
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.going = False

    async def ask(self, paths, host):
        self.answered, waiting, status, bodies = {}, {}, {}, {}
        for path in paths:
            stream = self.h2.get_next_available_stream_id()
            fields = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)]
            self.h2.send_headers(stream, fields, end_stream=True)
            waiting[stream] = path
        try:
            while waiting:
                if data := self.h2.data_to_send():
                    await self.sock.send(data)
                data = await self.sock.recv(65536)
                if not data:
                    raise Ended(self.going)
                for event in self.h2.receive_data(data):
                    self._take(event, waiting, status, bodies)
            if data := self.h2.data_to_send():
                await self.sock.send(data)
        except OSError:
            raise Ended(self.going) from None
        return self.answered, self.going

    def _take(self, event, waiting, status, bodies):
        match event:
            case h2.events.ResponseReceived():
                status[event.stream_id] = int(dict(event.headers)[":status"])
            case h2.events.DataReceived():
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                path = waiting.pop(event.stream_id, None)
                if path:
                    self.answered[path] = (status[event.stream_id], bodies.get(event.stream_id, b""))
            case h2.events.StreamReset() if event.stream_id in waiting:
                # REFUSED_STREAM says that nothing was done (RFC 9113 section 8.7): it is asked again, as after a graceful end.
                raise Ended(event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM)
            case h2.events.ConnectionTerminated():
                self.going = True


class Crowd:
    """`http1` and `http2` connections to address:port, each asking about every `pace_s`; `run` until `stop`.

    answered: requests; lost: Losses; failed: what went wrong, as text; slowest: seconds. A request whose connection was lost is asked again
    on a new one, `deaths` times at most: as often as something is killed, since a new connection may be the next one's."""

    def __init__(self, address, port, *, http1, http2=0, pace_s=0.5, host="a.test", seed=1, deaths=1):
        self.deaths = deaths
        self.address, self.port, self.host, self.pace_s = address, port, host, pace_s
        self.kinds = [Plain] * http1 + [Multiplexed] * http2
        self.answered, self.slowest = 0, 0.0
        self.lost, self.failed = [], []
        self.open = 0
        self._rng = random.Random(seed)
        self._stopping = False
        self._news = trio.Event()

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        """Ends when every client has had its last answer and has closed."""
        async with trio.open_nursery() as nursery:
            for number, kind in enumerate(self.kinds):
                nursery.start_soon(self._client, number, kind)
            task_status.started()

    def stop(self):
        self._stopping = True

    async def more(self, count, *, within=60.0):
        """Wait for so many more answers."""
        wanted = self.answered + count
        with trio.fail_after(within):
            while self.answered < wanted:
                await self._news.wait()

    async def everybody(self, *, within=60.0):
        """Wait until every client has its connection."""
        with trio.fail_after(within):
            while self.open < len(self.kinds):
                await self._news.wait()

    async def _client(self, number, kind):
        connection, turn = None, 0
        try:
            while not self._stopping:
                await trio.sleep(self._rng.uniform(0, 2 * self.pace_s))
                paths = [f"/{number}/{turn}/{index}" for index in range(kind.most)]
                turn += 1
                connection = await self._ask(connection, kind, paths)
        finally:
            self._close(connection)

    async def _ask(self, connection, kind, paths):
        """The connection to go on with, or None."""
        began = trio.current_time()
        for attempt in range(2 + self.deaths):
            try:
                with trio.fail_after(PATIENCE_S):
                    connection = connection or await self._connect(kind)
                    answers, last = await connection.ask(paths, self.host)
            except (Ended, trio.TooSlowError, OSError) as error:
                answered = getattr(connection, "answered", {})
                self._check(answered)
                paths = [path for path in paths if path not in answered]
                graceful = isinstance(error, Ended) and error.graceful
                if connection is not None and isinstance(error, Ended) and not graceful:
                    self.lost.append(Loss(trio.current_time(), connection.port, kind.protocol, len(paths)))
                again = isinstance(error, Ended) and (graceful or attempt < self.deaths)
                if not again or attempt == 1 + self.deaths:
                    self.failed.append(f"{kind.protocol} {paths}, attempt {attempt + 1}: {error!r}")
                connection = self._close(connection)
                if not again:
                    return None
                continue
            self._check(answers)
            self.slowest = max(self.slowest, trio.current_time() - began)
            return self._close(connection) if last else connection
        return None

    def _check(self, answers):
        for path, (status, body) in answers.items():
            if status != 200 or f'"path": "{path}"'.encode() not in body:
                self.failed.append(f"{path} was answered {status} {body[:200]!r}")
        self.answered += len(answers)
        self._tell()

    def _tell(self):
        news, self._news = self._news, trio.Event()
        news.set()

    async def _connect(self, kind):
        sock = trio.socket.socket()
        try:
            await sock.connect((self.address, self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        self.open += 1
        return kind(sock)

    def _close(self, connection):
        if connection is not None:
            connection.sock.close()
            self.open -= 1
