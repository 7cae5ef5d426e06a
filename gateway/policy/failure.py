"""How one attempt at an endpoint can fail before it has answered: the word that outlier detection, silence and retries share.

Pure: no I/O, no clock.
"""

from __future__ import annotations

import enum


class Failure(enum.Enum):
    """Why an attempt ended without an answer. The first four were never sent: no byte of the request left this gateway, or the
    other side said that it took none of it (REFUSED_STREAM), so repeating them is always safe."""

    CONNECT = "connect-failure"  # refused, unreachable, TLS failed
    CONNECT_TIMEOUT = "connect-timeout"
    REFUSED_STREAM = "refused-stream"  # HTTP/2 REFUSED_STREAM, or above GOAWAY's last stream
    RESET_UNSENT = "reset-before-request"  # the connection ended before a byte of the request was written
    RESET = "reset"  # ended after that, before the first byte of an answer
    PROTOCOL = "protocol-error"  # what came is not HTTP
    TIMEOUT = "timeout"  # the try's or the route's timeout ran out
    SILENCE = "silence"  # taken away from an endpoint that answers nothing (DESIGN section 6)

    @property
    def never_sent(self) -> bool:
        return self in _NEVER_SENT


_NEVER_SENT = frozenset({Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.REFUSED_STREAM, Failure.RESET_UNSENT})
