"""Clients that send exact bytes or frames and say what came back, framing included: HTTP/1 by hand, HTTP/2 over the h2 library.

`ask_one` and `ask_two` return an Outcome: the answers in their order, and whether the connection was still of use afterwards, which
they find out by asking once more on it rather than by waiting.
"""

from __future__ import annotations

import contextlib
import dataclasses

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
import hyperframe.frame
import trio

PATIENCE_S = 4.0
"""Longest wait for bytes of an answer. A row's own delays are tenths of seconds."""


@dataclasses.dataclass
class Answer:
    """framing: "length", "chunked", "close" or "" (no body) in HTTP/1; "h2". broken: what ended it before its end, "" if whole;
    "hung": nothing did in PATIENCE_S."""

    status: int = 0
    version: str = ""
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    framing: str = ""
    interim: list[int] = dataclasses.field(default_factory=list)
    broken: str = ""

    def values(self, name):
        return [value for key, value in self.headers if key == name]


@dataclasses.dataclass
class Outcome:
    """closed: the connection took no further request. tunnel: what came after a 101 or 2xx of CONNECT."""

    answers: list[Answer]
    closed: bool = False
    tunnel: bytes = b""
    took: float = 0.0


class Ended(Exception):
    """The connection ended."""


class One:
    """Reads answers of HTTP/1 from a stream."""

    def __init__(self, stream, on_interim=None):
        self.stream = stream
        self.buffer = b""
        self.on_interim = on_interim

    async def more(self):
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            raise Ended("reset") from None
        if not data:
            raise Ended("end")
        self.buffer += data

    async def until(self, end):
        while end not in self.buffer:
            await self.more()
        found, _, self.buffer = self.buffer.partition(end)
        return found

    async def exactly(self, size, answer):
        while size:
            if not self.buffer:
                await self.more()
            piece, self.buffer = self.buffer[:size], self.buffer[size:]
            size -= len(piece)
            answer.body += piece

    async def answer(self, method):
        """One answer; raises Ended when the connection ended before its first byte."""
        answer = Answer()
        while True:
            first, *fields = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            answer.version, status, *_ = first.split(" ", 2)
            answer.status = int(status)
            answer.headers = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
            if answer.status >= 200 or answer.status == 101:
                break
            answer.interim.append(answer.status)
            if self.on_interim:
                await self.on_interim()
        try:
            await self.body(answer, method)
        except Ended as ended:
            if answer.framing != "close" or str(ended) == "reset":
                answer.broken = str(ended)
        return answer

    async def body(self, answer, method):
        if method == "HEAD" or answer.status in (101, 204, 304) or (method == "CONNECT" and answer.status < 300):
            return
        if answer.values("transfer-encoding"):
            answer.framing = "chunked"
            while size := int((await self.until(b"\r\n")).split(b";")[0], 16):
                await self.exactly(size, answer)
                await self.until(b"\r\n")
            while line := await self.until(b"\r\n"):
                name, _, value = line.decode("latin-1").partition(":")
                answer.trailers.append((name.lower(), value.strip()))
        elif lengths := answer.values("content-length"):
            answer.framing = "length"
            await self.exactly(int(lengths[0]), answer)
        else:
            answer.framing = "close"
            while True:
                answer.body += self.buffer
                self.buffer = b""
                await self.more()


@contextlib.asynccontextmanager
async def connected(address, port, context=None, name="", alpn=()):
    """A stream, over TLS if there is a context."""
    stream = await trio.open_tcp_stream(address, port)
    try:
        if context is not None:
            if alpn:
                context.set_alpn_protocols(list(alpn))
            stream = trio.SSLStream(stream, context, server_hostname=name or None, https_compatible=True)
            await stream.do_handshake()
        yield stream
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


