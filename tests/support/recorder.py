"""Backends that write down exactly what reaches them, and answer by a script: HTTP/1 and HTTP/2 (prior knowledge) on every port.

    recorder = Recorder("v1", "v2")                     # one port a name, at an address of its own, served by a thread
    with recorder:
        recorder.play(Reply(503), Reply(200, body=b"x"))  # the answers to the next requests, whoever of the names gets them;
        …                                                 # the last one is repeated, and forgets what was seen before
        recorder.seen                                     # every request since: a list of Seen

It reads bytes by itself, so what a gateway sent is judged by nobody's parser but this one, which accepts only the plain forms.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import struct
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import trio

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclasses.dataclass(frozen=True)
class Reply:
    """One answer of a backend. body None: the name of who answers.

    chunked: framed so (HTTP/1). delay: seconds before anything. cut: where the connection (stream, in HTTP/2) is reset instead of
    going on: "request" (nothing answered), "head", "body" (half of it); "close" ends in the middle of nothing with a FIN.
    raw: these bytes and nothing else (HTTP/1). early: answers before it has read the body. hold: reads the request and never answers.
    length: what content-length says, if not the truth; None = truth. lengthless: ended by the connection's end (HTTP/1).
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    chunked: bool = False
    trailers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    cut: str = ""
    code: int = 2  # of RST_STREAM, where cut says "request" or "head" or "body"
    raw: bytes = b""
    interim: tuple[bytes, ...] = ()
    early: bool = False
    hold: bool = False
    close: bool = False
    lengthless: bool = False
    only: str = ""  # this answer is for requests that reach that name; others get 200


@dataclasses.dataclass
class Seen:
    """A request as it came. framing: "length", "chunked" or "" of HTTP/1's; "h2"."""

    name: str
    connection: int
    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()
    framing: str = ""
    whole: bool = False
    tunnel: bytes = b""

    def values(self, name):
        return [value for key, value in self.headers if key == name]


class Recorder:
    def __init__(self, *names, address):
        self.address = address
        self.seen = []
        self.connections = 0
        self._replies = (Reply(),)
        self._sockets = {name: socket.create_server((address, 0), backlog=256) for name in names}
        self.ports = {name: sock.getsockname()[1] for name, sock in self._sockets.items()}
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="recorder")
        self._up = threading.Event()

    def __enter__(self):
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(self, *exc):
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()

    def play(self, *replies):
        self.seen = []
        self._replies = replies or (Reply(),)

    def endpoint(self, name, port="http", **more):
        """As a ServiceEntry writes it."""
        return {"address": self.address, "ports": {port: self.ports[name]}, **more}

    async def _main(self):
        self._token, self._scope = trio.lowlevel.current_trio_token(), trio.CancelScope()
        with self._scope:
            async with trio.open_nursery() as nursery:
                for name, sock in self._sockets.items():
                    sock.setblocking(False)
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                    nursery.start_soon(self._serve, name, listener)
                self._up.set()

    async def _serve(self, name, listener):
        await trio.serve_listeners(lambda stream: self._connection(name, stream), [listener])

    async def _connection(self, name, stream):
        self.connections += 1
        number = self.connections
        try:
            data = await stream.receive_some(65536)
            while len(data) < len(PREFACE) and PREFACE.startswith(data) and data:
                data += await stream.receive_some(65536)
            served = _Two if data.startswith(PREFACE) else _One
            await served(self, name, number, stream).run(bytes(data))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h2.exceptions.ProtocolError, EOFError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    def next_reply(self, seen):
        """Note the request and take its answer."""
        replies, number = self._replies, len(self.seen)
        self.seen.append(seen)
        reply = replies[min(number, len(replies) - 1)]
        return Reply() if reply.only and reply.only != seen.name else reply


