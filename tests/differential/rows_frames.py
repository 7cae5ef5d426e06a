"""HTTP/2 that breaks its rules, frame by frame: which streams are reset, whether the connection ends, what a workload sees.

A row's bytes follow the preface and empty SETTINGS. Compared: how each stream of `streams` ended (a status, or reset), and whether
the connection was ended with an error; not the error's code, of which RFC 9113 leaves some to taste. Where the two differ, h2spec,
which runs over our own codec, decides.
"""

from __future__ import annotations

import hpack
from differing import Row
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)

SITES = {}

PSEUDO = ((":method", "GET"), (":scheme", "http"), (":authority", "echo.test"), (":path", "/"))
POST = ((":method", "POST"), *PSEUDO[1:])


def block(fields):
    """Stateless: literals only, so that blocks can be put together in any order."""
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields], huffman=False)


def headers(number, fields=PSEUDO, *flags, data=None):
    frame = HeadersFrame(number, block(fields) if data is None else data, flags=flags if flags else ["END_HEADERS", "END_STREAM"])
    return frame.serialize()


def opened(number, fields=POST):
    return headers(number, fields, "END_HEADERS")


def raw(kind, flags, number, payload):
    """A frame that hyperframe would not make."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


def data(number, payload=b"hello", *flags):
    return DataFrame(number, payload, flags=flags or ["END_STREAM"]).serialize()


LATE = (*PSEUDO[:3], (":path", "/probe"))
"""Of a request that may still be on its way when its row is judged: `saws` passes over it, in this row and the next."""


def frames(
    name,
    written,
    *streams,
    status=200,
    reason="",
    but="status broken closed saws",
    only=("status", "broken", "closed", "saws"),
    **more,
):
    """status: Envoy's, 0 where a stream got none. saws leaves out requests that did not come whole."""
    return Row(
        name,
        protocol="frames",
        raw=written,
        streams=streams or (1,),
        status=status,
        only=only,
        differs=dict.fromkeys(but.split(), reason) if reason else {},
        **more,
    )


def bad(name, written, *streams, **more):
    """The stream gets no answer."""
    return frames(name, written, *streams, **{"status": 0} | more)


def with_field(name, value, fields=PSEUDO):
    return headers(1, (*fields, (name, value)))


def without(name, fields=PSEUDO):
    return headers(1, [field for field in fields if field[0] != name])


def first(name, value):
    """The pseudo field replaced."""
    return headers(1, [(key, value if key == name else old) for key, old in PSEUDO])


MALFORMED = "RFC 9113 section 8.1.1: what is malformed is its stream's error; Envoy ends the connection for it"
STRICTER = "RFC 9113 sections 8.2.1 and 8.3.1 call it malformed; Envoy mends it"


def malformed(name, written, *streams, **more):
    return bad(name, written, *streams, **{"reason": MALFORMED, "but": "closed"} | more)


