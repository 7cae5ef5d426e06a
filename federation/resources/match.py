"""What a request must look like for a VirtualService's route to take it (virtual_service.proto HTTPMatchRequest, StringMatch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, field_validator

from federation.resources.checks import (
    fault,
    gateway_name_faults,
    header_name_fault,
    is_label,
    label_faults,
    port_fault,
    regex_fault,
    warning,
)
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Whole

PSEUDO = frozenset((":method", ":scheme", ":authority", ":path"))  # what a request has of RFC 9113's pseudo-headers
CLAIMS = "@request.auth.claims"


class StringMatch(Message):
    """One of three, or none: then presence is what matches. regex: RE2, of the whole value."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    def faults(self) -> Iterator[Fault]:
        written = [name for name in ("exact", "prefix", "regex") if getattr(self, name) is not None]
        if len(written) > 1:
            yield Fault((), f"{' and '.join(written)} are both written; keep one")
        if self.regex is not None:
            yield from fault(("regex",), regex_fault(self.regex))


class HTTPMatchRequest(Message):
    """All of it must hold. A header or query parameter with an empty StringMatch must be there, whatever its value."""

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
    stat_prefix: str = ""

    @property
    def asks_for_claims(self) -> bool:
        return any(claim_path(name) for name in (*self.headers, *self.without_headers))

    @field_validator("without_headers")
    @classmethod
    def _star_is_presence(cls, value: dict[str, StringMatch]) -> dict[str, StringMatch]:
        """Istio reads regex `*` here, which is no RE2, as "present"."""
        return {name: StringMatch() if match.regex == "*" else match for name, match in value.items()}

    def faults(self) -> Iterator[Fault]:
        for name, single in (("scheme", self.scheme), ("method", self.method), ("authority", self.authority)):
            if single is not None and single.prefix == "":
                yield Fault((name, "prefix"), "the prefix is empty, and matches everything; write one, or leave the match out")
        yield from _header_faults("headers", self.headers)
        yield from _header_faults("withoutHeaders", self.without_headers)
        for name, match in self.query_params.items():
            if match.prefix == "":
                yield Fault(("queryParams", name, "prefix"), "the prefix is empty; write one, or {} for presence")
        yield from fault(("port",), port_fault(self.port, zero=True))
        yield from gateway_name_faults(self.gateways)
        if self.ignore_uri_case and self.uri is not None and self.uri.regex is not None:
            yield from warning(("ignoreUriCase",), "ignoreUriCase has no effect on a regex; write (?i) into it")
        yield from label_faults(self.source_labels, ("sourceLabels",))
        if self.source_namespace and not is_label(self.source_namespace):
            yield Fault(("sourceNamespace",), f"`{self.source_namespace[:80]}` is no namespace; use letters, digits and `-`")
        for name, written in (("sourceLabels", self.source_labels), ("sourceNamespace", self.source_namespace)):
            if written:
                yield from warning((name,), f"`{name}` {SOURCE_IS_NODE}")


SOURCE_IS_NODE = (
    "speaks of sidecars: for gateway `mesh` it is compared with this gateway's own Node, which is the source of that traffic, "
    "and at Gateways it is ignored, because their clients have neither labels nor namespace"
)


def claim_path(name: str) -> tuple[str, ...]:
    """The names of a claim and those within it: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`; empty = it is a header."""
    if not name.lower().startswith(CLAIMS):
        return ()
    rest = name[len(CLAIMS) :]
    if rest.startswith(".") and len(rest) > 1:
        return tuple(rest[1:].split("."))
    if rest.startswith("[") and rest.endswith("]") and len(rest) > 2:
        return tuple(rest[1:-1].split("]["))
    return ()


def _header_faults(field: str, matches: Mapping[str, StringMatch]) -> Iterator[Fault]:
    for name, match in matches.items():
        at = (field, name)
        path = claim_path(name)
        if path:
            if not all(path):
                yield Fault(
                    at, "a name in the claim's path is empty; write @request.auth.claims.NAME or @request.auth.claims[NAME][NAME]"
                )
        elif name.lower().startswith("@request.auth"):
            yield Fault(at, "this names no claim; write @request.auth.claims.NAME or @request.auth.claims[NAME][NAME]")
        elif name not in PSEUDO:
            yield from fault(at, header_name_fault(name))
        if match.prefix == "":
            yield Fault((*at, "prefix"), "the prefix is empty; write one, or {} for presence")
