"""One request over HTTP/2 for a health check: of gRPC (grpc.health.v1.Health/Check), or a GET of an endpoint that speaks nothing else.

The h2 library does the protocol, as in peering: a check is one stream of one fresh connection, so speed does not matter. The two
messages of gRPC's health service have one field each and are written and read here by hand; its definition is
grpc/doc/health-checking.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import msgspec
import trio

CHECK = "/grpc.health.v1.Health/Check"
SERVING = 1
_STATES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_LARGEST = 4096  # bytes of an answer; a HealthCheckResponse has 2, and of a page only the status is wanted
_CHUNK = 16_384


class Unanswered(Exception):
    """There was no answer. The text says why."""


class Answer(msgspec.Struct, frozen=True):
    """status: of HTTP. grpc: grpc-status, "" = none said. body: its beginning."""

    status: int
    grpc: str
    body: bytes


async def request(stream: trio.abc.Stream, headers: Sequence[tuple[str, str]], body: bytes | None = None) -> Answer:
    """One request on a connection just made. Raises Unanswered, OSError, trio.BrokenResourceError. Closes nothing."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    connection.initiate_connection()
    connection.send_headers(1, list(headers), end_stream=body is None)
    if body is not None:
        connection.send_data(1, body, end_stream=True)
    await stream.send_all(connection.data_to_send())
    said: dict[str, str] = {}
    data = b""
    while True:
        try:
            received = await stream.receive_some(_CHUNK)
            events = connection.receive_data(received) if received else [None]
        except h2.exceptions.ProtocolError as error:
            raise Unanswered(f"the answer is not HTTP/2: {type(error).__name__}") from None
        for event in events:
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                said.update((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in event.headers or ())
            elif isinstance(event, h2.events.DataReceived):
                data = (data + (event.data or b""))[:_LARGEST]
                connection.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                raise Unanswered(f"the request was refused: {_code(event.error_code)}")
            ended = event is None or isinstance(event, h2.events.StreamEnded)
            if ended and said.get(":status", "").isdigit():
                return Answer(int(said[":status"]), said.get("grpc-status", ""), data)
            if ended:
                raise Unanswered("closed without an answer")
        if len(data) >= _LARGEST and said.get(":status", "").isdigit():
            return Answer(int(said[":status"]), said.get("grpc-status", ""), data)
        await stream.send_all(connection.data_to_send())


def question(service: str) -> bytes:
    """HealthCheckRequest{service}, as one message of gRPC."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def verdict(answer: Answer) -> str:
    """Why the answer to CHECK is none of a healthy endpoint; "" when it is."""
    if answer.status != 200:
        return f"status {answer.status}, expected 200"
    if answer.grpc not in ("", "0"):
        words = {"12": "UNIMPLEMENTED: no health service", "5": "NOT_FOUND: no such service"}
        return f"grpc-status {words.get(answer.grpc, answer.grpc[:8])}"
    body = answer.body
    length = int.from_bytes(body[1:5], "big") if len(body) >= 5 else -1
    if length < 0 or body[:1] != b"\0" or len(body) < 5 + length:
        return "the answer is no message of gRPC"
    message = body[5 : 5 + length]
    if not message:
        return "state UNKNOWN"  # proto3 leaves the zero out
    if len(message) != 2 or message[0] != 0x08:
        return "the answer is no HealthCheckResponse"
    state = message[1]
    return "" if state == SERVING else f"state {_STATES[state] if state < len(_STATES) else state}"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _code(code: object) -> str:
    return code.name if isinstance(code, h2.errors.ErrorCodes) else str(code)
