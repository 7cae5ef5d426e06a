"""What a request must look like for a VirtualService's route to take it (virtual_service.proto HTTPMatchRequest, StringMatch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, field_validator

from federation.resources.checks import (
    fault,
    gateway_name_faults,
    header_name_fault,
    port_fault,
    regex_fault,
    warning,
)
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Whole

_INSTEAD = {":method": "method", ":scheme": "scheme", ":authority": "authority", ":path": "uri"}  # pseudo-headers have a field


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
        for name, written in (("sourceLabels", self.source_labels), ("sourceNamespace", self.source_namespace)):
            if written:
                yield from warning(
                    (name,), f"`{name}` speaks of sidecars and cannot apply to a gateway, whose clients have neither"
                )


def _header_faults(field: str, matches: Mapping[str, StringMatch]) -> Iterator[Fault]:
    for name, match in matches.items():
        at = (field, name)
        if name.startswith("@request.auth."):
            yield Fault(at, "matching a JWT's claims is not supported yet; remove it")
        elif name in _INSTEAD:
            yield Fault(at, f"the pseudo-header `{name}` is not supported yet as a header; match `{_INSTEAD[name]}` instead")
        else:
            yield from fault(at, header_name_fault(name))
        if match.prefix == "":
            yield Fault((*at, "prefix"), "the prefix is empty; write one, or {} for presence")
