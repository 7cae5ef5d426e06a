"""How processes of one gateway talk: whole messages over socket pairs, msgpack inside.

Two carriers. `Packets` (SOCK_SEQPACKET) keeps message borders and carries descriptors beside a message: the supervisor's
conversations, and connections handed to control. `Frames` (a stream, u32 length before each message) has no size limit worth
naming: Snapshots. Both ends run the same program, so there is no version handshake; what does not decode is a bug and ends the
conversation, and the supervisor hands out a fresh pair.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
import trio

T = TypeVar("T")

_LENGTH = struct.Struct("!I")

# A seqpacket message must fit the socket's send buffer (net.core.wmem_max is 208 KiB unless tuned): stay well under it.
PACKET_LIMIT = 128 * 1024
# One worker's listening sockets travel in one message; the kernel takes 253 (SCM_MAX_FD). So many workers are the most there can be.
DESCRIPTOR_LIMIT = 250
# 100,000 endpoints are about 30 MB of msgpack; a length beyond this is a broken stream, not a Snapshot.
FRAME_LIMIT = 256 * 1024 * 1024
_CHUNK = 64 * 1024

_encoder = msgspec.msgpack.Encoder()


class Closed(Exception):
    """The other side has gone, or said something that is not in the conversation."""


def encode(message: msgspec.Struct) -> bytes:
    """One message as it travels, without its length: encode once, send to many."""
    return _encoder.encode(message)


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected SOCK_SEQPACKET sockets, non-blocking."""
    return _pair(socket.SOCK_SEQPACKET)


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected stream sockets, non-blocking."""
    return _pair(socket.SOCK_STREAM)


def _pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    left.setblocking(False)
    right.setblocking(False)
    return left, right


class Descriptors:
    """Received descriptors, owned until taken: what is not taken by the end of the `with` is closed."""

    def __init__(self, numbers: Sequence[int] = ()) -> None:
        self._numbers = list(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def take(self) -> int:
        """The next descriptor, now the caller's. Raises Closed when there is none: the message promised one."""
        if not self._numbers:
            raise Closed("a message came without the descriptor that belongs to it")
        return self._numbers.pop(0)

    def socket(self) -> socket.socket:
        """The next descriptor as a non-blocking socket."""
        sock = socket.socket(fileno=self.take())
        sock.setblocking(False)
        return sock

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(self, *exc: object) -> None:
        for number in self._numbers:
            os.close(number)
        self._numbers.clear()


def send_packet(sock: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """One packet, never blocking. Raises BlockingIOError when the other side is behind, OSError when it is gone."""
    if len(data) > PACKET_LIMIT:
        raise ValueError(f"a packet of {len(data)} bytes is over the limit of {PACKET_LIMIT}")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive_packet(sock: socket.socket) -> tuple[bytes, Descriptors]:
    """One packet, never blocking; b"" at the end. Raises BlockingIOError when there is none, Closed when it did not fit."""
    room = socket.CMSG_SPACE(DESCRIPTOR_LIMIT * array.array("i").itemsize)
    data, ancillary, flags, _ = sock.recvmsg(PACKET_LIMIT, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
    descriptors = Descriptors(numbers)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        with descriptors:
            raise Closed("a packet was cut: too long, or this process is out of descriptors (raise ulimit -n)")
    return data, descriptors


class Packets(Generic[T]):
    """Messages with descriptors over a SOCK_SEQPACKET socket, which it owns. One sender and one receiver at a time."""

    def __init__(self, sock: socket.socket, incoming: Any) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(incoming)

    async def send(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Send one message; the descriptors stay the caller's. Raises Closed. Cancelled: nothing was sent."""
        data = encode(message)
        while True:
            try:
                return send_packet(self._sock, data, descriptors)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)
            except OSError as exc:
                raise Closed(f"cannot send {type(message).__name__}: {exc.strerror}") from exc

    async def receive(self) -> tuple[T, Descriptors]:
        """The next message and the descriptors that came with it. Raises Closed at the end. Cancelled: nothing was lost."""
        while True:
            try:
                data, descriptors = receive_packet(self._sock)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._sock)
                continue
            except OSError as exc:
                raise Closed(f"cannot receive: {exc.strerror}") from exc
            return self._decoded(data, descriptors), descriptors

    def _decoded(self, data: bytes, descriptors: Descriptors) -> T:
        if not data:
            raise Closed("the other process has closed the conversation")
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError as exc:
            with descriptors:
                raise Closed(f"a message that does not belong here: {exc}") from exc

    def close(self) -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            trio.lowlevel.notify_closing(self._sock)
        self._sock.close()


class Frames(Generic[T]):
    """Messages over a byte stream, which it owns. One sender and one receiver at a time."""

    def __init__(self, stream: trio.abc.Stream, incoming: Any, *, limit: int = FRAME_LIMIT) -> None:
        self._stream = stream
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(incoming)
        self._limit = limit
        self._buffer = bytearray()

    @classmethod
    def over(cls, sock: socket.socket, incoming: Any) -> Frames[T]:
        """Frames over one end of `stream_pair`, which it then owns."""
        return cls(trio.SocketStream(trio.socket.from_stdlib_socket(sock)), incoming)

    async def send(self, message: msgspec.Struct) -> None:
        """Raises Closed. Cancelled: the stream is broken, close it."""
        await self.send_encoded(encode(message))

    async def send_encoded(self, data: bytes) -> None:
        """`send` of what `encode` returned."""
        try:
            await self._stream.send_all(_LENGTH.pack(len(data)) + data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise Closed("the other process has gone") from exc

    async def receive(self) -> T:
        """Raises Closed at the end. Cancelled: nothing was lost."""
        while True:
            if (data := self._whole()) is not None:
                return self._decoded(data)
            try:
                chunk = await self._stream.receive_some(_CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                raise Closed("the other process has gone") from exc
            if not chunk:
                raise Closed("the other process has closed the conversation")
            self._buffer += chunk

    def _whole(self) -> bytes | None:
        """The first frame, if it is all there."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self._limit:
            raise Closed(f"a frame of {length} bytes is over the limit of {self._limit}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        data = bytes(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        return data

    def _decoded(self, data: bytes) -> T:
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError as exc:
            raise Closed(f"a message that does not belong here: {exc}") from exc

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)
