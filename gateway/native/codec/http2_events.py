"""What an HTTP/2 codec says beside what every codec says (see events): things of a stream or of the connection that HTTP/1 has no word for.

Pure.
"""

from __future__ import annotations

import enum
from typing import Any, Final


class ErrorCode(enum.IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer broke the rules of the connection, or abuses it: GOAWAY is among what is pending; send that and close.

    code: of the GOAWAY. detail: one word. events: what was understood before the fault, in the same call.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.events: list[tuple[int, Any]] = []

    def __str__(self) -> str:
        return f"{self.detail} ({ErrorCode(self.code).name})"


class LocalFault(Exception):
    """This codec was asked for what cannot be: a mistake of ours."""


class Reset:
    """The stream is gone. local: we reset it, because of what the peer sent; `detail` says why. Otherwise the peer did, or its GOAWAY
    says that the stream was not looked at (REFUSED_STREAM): what was asked may then be asked elsewhere."""

    __slots__ = ("code", "detail", "local")

    def __init__(self, code: int, *, local: bool, detail: str = "") -> None:
        self.code = code
        self.local = local
        self.detail = detail

    def __repr__(self) -> str:
        return f"<Reset {self.code} {'local ' + self.detail if self.local else 'by peer'}>"


class TooLarge:
    """A request whose head is over our limits: may be answered (431). The rest of the request is thrown away."""

    __slots__ = ("detail",)

    def __init__(self, detail: str) -> None:
        self.detail = detail

    def __repr__(self) -> str:
        return f"<TooLarge {self.detail}>"


class Goaway:
    """The peer takes no new streams. last_stream: the last of ours that it looks at."""

    __slots__ = ("code", "last_stream")

    def __init__(self, last_stream: int, code: int) -> None:
        self.last_stream = last_stream
        self.code = code

    def __repr__(self) -> str:
        return f"<Goaway last={self.last_stream} code={self.code}>"


class Pong:
    """The answer to a ping of ours."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"<Pong {self.data!r}>"


class SettingsArrived:
    """The peer's settings are in force: `peer_max_streams` and its like may have changed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<SettingsArrived>"


class Writable(enum.Enum):
    """What was held of a stream's body has gone: more may be sent."""

    WRITABLE = "writable"

    def __repr__(self) -> str:
        return "WRITABLE"


WRITABLE: Final = Writable.WRITABLE
