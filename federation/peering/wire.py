"""What two gateways say to each other, as bytes: u32 big-endian length, then one msgpack map whose "type" names the message.

Sans-I/O. Growing: fields are added with defaults, and a reader passes over fields it does not know; new kinds of message come with
a higher minor version, and a reader passes over those too (it sees `Unknown`). A change that an old reader would misread raises
the major version, and the two refuse each other in `Hello`. Limits hold on reading: who is at the other end proved an identity, but
may be broken or broken into.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

from discovery.model import Protocol

MAJOR, MINOR = 1, 0
MAX_MESSAGE = 1 << 20  # DESIGN section 5: 1 MiB at most
MAX_RESET = MAX_MESSAGE - (64 << 10)  # what `resets` fills a piece up to: one service more, of the longest allowed, still fits
PREFIX = 4

Name = Annotated[str, msgspec.Meta(max_length=253)]  # RFC 1035: a DNS name; all our names are shorter or are one
Label = Annotated[str, msgspec.Meta(max_length=317)]  # Kubernetes: prefix 253, slash, name 63
Text = Annotated[str, msgspec.Meta(max_length=1024)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]  # workloads behind one name; 5,000 nodes with 110 pods each are half of it
Sequence_ = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class WireError(Exception):
    """The other side's bytes are not this protocol, or break one of its limits. The session ends."""


class LocalityCount(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """`healthy` of `total` workloads in a locality (`region/zone/subzone`), which share these labels: subsets are told by labels."""

    locality: Name = ""
    healthy: Count = 0
    total: Count = 0
    labels: Annotated[tuple[tuple[Label, Label], ...], msgspec.Meta(max_length=64)] = ()


class ExportedPort(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    number: PortNumber
    name: Name = ""
    protocol: Name = Protocol.UNKNOWN.value  # text, so that a protocol we do not know yet reads as UNKNOWN and nothing breaks

    @property
    def known(self) -> Protocol:
        try:
            return Protocol(self.protocol)
        except ValueError:
            return Protocol.UNKNOWN


class ExportedService(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a cluster offers under a name. tls: terminate (the gateway ends it) | passthrough (the workloads do). created: since when,
    RFC 3339, "" unknown: of two clusters that contradict each other the older one is followed (MCS API)."""

    hostname: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    namespace: Name = ""
    ports: Annotated[tuple[ExportedPort, ...], msgspec.Meta(max_length=256)] = ()
    localities: Annotated[tuple[LocalityCount, ...], msgspec.Meta(max_length=256)] = ()
    tls: Name = "terminate"
    labels: Annotated[tuple[tuple[Label, Label], ...], msgspec.Meta(max_length=64)] = ()
    created: Name = ""


class Hello(msgspec.Struct, frozen=True, tag="hello", omit_defaults=True):
    """First from both sides. supported: names of optional parts of the protocol; none are defined in 1.0."""

    major: Count
    minor: Count
    cluster: Name
    trust_domain: Name
    gateway: Name = ""
    locality: Name = ""
    network: Name = ""
    supported: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)] = ()


class Reset(msgspec.Struct, frozen=True, tag="reset", omit_defaults=True):
    """Everything that is offered. In pieces when it is long: the reader keeps the old until the piece without `more` has come."""

    sequence: Sequence_
    services: tuple[ExportedService, ...]
    more: bool = False


class Upsert(msgspec.Struct, frozen=True, tag="upsert"):
    """One service, whole, new or changed."""

    sequence: Sequence_
    service: ExportedService


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """A service that is no longer offered."""

    sequence: Sequence_
    hostname: Name


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """Everything up to `sequence` has been taken in."""

    sequence: Sequence_


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The last thing said: why this session ends."""

    reason: Text


class Unknown(msgspec.Struct, frozen=True):
    """A message of a kind this version does not know. Never sent."""

    kind: str


Message = Hello | Reset | Upsert | Remove | Ack | Refused
Received = Message | Unknown


class _Kind(msgspec.Struct):
    type: str


_KINDS = frozenset({"hello", "reset", "upsert", "remove", "ack", "refused"})
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_kinds = msgspec.msgpack.Decoder(_Kind)


def encode(message: Message) -> bytes:
    """The message with its length. Raises WireError when it is longer than any reader takes; `resets` cuts long ones."""
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE:
        raise WireError(f"a {type(message).__name__} of {len(body)} bytes is over the limit of {MAX_MESSAGE}")
    return len(body).to_bytes(PREFIX, "big") + body


def resets(first: int, services: Sequence[ExportedService]) -> list[Reset]:
    """A Reset in as many pieces as it takes, numbered from `first`."""
    pieces: list[list[ExportedService]] = [[]]
    size = 0
    for service in services:
        length = len(_encoder.encode(service))
        if size + length > MAX_RESET and pieces[-1]:
            pieces.append([])
            size = 0
        pieces[-1].append(service)
        size += length
    last = len(pieces) - 1
    return [Reset(first + i, tuple(piece), more=i < last) for i, piece in enumerate(pieces)]


class Decoder:
    """Bytes in, messages out. `receive` keeps what is incomplete, never more than one message's length."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Received]:
        """Every message that is complete now. Raises WireError; the decoder is of no use then."""
        self._buffer += data
        while len(self._buffer) >= PREFIX:
            length = int.from_bytes(self._buffer[:PREFIX], "big")
            if not 0 < length <= MAX_MESSAGE:
                raise WireError(f"a message of {length} bytes; 1 to {MAX_MESSAGE} are allowed")
            if len(self._buffer) < PREFIX + length:
                return
            body = bytes(self._buffer[PREFIX : PREFIX + length])
            del self._buffer[: PREFIX + length]
            yield _decode(body)

    @property
    def partial(self) -> bool:
        """True when part of a message is held: an end of the stream here is a cut."""
        return bool(self._buffer)


def _decode(body: bytes) -> Received:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            kind = _kinds.decode(body).type
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise WireError(f"not a message of this protocol: {error}") from error
        if kind in _KINDS:
            raise WireError(f"bad {kind}: {error}") from error
        return Unknown(kind[:64])
