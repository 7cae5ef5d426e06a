"""Istio VirtualService (networking/v1alpha3/virtual_service.proto): which requests go where, and what is done to them on the way."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BeforeValidator, Field

from federation.resources.message import Message
from federation.resources.scalars import Flag, Milliseconds, Whole, choice_reader


class PortSelector(Message):
    number: Whole


class Destination(Message):
    """host: a full name, or a short one of the document's namespace."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Message):
    set: dict[str, str] = Field(default_factory=dict)
    add: dict[str, str] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()


class Headers(Message):
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


class StringMatch(Message):
    """One of three, or none: then presence is what matches."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class HTTPMatchRequest(Message):
    """All of it must hold. A header or query parameter with an empty StringMatch must be there, whatever its value."""

    later = ("statPrefix",)

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = Field(default_factory=dict)
    without_headers: dict[str, StringMatch] = Field(default_factory=dict)
    query_params: dict[str, StringMatch] = Field(default_factory=dict)
    port: Whole = 0
    gateways: tuple[str, ...] = ()
    ignore_uri_case: Flag = False
    source_labels: dict[str, str] = Field(default_factory=dict)
    source_namespace: str = ""


class HTTPRouteDestination(Message):
    destination: Destination
    weight: Whole = 0
    headers: Headers = Headers()


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


class HTTPBody(Message):
    """One of the two. bytes: base64."""

    string: str | None = None
    bytes: str | None = None


class HTTPDirectResponse(Message):
    status: Whole
    body: HTTPBody | None = None


class HTTPRewrite(Message):
    """uri replaces the matched prefix (prefix match) or the whole path."""

    later = ("uriRegexRewrite",)

    uri: str = ""
    authority: str = ""


class HTTPRetry(Message):
    """attempts None: not written, so the default number; 0: never retry. Durations 0 = not written."""

    attempts: Whole | None = None
    per_try_timeout: Milliseconds | None = None
    retry_on: str = ""
    retry_remote_localities: Flag = False
    retry_ignore_previous_hosts: Flag | None = None
    backoff: Milliseconds | None = None


class HTTPRoute(Message):
    """timeout None: none (Istio's default). retries None: the defaults."""

    later = ("delegate", "fault", "mirror", "mirrors", "mirrorPercent", "mirrorPercentage", "corsPolicy")

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Milliseconds | None = None
    retries: HTTPRetry | None = None
    headers: Headers = Headers()


class VirtualService(Message):
    """gateways: `name`, `namespace/name`, or `mesh`; none written = mesh."""

    later = ("tls", "tcp")

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    export_to: tuple[str, ...] = ()
