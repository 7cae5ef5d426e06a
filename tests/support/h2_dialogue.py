"""Dialogues over HTTP/2, in memory: our codec and the `h2` library behind one face, so that any of them can talk to any.

A side keeps a diary: what it heard, per stream, in order, bytes of a body as one piece. Two sides that are joined read each other's bytes
cut anywhere; bodies that do not fit the windows wait in the side and go on by themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from gateway.native.codec.events import END, RequestHead, ResponseHead, Trailers
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import WRITABLE, Reset
from gateway.native.codec.http2_limits import DEFAULT, Limits2

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITISED = 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Pairs = list[tuple[bytes, bytes]]


def frame(kind: int, flags: int = 0, sid: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + sid.to_bytes(4, "big") + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


def literals(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block of literals, without state, whatever they say: names and values under 16 KB."""

    def string(value: bytes) -> bytes:
        if len(value) < 127:
            return bytes((len(value),)) + value
        rest = len(value) - 127
        return bytes((127, rest & 127 | 128, rest >> 7)) + value

    return b"".join(b"\0" + string(name) + string(value) for name, value in pairs)


GET: Pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a.test")]
POST: Pairs = [(b":method", b"POST"), *GET[1:]]


def head(sid: int, pairs: Pairs, *, end: bool = True, flags: int = END_HEADERS, prefix: bytes = b"") -> bytes:
    return frame(HEADERS, flags | end, sid, prefix + literals(pairs))