ROWS = [
    frames("frames: a request", headers(1)),
    frames("frames: a request with a body", opened(1) + data(1)),
    frames("frames: two requests", headers(1) + headers(3), 1, 3, status=(200, 200)),
    frames(
        "frames: a head in three frames",
        HeadersFrame(1, block(PSEUDO)[:5], flags=["END_STREAM"]).serialize()
        + ContinuationFrame(1, block(PSEUDO)[5:9]).serialize()
        + ContinuationFrame(1, block(PSEUDO)[9:], flags=["END_HEADERS"]).serialize(),
    ),
    frames(
        "frames: a padded head",
        HeadersFrame(1, block(PSEUDO), pad_length=10, flags=["END_HEADERS", "END_STREAM", "PADDED"]).serialize(),
    ),
    frames("frames: padded data", opened(1) + DataFrame(1, b"hi", pad_length=20, flags=["END_STREAM", "PADDED"]).serialize()),
    frames("frames: empty data", opened(1) + DataFrame(1, b"").serialize() + data(1, b"")),
    frames("frames: an unknown frame", raw(0xEE, 0, 0, b"x" * 10) + headers(1)),
    frames("frames: an unknown frame of a stream", headers(1) + raw(0xEE, 0xFF, 1, b"x")),
    frames("frames: an unknown setting", raw(4, 0, 0, b"\x0f\xff\0\0\0\1") + headers(1)),
    frames("frames: priority", PriorityFrame(3, depends_on=1, stream_weight=5).serialize() + headers(1)),
    frames("frames: a ping", PingFrame(0, opaque_data=b"12345678").serialize() + headers(1)),
    frames("frames: a window update", WindowUpdateFrame(0, window_increment=100).serialize() + headers(1)),
    frames("frames: te: trailers", with_field("te", "trailers")),
    frames("frames: trailers", opened(1) + DataFrame(1, b"x").serialize() + headers(1, (("x-sum", "1"),))),
    # fields
    malformed("frames: a name in capitals", with_field("X-Capital", "1")),
    malformed("frames: connection", with_field("connection", "close")),
    malformed("frames: keep-alive", with_field("keep-alive", "1")),
    malformed("frames: proxy-connection", with_field("proxy-connection", "1")),
    malformed("frames: transfer-encoding", with_field("transfer-encoding", "chunked")),
    malformed("frames: upgrade", with_field("upgrade", "h2c")),
    malformed("frames: te: gzip", with_field("te", "gzip")),
    malformed("frames: an empty name", with_field("", "1")),
    malformed("frames: a name with a space", with_field("x y", "1")),
    malformed("frames: a name with a colon", with_field("x:y", "1")),
    malformed("frames: a name with NUL", with_field("x\0y", "1")),
    malformed("frames: a value with CR LF", with_field("x", "a\r\nb: c")),
    malformed("frames: a value with LF", with_field("x", "a\nb")),
    malformed("frames: a value with NUL", with_field("x", "a\0b")),
    frames("frames: a value with a space before", with_field("x", " a"), reason=STRICTER, but="status saws broken"),
    malformed("frames: an unknown pseudo field", headers(1, ((":unknown", "x"), *PSEUDO))),
    malformed("frames: a pseudo field of answers", headers(1, ((":status", "200"), *PSEUDO))),
    malformed("frames: a pseudo field after others", headers(1, (*PSEUDO[:3], ("x", "y"), PSEUDO[3]))),
    malformed("frames: a pseudo field twice", headers(1, (*PSEUDO, (":path", "/else")))),
    malformed("frames: no method", without(":method")),
    malformed("frames: no scheme", without(":scheme")),
    malformed("frames: no path", without(":path")),
    malformed("frames: no authority", without(":authority")),
    frames("frames: no authority, but Host", headers(1, (*PSEUDO[:2], PSEUDO[3], ("host", "echo.test")))),
    frames("frames: authority and another Host", with_field("host", "else.example"), reason=STRICTER, but="status saws broken"),
    malformed("frames: an empty path", first(":path", "")),
    malformed("frames: a path without a slash", first(":path", "x")),
    malformed("frames: a path with a space", first(":path", "/a b")),
    frames(
        "frames: a path with a fragment",
        first(":path", "/a#b"),
        status=400,
        reason="it is malformed as any other",
        but="status broken",
    ),
    malformed("frames: a method with a space", first(":method", "GET /x")),
    malformed("frames: a method with CR LF", first(":method", "GET\r\nx: y")),
    malformed("frames: an authority with CR LF", first(":authority", "echo.test\r\nx: y")),
    malformed("frames: an authority with a user", first(":authority", "user@echo.test")),
    malformed("frames: a path with CR LF", first(":path", "/ HTTP/1.1\r\nx: y")),
    frames("frames: scheme https on a plain connection", first(":scheme", "https")),
    frames(
        "frames: asterisk of OPTIONS",
        headers(1, ((":method", "OPTIONS"), *PSEUDO[1:3], (":path", "*"))),
        status=404,
    ),
    malformed("frames: trailers with a pseudo field", opened(1) + DataFrame(1, b"x").serialize() + headers(1, ((":path", "/x"),))),
    malformed(
        "frames: trailers without an end", opened(1) + DataFrame(1, b"x").serialize() + headers(1, (("x", "y"),), "END_HEADERS")
    ),
    # lengths
    bad("frames: less than the length", opened(1, (*POST, ("content-length", "9"))) + data(1)),
    bad("frames: more than the length", opened(1, (*POST, ("content-length", "2"))) + data(1)),
    malformed("frames: a length without data", headers(1, (*POST, ("content-length", "2")))),
    malformed("frames: two lengths", opened(1, (*POST, ("content-length", "5"), ("content-length", "6"))) + data(1)),
    malformed("frames: a length of words", opened(1, (*POST, ("content-length", "five"))) + data(1)),
    # streams
    bad("frames: an even stream", headers(2), 2),
    bad("frames: stream zero", raw(1, 5, 0, block(PSEUDO))),
    frames(
        "frames: a stream that goes back",
        headers(5, LATE) + headers(3),
        5,
        only=("closed",),
        status=None,
        reason="RFC 9113 section 5.1.1: an error of the connection",
        but="closed",
    ),
    bad("frames: data of an idle stream", data(1)),
    bad("frames: data of stream zero", raw(0, 1, 0, b"x")),
    frames(
        "frames: data after the end",
        headers(1, LATE) + data(1),
        only=("closed",),
        status=None,
        reason="RFC 9113 section 5.1: an error of the stream, which was half closed",
        but="closed",
    ),
    frames(
        "frames: a head after the end",
        headers(1, LATE) + headers(1),
        only=("closed",),
        status=None,
        reason="RFC 9113 section 5.1: an error of the stream, which was half closed",
        but="closed",
    ),
    bad("frames: a reset of an idle stream", RstStreamFrame(1, error_code=8).serialize() + headers(3), 3),
    bad("frames: a reset of stream zero", raw(3, 0, 0, b"\0\0\0\0") + headers(1)),
    bad("frames: a reset that is too short", headers(1, PSEUDO, "END_HEADERS") + raw(3, 0, 1, b"\0\0\0")),
    bad("frames: a window update of an idle stream", WindowUpdateFrame(1, window_increment=1).serialize() + headers(3), 3),
    bad("frames: a window update of nothing", raw(8, 0, 0, b"\0\0\0\0") + headers(1)),
    bad("frames: a window update that is too short", raw(8, 0, 0, b"\0\0\1") + headers(1)),
    bad("frames: a window too large", WindowUpdateFrame(0, window_increment=2**31 - 1).serialize() + headers(1)),
    bad(
        "frames: a promise from a client", PushPromiseFrame(1, 2, block(PSEUDO), flags=["END_HEADERS"]).serialize() + headers(3), 3
    ),
    malformed(
        "frames: a stream that depends on itself",
        HeadersFrame(1, block(PSEUDO), depends_on=1, flags=["END_HEADERS", "END_STREAM", "PRIORITY"]).serialize(),
        only=("closed",),
    ),
    # frames
    bad("frames: a continuation of nothing", ContinuationFrame(1, b"x", flags=["END_HEADERS"]).serialize()),
    bad("frames: data inside a head", headers(1, PSEUDO, "END_STREAM") + DataFrame(1, b"x").serialize()),
    bad("frames: another stream inside a head", headers(1, PSEUDO, "END_STREAM") + headers(3), 1),
    bad("frames: settings of a stream", raw(4, 0, 1, b"") + headers(1)),
    bad("frames: settings of an odd length", raw(4, 0, 0, b"\0\1\0\0\0") + headers(1)),
    bad("frames: an acknowledgement with settings", raw(4, 1, 0, b"\0\1\0\0\0\0") + headers(1)),
    bad("frames: a window of settings too large", raw(4, 0, 0, b"\0\4\xff\xff\xff\xff") + headers(1)),
    bad("frames: a frame size of settings too small", raw(4, 0, 0, b"\0\5\0\0\0\1") + headers(1)),
    bad("frames: push of settings that is no switch", raw(4, 0, 0, b"\0\2\0\0\0\2") + headers(1)),
    bad("frames: a ping of a stream", raw(6, 0, 1, b"12345678") + headers(1)),
    bad("frames: a ping that is too short", raw(6, 0, 0, b"1234567") + headers(1)),
    bad("frames: a goaway of a stream", raw(7, 0, 1, b"\0" * 8) + headers(1)),
    bad("frames: a priority that is too short", raw(2, 0, 1, b"\0\0\0\0") + headers(1), only=("closed",)),
    bad("frames: a frame over the limit", opened(1) + raw(0, 1, 1, b"x" * 16_385)),
    bad("frames: more padding than data", opened(1) + raw(0, 9, 1, b"\x0fhi")),
    bad("frames: more padding than head", raw(1, 0xD, 1, b"\xff" + block(PSEUDO))),
    # compression
    bad("frames: a block cut short", headers(1, data=block(PSEUDO)[:-3])),
    bad("frames: an index of nothing", headers(1, data=b"\xff\xff\x7f")),
    bad("frames: index zero", headers(1, data=b"\x80")),
    bad("frames: a table size beyond the settings", headers(1, data=b"\x3f\xe1\xff\xff\x07" + block(PSEUDO))),
    bad("frames: a string with bad Huffman", headers(1, data=block(PSEUDO) + b"\x10\x01x\x82\xff\xff")),
    bad(
        "frames: a head over the limit",
        HeadersFrame(1, block((*PSEUDO, *((f"x-{n}", "y" * 3_000) for n in range(5)))), flags=["END_STREAM"]).serialize()
        + b"".join(ContinuationFrame(1, block((("x", "y" * 16_000),))).serialize() for _ in range(6))
        + ContinuationFrame(1, b"", flags=["END_HEADERS"]).serialize(),
        only=("saws",),
    ),
    bad("frames: another protocol's bytes", b"GET / HTTP/1.1\r\nhost: echo.test\r\n\r\n" * 3),
]