async def ask_one(stream, pieces, methods, *, probe=b"", tunnel=b"", half_close=False):
    """Send the pieces, one when an answer or a 1xx to the one before has come, and read an answer for each method.

    probe: a request that is sent when all is answered, to see whether the connection still serves. tunnel: bytes to send after an
    answer that switches protocols; their echo is read back. half_close: end our side when everything is sent."""
    left = list(pieces)

    async def go_on():
        if left:
            await send(stream, left.pop(0))
        if half_close and not left:
            await stream.send_eof()

    reader, outcome = One(stream, go_on), Outcome([])
    began = trio.current_time()
    with trio.move_on_after(PATIENCE_S):
        try:
            await go_on()
            for method in methods:
                if outcome.answers:
                    await go_on()
                outcome.answers.append(await reader.answer(method))
        except Ended:
            outcome.closed = True
        outcome.took = trio.current_time() - began
        if not outcome.closed and tunnel and outcome.answers[-1].status < 300:
            with contextlib.suppress(Ended):
                await send(stream, tunnel)
                while len(reader.buffer) < len(tunnel):
                    await reader.more()
            outcome.tunnel = reader.buffer
        elif probe and not outcome.closed:
            outcome.closed = not await answered(stream, reader, probe)
    return outcome


async def answered(stream, reader, probe):
    with contextlib.suppress(Ended, ValueError):
        await send(stream, probe)
        return (await reader.answer("GET")).status == 200
    return False


async def send(stream, data):
    """A server that has closed already is found out by reading."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(data)


# ------------------------------------------------------------------------------------------------------------- HTTP/2


class Two:
    """A client's connection: `request` any number of streams, then `run` until each has ended."""

    def __init__(self, stream):
        self.stream = stream
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )  # fmt: skip
        self.connection = h2.connection.H2Connection(config)
        self.connection.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            },
        )
        self.answers = {}
        self.open = set()
        self.goaway = None
        self.waiting = {}  # stream → body still to be sent, trailers

    async def start(self):
        self.connection.initiate_connection()
        await self.flush()

    async def flush(self):
        await send(self.stream, self.connection.data_to_send())

    async def request(self, fields, body=b"", trailers=(), end=True):
        """Send a request's head; the rest follows as flow control permits. Returns its number."""
        number = self.connection.get_next_available_stream_id()
        done = end and not body and not trailers
        self.connection.send_headers(number, fields, end_stream=done)
        self.answers[number] = Answer(framing="h2", version="h2")
        self.open.add(number)
        if not done:
            self.waiting[number] = body, trailers, end
            self.upload()
        await self.flush()
        return number

    def upload(self):
        for number, (body, trailers, end) in list(self.waiting.items()):
            while body:
                room = min(self.connection.local_flow_control_window(number), self.connection.max_outbound_frame_size)
                if not room:
                    break
                piece, body = body[:room], body[room:]
                self.connection.send_data(number, piece, end_stream=end and not body and not trailers)
            self.waiting[number] = body, trailers, end
            if not body:
                del self.waiting[number]
                if trailers:
                    self.connection.send_headers(number, trailers, end_stream=True)

    async def run(self):
        """Until every stream has ended. Raises Ended."""
        while self.open:
            await self.step()

    async def step(self):
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            raise Ended("reset") from None
        if not data:
            raise Ended("end")
        for event in self.connection.receive_data(data):
            self.handle(event)
        await self.flush()

    def handle(self, event):
        number = getattr(event, "stream_id", None)
        answer = self.answers.get(number)
        match event:
            case h2.events.ResponseReceived():
                fields = list(event.headers)
                answer.status = int(dict(fields)[":status"])
                answer.headers = fields[1:]
            case h2.events.InformationalResponseReceived():
                answer.interim.append(int(dict(event.headers)[":status"]))
            case h2.events.DataReceived():
                answer.body += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, number)
            case h2.events.TrailersReceived():
                answer.trailers = list(event.headers)
            case h2.events.StreamEnded():
                self.open.discard(number)
            case h2.events.StreamReset():
                if number in self.open:  # else it has ended, and the rest of our body is not wanted (RFC 9113 section 8.1)
                    answer.broken = f"reset {int(event.error_code)}"
                self.open.discard(number)
                self.waiting.pop(number, None)
            case h2.events.ConnectionTerminated():
                self.goaway = int(event.error_code)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                with contextlib.suppress(h2.exceptions.ProtocolError):
                    self.upload()


