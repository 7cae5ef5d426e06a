"""What becomes of a request besides being sent on: redirect, direct response, rewrite, retries (virtual_service.proto)."""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.checks import duration_fault, fault, port_fault, range_fault, regex_fault, warning
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Milliseconds, Whole, choice_reader
from gateway.rewrite import Substitution

LARGEST_BODY = 1_000_000  # Istio's limit for a direct response, kept in every gateway's memory
LARGE_BODY = 100_000

RETRY_CONDITIONS = frozenset(
    {  # Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on, as Istio's validation lists them
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)


class RedirectPort(enum.Enum):
    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


class HTTPRedirect(Message):
    """uri replaces the whole path, prefixRewrite the matched prefix. redirectCode 0 = 301."""

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    scheme: str = ""
    port: Whole | None = None
    derive_port: Annotated[RedirectPort, BeforeValidator(choice_reader(RedirectPort))] | None = None
    redirect_code: Whole = 0

    def faults(self) -> Iterator[Fault]:
        if self.uri and self.prefix_rewrite:
            yield Fault((), "uri and prefixRewrite exclude each other; keep one")
        ports = self.port is not None or self.derive_port is not None
        if not (self.uri or self.prefix_rewrite or self.authority or self.scheme or ports):
            yield Fault((), "the redirect changes nothing; write uri, prefixRewrite, authority, scheme or port")
        if self.redirect_code:
            yield from fault(("redirectCode",), range_fault(self.redirect_code, 300, 399))
        if self.scheme not in ("", "http", "https"):
            yield Fault(("scheme",), "scheme must be http or https")
        if self.port is not None:
            yield from fault(("port",), port_fault(self.port))
            if self.derive_port is not None:
                yield Fault(("derivePort",), "port and derivePort exclude each other; keep one")


class HTTPBody(Message):
    """One of the two. bytes: base64."""

    string: str | None = None
    bytes: str | None = None

    @property
    def content(self) -> memoryview:
        """What is sent. Raises ValueError when `bytes` is not base64 (faults says so first)."""
        if self.string is not None:
            return memoryview(self.string.encode())
        return memoryview(base64.b64decode(self.bytes or "", validate=True))

    def faults(self) -> Iterator[Fault]:
        if self.string is not None and self.bytes is not None:
            yield Fault((), "string and bytes are both written; keep one")
        try:
            size = len(self.content)
        except (ValueError, binascii.Error):
            yield Fault(("bytes",), "is not base64; encode it, or write `string`")
            return
        if size > LARGEST_BODY:
            yield Fault((), f"the body has {size} bytes, {LARGEST_BODY} at most; serve it from a backend")
        elif size > LARGE_BODY:
            yield from warning((), f"the body has {size} bytes and stays in every gateway's memory; serve it from a backend")


class HTTPDirectResponse(Message):
    status: Whole
    body: HTTPBody | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("status",), range_fault(self.status, 200, 599))


class RegexRewrite(Message):
    """match: RE2; each match in the path is replaced by rewrite, where `\\1` to `\\9` are its groups, `\\0` all of it."""

    match: str = ""
    rewrite: str = ""

    def faults(self) -> Iterator[Fault]:
        for name, written in (("match", self.match), ("rewrite", self.rewrite)):
            if not written:
                yield Fault((name,), "both match and rewrite are needed; write what is replaced, and by what")
        message = regex_fault(self.match) if self.match else None
        yield from fault(("match",), message)
        if self.match and message is None:
            try:
                Substitution(self.match, self.rewrite)
            except ValueError as error:
                yield Fault(("rewrite",), str(error))


class HTTPRewrite(Message):
    """uri replaces the matched prefix (prefix match, or none) or the whole path."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None

    def faults(self) -> Iterator[Fault]:
        if not (self.uri or self.authority or self.uri_regex_rewrite):
            yield Fault((), "the rewrite changes nothing; write uri, uriRegexRewrite or authority")
        if self.uri and self.uri_regex_rewrite:
            yield Fault((), "uri and uriRegexRewrite exclude each other; keep one")


class HTTPRetry(Message):
    """attempts 0, or not written where retries are: never retry, as in Istio. Durations None: not written."""

    attempts: Whole = 0
    per_try_timeout: Milliseconds | None = None
    retry_on: str = ""
    retry_remote_localities: Flag = False
    retry_ignore_previous_hosts: Flag | None = None
    backoff: Milliseconds | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("attempts",), range_fault(self.attempts, 0))
        asks = self.per_try_timeout is not None or self.retry_on or self.retry_remote_localities
        if self.attempts == 0 and asks:
            yield Fault(
                ("attempts",),
                "a retry policy with attempts 0 (or none written) never retries; write attempts, or only `attempts: 0`",
            )
        yield from fault(("perTryTimeout",), duration_fault(self.per_try_timeout))
        yield from fault(("backoff",), duration_fault(self.backoff))
        for condition in self.conditions:
            if condition not in RETRY_CONDITIONS and not (condition.isdigit() and 100 <= int(condition[:9]) <= 599):
                yield Fault(("retryOn",), f"`{condition[:80]}` is no condition; write for example connect-failure,5xx,503")

    @property
    def conditions(self) -> tuple[str, ...]:
        """retryOn's parts: Envoy's names and status codes."""
        return tuple(part.strip() for part in self.retry_on.split(",")) if self.retry_on else ()