def frames_of(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of each frame; a preface before them is passed over."""
    data = data.removeprefix(PREFACE)
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def server(limits: Limits2 = DEFAULT) -> Http2Codec:
    """A server that has been greeted, with nothing pending."""
    codec = Http2Codec(server=True, limits=limits)
    codec.receive(PREFACE + settings())
    codec.pending()
    return codec


def client(limits: Limits2 = DEFAULT) -> Http2Codec:
    codec = Http2Codec(server=False, limits=limits)
    codec.receive(settings())
    codec.pending()
    return codec


class Diary(dict[int, list[tuple[Any, ...]]]):
    """[stream] → what was heard of it."""

    def note(self, sid: int, *what: Any) -> None:
        page = self.setdefault(sid, [])
        if what[0] == "body" and page and page[-1][0] == "body":
            page[-1] = ("body", page[-1][1] + what[1])
        else:
            page.append(what)


def _pairs_of(lines: list[bytes]) -> Pairs:
    return [(line.partition(b": ")[0], line.partition(b": ")[2]) for line in lines]


class _Side:
    """Keeps what cannot be sent yet: [stream] → pieces, and what ends them (None = not yet, [] = END, pairs = trailers)."""

    def __init__(self) -> None:
        self.heard = Diary()
        self.backlog: dict[int, tuple[list[bytes], list[Pairs]]] = {}

    def body(self, sid: int, data: bytes) -> None:
        self.backlog.setdefault(sid, ([], []))[0].append(data)
        self.push(sid)

    def finish(self, sid: int, trailers: Pairs) -> None:
        self.backlog.setdefault(sid, ([], []))[1].append(trailers)
        self.push(sid)

    def push(self, sid: int) -> None:
        raise AssertionError("each side has its own")


class Ours(_Side):
    """Our codec."""

    def __init__(self, *, client: bool, window: int = 65_536) -> None:
        super().__init__()
        self.codec = Http2Codec(server=not client, limits=Limits2(stream_window=window))
        self.stuck: set[int] = set()

    def request(self, pairs: Pairs, *, end: bool) -> int:
        named = dict(pairs[:4])
        lines = [b"%b %b HTTP/1.1" % (named[b":method"], named[b":path"]), b"Host: " + named[b":authority"]]
        lines += [b"%b: %b" % pair for pair in pairs[4:]]
        return self.codec.send_request(b"\r\n".join(lines), scheme=named[b":scheme"], end=end)

    def respond(self, sid: int, status: int, pairs: Pairs, *, end: bool) -> None:
        self.codec.send_head(sid, status, [b"%b: %b" % pair for pair in pairs], end=end)

    def push(self, sid: int) -> None:
        pieces, ends = self.backlog[sid]
        while pieces and sid not in self.stuck:
            if not self.codec.send_data(sid, pieces.pop(0)):
                self.stuck.add(sid)
        if ends and not pieces:
            del self.backlog[sid]
            if ends[0]:
                self.codec.send_trailers(sid, [b"%b: %b" % pair for pair in ends[0]])
            else:
                self.codec.send_data(sid, b"", end=True)

    def reset(self, sid: int, code: int) -> None:
        self.backlog.pop(sid, None)
        self.codec.reset(sid, code)

    def receive(self, data: bytes) -> None:
        note = self.heard.note
        for sid, event in self.codec.receive(data):
            if isinstance(event, RequestHead):
                pairs = [(b":method", event.method), (b":path", event.target), *_pairs_of(event.lines)]
                note(sid, "head", sorted(pairs))
                assert event.block.split(b"\r\n")[1:] == event.lines
                if event.end:
                    note(sid, "end")
            elif isinstance(event, ResponseHead):
                note(sid, "interim" if event.interim else "head", event.status, sorted(_pairs_of(event.lines)))
                if event.end and not event.interim:
                    note(sid, "end")
            elif isinstance(event, bytes):
                note(sid, "body", event)
                self.codec.consumed(sid, len(event))
            elif isinstance(event, Trailers):
                note(sid, "trailers", sorted(_pairs_of(event.lines)))
            elif event is END:
                note(sid, "end")
            elif isinstance(event, Reset):
                note(sid, "reset", event.code)
                self.backlog.pop(sid, None)
            elif event is WRITABLE:
                self.stuck.discard(sid)
                if sid in self.backlog:
                    self.push(sid)

    def pending(self) -> bytes:
        return self.codec.pending()


class Theirs(_Side):
    """The `h2` library."""

    def __init__(self, *, client: bool, window: int = 65_535) -> None:
        super().__init__()
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding=None))
        if window != 65_535:
            mine = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            self.connection.local_settings = h2.settings.Settings(client=client, initial_values=mine)
        self.connection.initiate_connection()

    def request(self, pairs: Pairs, *, end: bool) -> int:
        sid = self.connection.get_next_available_stream_id()
        self.connection.send_headers(sid, pairs, end_stream=end)
        return sid

    def respond(self, sid: int, status: int, pairs: Pairs, *, end: bool) -> None:
        self.connection.send_headers(sid, [(b":status", b"%d" % status), *pairs], end_stream=end)

    def push(self, sid: int) -> None:
        pieces, ends = self.backlog[sid]
        connection = self.connection
        while pieces:
            piece = pieces[0]
            room = min(connection.local_flow_control_window(sid), connection.max_outbound_frame_size)
            if room <= 0 and piece:
                return
            connection.send_data(sid, piece[:room], pad_length=3 if room > len(piece) + 8 else None)
            pieces[0] = piece[room:]
            if not pieces[0]:
                del pieces[0]
        if ends:
            del self.backlog[sid]
            if ends[0]:
                connection.send_headers(sid, ends[0], end_stream=True)
            else:
                connection.end_stream(sid)

    def reset(self, sid: int, code: int) -> None:
        self.backlog.pop(sid, None)
        with contextlib.suppress(h2.exceptions.StreamClosedError):  # it had ended by then
            self.connection.reset_stream(sid, code)

    def receive(self, data: bytes) -> None:
        note = self.heard.note
        for event in self.connection.receive_data(data):
            sid = getattr(event, "stream_id", 0) or 0
            if isinstance(event, h2.events.RequestReceived):
                renamed = {b":authority": b"host"}
                note(sid, "head", sorted((renamed.get(key, key), value) for key, value in event.headers if key != b":scheme"))
            elif isinstance(event, h2.events.ResponseReceived | h2.events.InformationalResponseReceived):
                kind = "head" if isinstance(event, h2.events.ResponseReceived) else "interim"
                named = sorted(event.headers)
                note(sid, kind, int(dict(named)[b":status"]), [pair for pair in named if pair[0] != b":status"])
            elif isinstance(event, h2.events.DataReceived):
                if event.data:
                    note(sid, "body", event.data)
                self.connection.acknowledge_received_data(event.flow_controlled_length, sid)
            elif isinstance(event, h2.events.TrailersReceived):
                note(sid, "trailers", sorted(event.headers))
            elif isinstance(event, h2.events.StreamEnded):
                note(sid, "end")
            elif isinstance(event, h2.events.StreamReset):
                note(sid, "reset", event.error_code)
                self.backlog.pop(sid, None)
        for sid in list(self.backlog):  # windows may have opened
            self.push(sid)

    def change(self, window: int, table: int) -> None:
        """New settings. The window only grows: the library takes an empty DATA frame for too much when its window is below zero."""
        window = max(window, self.connection.local_settings.initial_window_size)
        codes = h2.settings.SettingCodes
        self.connection.update_settings({codes.INITIAL_WINDOW_SIZE: window, codes.HEADER_TABLE_SIZE: table})

    def pending(self) -> bytes:
        return self.connection.data_to_send()


Side = Ours | Theirs


def join(one: Side, other: Side, cuts: Iterable[int] = (1 << 30,)) -> tuple[bytes, bytes]:
    """Carry bytes until neither has any; each read gets as many as the next of `cuts` says. Returns what each said."""
    said = b"", b""
    sizes = list(cuts)
    turn = 0
    while True:
        first, second = one.pending(), other.pending()
        if not first and not second:
            return said
        said = said[0] + first, said[1] + second
        for data, reader in ((first, other), (second, one)):
            while data:
                size = sizes[turn % len(sizes)]
                turn += 1
                reader.receive(data[:size])
                data = data[size:]