async def ask_two(stream, requests, *, probe=()):
    """Send these requests (fields, body, trailers) at once and wait for all; then once more, to see whether the connection serves."""
    two, outcome = Two(stream), Outcome([])
    began = trio.current_time()
    await two.start()
    with trio.move_on_after(PATIENCE_S):
        try:
            for fields, body, trailers in requests:
                await two.request(fields, body, trailers)
            await two.run()
            outcome.took = trio.current_time() - began
            if probe:
                number = await two.request(probe)
                await two.run()
                outcome.closed = two.answers.pop(number).status != 200
        except (Ended, h2.exceptions.ProtocolError):
            outcome.closed = True
    outcome.answers = [two.answers[number] for number in sorted(two.answers)][: len(requests)]
    for number in two.open & two.answers.keys():
        two.answers[number].broken = "end" if outcome.closed else "hung"
    outcome.closed |= two.goaway is not None
    return outcome


PING = b"are you?"


async def ask_frames(stream, data, numbers):
    """Send the preface, empty SETTINGS and these bytes; wait until every stream of `numbers` has ended, or the connection. An answer
    here has a status, or `broken` says how its stream ended. closed: GOAWAY with an error, or the end."""
    outcome = Outcome([Answer(framing="h2", version="h2") for _ in numbers])
    known = dict(zip(numbers, outcome.answers, strict=True))
    await send(stream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hyperframe.frame.SettingsFrame(0).serialize() + data)
    reader, decoder, left = One(stream), hpack.Decoder(), set(numbers)
    pinged = False
    with trio.move_on_after(PATIENCE_S):
        try:
            while True:
                if not left and not pinged:
                    pinged = True
                    await send(stream, hyperframe.frame.PingFrame(0, opaque_data=PING).serialize())
                frame = await next_frame(reader)
                if isinstance(frame, hyperframe.frame.PingFrame) and frame.opaque_data == PING:
                    return outcome
                if isinstance(frame, hyperframe.frame.GoAwayFrame) and frame.error_code:
                    outcome.closed = True
                    break
                take(frame, known, left, decoder)
        except Ended:
            outcome.closed = True
    for number in left:
        known[number].broken = "end" if outcome.closed else "hung"
    return outcome


async def next_frame(reader):
    while len(reader.buffer) < 9:
        await reader.more()
    frame, length = hyperframe.frame.Frame.parse_frame_header(memoryview(reader.buffer[:9]))
    while len(reader.buffer) < 9 + length:
        await reader.more()
    frame.parse_body(memoryview(reader.buffer[9 : 9 + length]))
    reader.buffer = reader.buffer[9 + length :]
    return frame


def take(frame, known, left, decoder):
    answer = known.get(frame.stream_id)
    if isinstance(frame, hyperframe.frame.HeadersFrame):
        fields = decoder.decode(bytes(frame.data))
        if answer is not None and not answer.status:
            answer.status = int(dict(fields).get(":status", 0))
            answer.headers = [field for field in fields if field[0] != ":status"]
        elif answer is not None:
            answer.trailers = list(fields)
    if isinstance(frame, hyperframe.frame.DataFrame) and answer is not None:
        answer.body += bytes(frame.data)
    if isinstance(frame, hyperframe.frame.RstStreamFrame) and answer is not None and frame.stream_id in left:
        answer.broken = f"reset {frame.error_code}"
        left.discard(frame.stream_id)
    if "END_STREAM" in frame.flags:
        left.discard(frame.stream_id)
