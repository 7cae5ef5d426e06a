"""What one peer may ask of an HTTP/2 connection. Each limit with its reason and where the number comes from.

There is no clock here: what is bounded is work that brings nothing (frames that carry no message) against work that does, and what the
peer makes us keep or say. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.native.codec.h1 import HEAD_LIMIT, HEADERS_LIMIT


class Limits2(msgspec.Struct, frozen=True):
    """The limits of one connection, towards its peer."""

    streams: int = 100
    """Requests at once: the least that RFC 9113 section 6.5.2 advises to allow, and what Go, h2o and HAProxy allow (nginx 128)."""

    stream_window: int = 64 * 1024
    """Bytes of one stream that are held here at most: credit comes back by `consumed` only, when whoever they are for has taken them.
    (Given back on receipt, 960 KiB of a 1 MiB body were held for a slow reader.) The protocol's own default is 65,535."""

    connection_window: int = 16 * 1024 * 1024
    """Far above all windows of `streams` together (6.4 MiB), so that a slow reader of one stream never stops another; its credit comes
    back as bytes arrive, for it is the streams' windows that bound what is held. Envoy's default was 256 MiB, and is 24 MiB since."""

    head: int = HEAD_LIMIT
    """Bytes of a head as HTTP/1 lines; the same as in HTTP/1. Announced as SETTINGS_MAX_HEADER_LIST_SIZE."""

    fields: int = HEADERS_LIMIT
    """Lines of a head, cookie crumbs counting as one line; the same as in HTTP/1."""

    continuations: int = 8
    """CONTINUATION frames of one head: 64 KiB fit into four frames of the usual size. nghttp2's number since CVE-2024-27316."""

    answers: int = 1000
    """Frames that the peer makes us say (acknowledgements, resets) and that have not been taken by `pending`: a peer that makes us talk
    and does not listen (CVE-2019-9512, 9514, 9515). Envoy's max_outbound_control_frames, nghttp2's max_outbound_ack."""

    patience: int = 1000
    """Frames that bring nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown types) before one that does: floods
    (CVE-2019-9511, 9513, 9516, 9518). Each head, each DATA with bytes and each DATA frame of ours gives some back, and so does each call
    of `receive`, so that pings on a quiet connection, years of them, cost nothing."""

    forgiven: int = 10
    """What each of those gives back. Envoy allows 10 WINDOW_UPDATEs for each DATA frame that was sent."""

    wasted: int = 500
    """Requests that were reset before they were answered, by the peer (rapid reset, CVE-2023-44487) or by us because of what it sent
    (MadeYouReset, CVE-2025-8671), less those that were answered whole. Envoy begins to judge after 500 streams, and then closes if more
    than half were reset early."""

    remembered: int = 256
    """Streams that were reset and are remembered, so that what was on its way may still come: more than twice `streams`."""


DEFAULT: Final = Limits2()
