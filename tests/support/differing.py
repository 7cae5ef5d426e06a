"""A table of requests that fedgate and a real Envoy must answer alike: what a row says, and how two outcomes are compared.

A row is data: a request, the answers its backend gives, and what is true of Envoy's answer (so that a row cannot pass because both
did the wrong thing). Where fedgate is meant to differ, `differs` names the field and the reason; a field named there that no longer
differs fails the row, so the list stays true. Fields are those of `fields()` below: `status`, `body`, `answer.NAME`, `closed` …
of what the client got, `saw.line`, `saw.NAME`, `saw.body`, `saws` … of what the backend got.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from recorder import Reply

IGNORED = {
    "date": "RFC 9110 section 6.6.1 asks it of the origin; Envoy adds one, fedgate leaves that to the workload",
    "server": "Envoy says istio-envoy, whatever the workload said; fedgate tells nobody what it is",
    "x-envoy-upstream-service-time": "Envoy's debugging: milliseconds, never the same twice",
    "x-envoy-attempt-count": "Envoy's debugging; the access log has it",
    "x-envoy-expected-rq-timeout-ms": "Envoy's debugging; speaks of the route's timeout to workloads that are Envoys",
    "x-envoy-original-path": "Envoy's debugging",
    "x-envoy-external-address": "Envoy's debugging; x-forwarded-for says it",
    "x-envoy-decorator-operation": "Envoy's debugging",
    "x-envoy-original-host": "Envoy's debugging",
}
"""Header names that no row looks at, and why."""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

NOBODY = dict.fromkeys(
    ("body", "answer.content-length", "answer.content-type"),
    "a host or subset that nobody knows is a backend without endpoints here, and the body says that; Envoy's is empty",
)

LATER: Mapping[str, str] = {}
"""Features that rows need (`needs`) and fedgate does not have yet, and what is missing. Empty = everything is compared."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One request, or several on one connection.

    name: unique. site: the VirtualService it goes to, whose host is SITE.test unless `host` says more. over: the server it connects to.
    protocol: "h1"; "h2" (prior knowledge, or ALPN over TLS); "grpc" = h2 with gRPC's headers; "frames" = `raw` are HTTP/2 frames,
    `streams` the numbers that must end.
    raw: exact bytes instead of the fields before it; a tuple = pieces, each sent when an answer or a 1xx to the one before has come;
    `{host}` in it is the site's host. methods: of the requests in raw, so that their answers can be read. times: so often, one after
    the other in HTTP/1, at once in HTTP/2. tunnel: bytes sent after 101, to come back. half_close: no more is sent after the last.
    probe: ask once more on the connection, and compare whether it served. replies: of the backend, by attempt.
    status: Envoy's; None = not looked at. served: names of the backends that Envoy reached, in order; None = not looked at.
    seen: wait for so many requests at the backends. took: seconds, at least and at most, of both.
    ignore: fields that this row is not about; only: the fields that it is about, if not all (and then of requests that reached the
    workload those count that it got whole). needs: a feature of LATER. differs: field → why.
    """

    name: str
    site: str = "echo"
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunked: bool = False
    trailers: tuple[tuple[str, str], ...] = ()
    host: str = ""
    version: str = "1.1"
    raw: bytes | tuple[bytes, ...] = b""
    methods: tuple[str, ...] = ("GET",)
    protocol: str = "h1"
    streams: tuple[int, ...] = ()
    times: int = 1
    over: str = "http"
    probe: bool = False
    tunnel: bytes = b""
    half_close: bool = False
    replies: tuple[Reply, ...] = ()
    status: int | tuple[int, ...] | None = 200
    served: tuple[str, ...] | None = None
    seen: int | None = None
    took: tuple[float, float] = (0.0, 3.0)
    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    needs: str = ""
    differs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def authority(self):
        return self.host or f"{self.site}.test"

    def __repr__(self):
        return self.name


def words(text):
    """For lists of names of fields."""
    return text.split()


def one_bytes(row):
    """(pieces, methods) of a row of HTTP/1."""
    if row.raw:
        pieces = row.raw if isinstance(row.raw, tuple) else (row.raw,)
        return [piece.replace(b"{host}", row.authority.encode()) for piece in pieces], list(row.methods)
    lines = [f"{row.method} {row.path} HTTP/{row.version}", f"host: {row.authority}", *(f"{n}: {v}" for n, v in row.headers)]
    body = row.body
    if row.chunked:
        lines.append("transfer-encoding: chunked")
        trailers = "".join(f"{name}: {value}\r\n" for name, value in row.trailers).encode()
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n" + trailers + b"\r\n"
    elif body:
        lines.append(f"content-length: {len(body)}")
    data = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    return [data] * row.times, [row.method] * row.times


def two_fields(row):
    """(fields, body, trailers) of a row of HTTP/2."""
    method = "POST" if row.protocol == "grpc" else row.method
    scheme = "http" if row.over == "http" else "https"
    fields = [(":method", method), (":scheme", scheme), (":authority", row.authority), (":path", row.path)]
    if row.protocol == "grpc":
        fields += [("te", "trailers"), ("content-type", "application/grpc")]
    return [*fields, *row.headers], row.body, row.trailers


def fields(row, outcome, seen):
    """What is compared, by name: lists of text and numbers."""
    found = {"answers": [len(outcome.answers)]}
    for answer in outcome.answers:
        add(found, "status", answer.status)
        add(found, "body", answer.body)
        add(found, "framing", answer.framing)
        add(found, "version", answer.version)
        add(found, "interim", *answer.interim)
        add(found, "broken", answer.broken if answer.broken in ("", "hung") else "broken")
        for name, value in answer.headers:
            add(found, f"answer.{name}", value)
        for name, value in answer.trailers:
            add(found, f"trailer.{name}", value)
    if row.probe or row.protocol == "frames":
        found["closed"] = [outcome.closed]
    if row.tunnel:
        found["tunnel"] = [outcome.tunnel]
    if row.only:
        seen = [one for one in seen if one.whole and "/probe" not in one.line]
    found["saws"] = [len(seen)]
    if row.seen is not None:
        seen = sorted(seen, key=lambda one: one.name)  # of what is sent at once, who comes first is chance
    for one in seen:
        add(found, "saw.line", one.line)
        add(found, "saw.at", one.name)
        add(found, "saw.body", one.body)
        add(found, "saw.framing", one.framing)
        for name, value in one.headers:
            if name == "x-forwarded-client-cert":
                for part, said in elements(value):
                    add(found, f"saw.{name}.{part}", said)
                continue
            add(found, f"saw.{name}", "(a new one)" if is_new_id(row, name, value) else value)
        for name, value in one.trailers:
            add(found, f"saw.trailer.{name}", value)
    return {name: values for name, values in found.items() if is_compared(row, name)}


def is_compared(row, name):
    if row.only:
        return name in row.only
    return name.rpartition(".")[2] not in IGNORED and name not in row.ignore


def add(found, name, *values):
    found.setdefault(name, []).extend(values)


def elements(value):
    """Of x-forwarded-client-cert: (name, value), in order."""
    return [tuple(part.split("=", 1)) for part in re.findall(r'[A-Za-z]+=(?:"[^"]*"|[^;,]*)', value)]


def is_new_id(row, name, value):
    return name == "x-request-id" and UUID.fullmatch(value) and value not in [known for _, known in row.headers]


def differences(envoy, fedgate):
    """name → (Envoy's, fedgate's), of what is not equal."""
    names = sorted(envoy.keys() | fedgate.keys())
    return {name: (envoy.get(name), fedgate.get(name)) for name in names if envoy.get(name) != fedgate.get(name)}


def told(found):
    """For people: one line a difference."""
    return "\n".join(f"  {name}: Envoy {theirs!r}, fedgate {ours!r}" for name, (theirs, ours) in found.items())