def reset(stream):
    """End a connection with RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


class _One:
    """A connection of HTTP/1."""

    def __init__(self, recorder, name, number, stream):
        self.recorder, self.name, self.number, self.stream = recorder, name, number, stream
        self.buffer = b""

    async def more(self):
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError
        self.buffer += data

    async def until(self, end):
        while end not in self.buffer:
            await self.more()
        found, _, self.buffer = self.buffer.partition(end)
        return found

    async def exactly(self, size):
        while len(self.buffer) < size:
            await self.more()
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    async def run(self, data):
        self.buffer = data
        while await self.one():
            pass

    async def one(self):
        while not self.buffer:
            await self.more()
        line, *fields = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
        seen = Seen(self.name, self.number, line, headers)
        reply = self.recorder.next_reply(seen)
        if not reply.early:
            if "100-continue" in ",".join(seen.values("expect")).lower() and not reply.interim:
                await self.stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            await self.read_body(seen)
            seen.whole = True
        if reply.hold:
            while True:
                await self.more()
        if reply.delay:
            await trio.sleep(reply.delay)
        keep = await self.answer(seen, reply)
        if keep and reply.early:
            await self.read_body(seen)
            seen.whole = True
        return keep and "close" not in seen.values("connection")

    async def read_body(self, seen):
        if "chunked" in ",".join(seen.values("transfer-encoding")):
            seen.framing = "chunked"
            while size := int((await self.until(b"\r\n")).split(b";")[0], 16):
                seen.body += await self.exactly(size)
                await self.exactly(2)
            while line := await self.until(b"\r\n"):
                name, _, value = line.decode("latin-1").partition(":")
                seen.trailers += ((name.lower(), value.strip()),)
        elif lengths := seen.values("content-length"):
            seen.framing = "length"
            while len(seen.body) < int(lengths[0]):
                if not self.buffer:
                    await self.more()
                seen.body += await self.exactly(min(len(self.buffer), int(lengths[0]) - len(seen.body)))

    async def answer(self, seen, reply):
        """True if the connection can go on."""
        if reply.cut == "request":
            reset(self.stream)
            return False
        if reply.cut == "close":
            return False
        for line in reply.interim:
            await self.stream.send_all(line)
        if reply.raw:
            await self.stream.send_all(reply.raw)
            return not reply.close
        head, body = self.framed(seen, reply)
        if reply.cut in ("head", "body"):
            await self.stream.send_all(head + (body[: len(body) // 2] if reply.cut == "body" else b""))
            await trio.sleep(0.05)  # so that what was sent is read before the reset takes it away
            reset(self.stream)
            return False
        await self.stream.send_all(head + body)
        if reply.status == 101:
            await self.tunnel(seen)
        return not (reply.close or reply.lengthless)

    def framed(self, seen, reply):
        body = self.name.encode() if reply.body is None else reply.body
        lines = [f"HTTP/1.1 {reply.status} Whatever", *(f"{name}: {value}" for name, value in reply.headers)]
        bodiless = seen.line.startswith("HEAD ") or reply.status < 200 or reply.status in (204, 304)
        if reply.close:
            lines.append("connection: close")
        if reply.chunked:
            lines.append("transfer-encoding: chunked")
            half = len(body) // 2
            pieces = [piece for piece in (body[:half], body[half:]) if piece]
            trailers = "".join(f"{name}: {value}\r\n" for name, value in reply.trailers)
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers.encode() + b"\r\n"
        elif not (reply.lengthless or reply.status < 200 or reply.status in (204, 304)):
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), b"" if bodiless else body

    async def tunnel(self, seen):
        """Echo, whatever it is."""
        while True:
            seen.tunnel += self.buffer
            await self.stream.send_all(self.buffer)
            self.buffer = b""
            await self.more()


class _Two:
    """A connection of HTTP/2."""

    def __init__(self, recorder, name, number, stream):
        self.recorder, self.name, self.number, self.stream = recorder, name, number, stream
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="latin-1", validate_inbound_headers=False, normalize_inbound_headers=False,
            validate_outbound_headers=False, normalize_outbound_headers=False,
        )  # fmt: skip
        self.connection = h2.connection.H2Connection(config)
        self.open = {}
        self.credit = trio.Event()

    async def run(self, data):
        self.connection.initiate_connection()
        await self.flush()
        async with trio.open_nursery() as nursery:
            with contextlib.suppress(h2.exceptions.ProtocolError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                while data:
                    for event in self.connection.receive_data(data):
                        self.handle(event, nursery)
                    await self.flush()
                    data = bytes(await self.stream.receive_some(65536))
            nursery.cancel_scope.cancel()

    async def flush(self):
        data = self.connection.data_to_send()
        if data:
            async with _lock(self):
                await self.stream.send_all(data)

    def handle(self, event, nursery):
        if isinstance(event, h2.events.RequestReceived):
            fields = list(event.headers)
            known = dict(fields)
            line = f"{known.get(':method')} {known.get(':path')} {known.get(':scheme')} {known.get(':authority')}"
            seen = Seen(self.name, self.number, line, [one for one in fields if not one[0].startswith(":")], framing="h2")
            self.open[event.stream_id] = seen, self.recorder.next_reply(seen)
            if "100-continue" in known.get("expect", "").lower() and not event.stream_ended:
                self.connection.send_headers(event.stream_id, [(":status", "100")])
            if self.open[event.stream_id][1].early:
                nursery.start_soon(self.answer, event.stream_id)
        elif isinstance(event, h2.events.DataReceived):
            self.open[event.stream_id][0].body += event.data
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.open[event.stream_id][0].trailers += tuple(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            seen, reply = self.open[event.stream_id]
            seen.whole = True
            if not reply.early:
                nursery.start_soon(self.answer, event.stream_id)
        elif isinstance(event, h2.events.WindowUpdated):
            credit, self.credit = self.credit, trio.Event()
            credit.set()

    async def answer(self, number):
        seen, reply = self.open[number]
        if reply.delay:
            await trio.sleep(reply.delay)
        if reply.hold:
            return
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self.send(number, seen, reply)  # unless the gateway has given the stream up

    async def send(self, number, seen, reply):
        connection = self.connection
        if reply.cut in ("request", "close"):
            connection.reset_stream(number, reply.code)
            await self.flush()
            return
        for line in reply.interim:
            first, *rest = line.decode().split("\r\n")
            connection.send_headers(number, [(":status", first.split()[1]), *(tuple(one.split(": ", 1)) for one in rest if one)])
        body = self.name.encode() if reply.body is None else reply.body
        fields = [(":status", str(reply.status)), *reply.headers]
        if seen.line.startswith("HEAD ") or reply.status in (204, 304):
            body = b""
        elif not reply.chunked:
            fields.append(("content-length", str(len(body))))
        connection.send_headers(number, fields, end_stream=not body and not reply.trailers and not reply.cut)
        await self.flush()
        if reply.cut in ("head", "body"):
            if reply.cut == "body":
                connection.send_data(number, body[: len(body) // 2])
            connection.reset_stream(number, reply.code)
            await self.flush()
            return
        while body:
            room = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size)
            if not room:
                await self.credit.wait()
                continue
            piece, body = body[:room], body[room:]
            connection.send_data(number, piece, end_stream=not body and not reply.trailers)
            await self.flush()
        if reply.trailers:
            connection.send_headers(number, reply.trailers, end_stream=True)
            await self.flush()


def _lock(connection):
    if not hasattr(connection, "lock"):
        connection.lock = trio.Lock()
    return connection.lock
