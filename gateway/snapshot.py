"""What an engine runs: plain frozen data in named parts, with one canonical JSON form.

Theory of operation. A Snapshot is a mapping from part name to part. A part's hash is SHA-256 of its canonical JSON; the
Snapshot's version is the sum, mod 2^256, of SHA-256(name + NUL + part hash) over all parts, so adding, replacing or removing one
part changes the version in O(1) and a chain of Deltas ends in the same version as the whole.

Part names, by type:
    node                             Node            (exactly one)
    listener/ADDRESS:PORT            Listener        (one a socket)
    host/TABLE/NAME                  VirtualHost     (TABLE is named by filter chains)
    inbound/SNI                      Inbound         (what the east-west port lets peers reach)
    backend/NAME                     Backend         NAME = outbound|PORT|SUBSET|HOST (Istio's cluster name) or inbound|PORT|SUBSET|HOST
    endpoints/NAME                   EndpointSet     (same NAME as the backend)
    name/NAME                        Name            (what the nameserver answers)

Nothing secret is in it: private keys are named by digest and travel beside it (`Secrets`). Health is not in it: Verdicts are.
Durations are whole milliseconds (`_ms`), 0 = off unless said otherwise. Percentages are whole per cent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from gateway.parts.access import Allowed
from gateway.parts.backend import (
    Backend,
    Balance,
    EndpointSet,
    Failback,
    HashPolicy,
    HealthCheck,
    Http2,
    Keepalive,
    LbEndpoint,
    Limits,
    Outlier,
    RateLimit,
    RetryBudget,
    Silence,
    Tunnel,
    Warmup,
)
from gateway.parts.listener import FilterChain, Inbound, Listener, ListenerKind, TcpRoute, TcpSplit
from gateway.parts.name import Dns, Name
from gateway.parts.node import AccessLog, Node, Overload
from gateway.parts.route import (
    ClaimMatch,
    Cors,
    DirectResponse,
    Fault,
    Forward,
    HeaderOperations,
    MatchKind,
    Mirror,
    NamedMatch,
    Redirect,
    RetryPolicy,
    Route,
    RouteMatch,
    Split,
    StringMatch,
    VirtualHost,
)
from gateway.parts.substitution import Operator, Template
from gateway.parts.tls import CertificateRef, DownstreamTls, TlsMode, UpstreamTls, UpstreamTlsMode

__all__ = [
    "AccessLog",
    "Allowed",
    "Backend",
    "Balance",
    "CertificateRef",
    "ClaimMatch",
    "Cors",
    "Delta",
    "DirectResponse",
    "Dns",
    "DownstreamTls",
    "EndpointSet",
    "Failback",
    "Fault",
    "FilterChain",
    "Forward",
    "HashPolicy",
    "HeaderOperations",
    "HealthCheck",
    "Http2",
    "Inbound",
    "Keepalive",
    "LbEndpoint",
    "Limits",
    "Listener",
    "ListenerKind",
    "MatchKind",
    "Mirror",
    "Name",
    "NamedMatch",
    "Node",
    "Operator",
    "Outlier",
    "Overload",
    "Part",
    "RateLimit",
    "Redirect",
    "RetryBudget",
    "RetryPolicy",
    "Route",
    "RouteMatch",
    "Silence",
    "Snapshot",
    "Split",
    "StringMatch",
    "TcpRoute",
    "TcpSplit",
    "Template",
    "TlsMode",
    "Tunnel",
    "UpstreamTls",
    "UpstreamTlsMode",
    "VirtualHost",
    "Warmup",
    "canonical",
    "part_name",
]

Part = Node | Listener | VirtualHost | Inbound | Backend | EndpointSet | Name

# ------------------------------------------------------------------------------------------------- snapshot and delta

_encoder = msgspec.json.Encoder(order="deterministic")
_MODULUS = 1 << 256
# How many Snapshots back a Snapshot knows its difference, for readers that skip some, and how many names that may be: past a thousand, a
# look at all the parts costs no more than sets of names do.
_PAST = 8
_FEW = 1000


def part_name(part: Part) -> str:
    """The name a part is kept under; see the module's table."""
    match part:
        case Node():
            return "node"
        case Listener():
            return f"listener/{part.key}"
        case VirtualHost():
            return f"host/{part.table}/{part.name}"
        case Inbound():
            return f"inbound/{part.sni}"
        case Backend():
            return f"backend/{part.name}"
        case EndpointSet():
            return f"endpoints/{part.backend}"
        case Name():
            return f"name/{part.name}"


def canonical(part: Part) -> bytes:
    """The one canonical JSON form: sorted keys, no white space."""
    return _encoder.encode(part)


def _weight(name: str, part: Part) -> int:
    inner = hashlib.sha256(canonical(part)).digest()
    return int.from_bytes(hashlib.sha256(name.encode() + b"\0" + inner).digest(), "big")


class Delta(msgspec.Struct, frozen=True):
    """From the Snapshot of version `base` to that of `version`. A whole Snapshot is a Delta with base "" and nothing to remove."""

    base: str
    version: str
    set: tuple[Part, ...] = ()
    remove: tuple[str, ...] = ()


class Snapshot:
    """An immutable mapping of part name → part, with a version. Two Snapshots of equal parts have equal versions.

    Unchanged parts are the same objects from one Snapshot to the next, so `is` tells "unchanged", and it remembers what it
    differs in from the last few before it, so that a small change of a large Snapshot is found without looking at all of it.
    """

    __slots__ = ("_past", "_sum", "parts")

    def __init__(self, parts: Mapping[str, Part] | None = None, *, total: int | None = None) -> None:
        self.parts: Mapping[str, Part] = dict(parts or {})
        self._sum = sum(_weight(n, p) for n, p in self.parts.items()) % _MODULUS if total is None else total
        self._past: tuple[tuple[int, frozenset[str]], ...] = ()  # (an earlier sum, names of the parts that differ since)

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Snapshot:
        """Raises ValueError when two parts have one name."""
        named: dict[str, Part] = {}
        for part in parts:
            name = part_name(part)
            if name in named:
                raise ValueError(f"two parts are named {name!r}")
            named[name] = part
        return cls(named)

    @property
    def version(self) -> str:
        """64 hex digits."""
        return f"{self._sum:064x}"

    @property
    def node(self) -> Node | None:
        part = self.parts.get("node")
        return part if isinstance(part, Node) else None

    def backends(self) -> list[Backend]:
        return [part for part in self.parts.values() if isinstance(part, Backend)]

    def listeners(self) -> list[Listener]:
        return [part for part in self.parts.values() if isinstance(part, Listener)]

    def endpoints(self, backend: str) -> tuple[LbEndpoint, ...]:
        part = self.parts.get(f"endpoints/{backend}")
        return part.endpoints if isinstance(part, EndpointSet) else ()

    def changed(self, update: Iterable[Part], remove: Iterable[str] = ()) -> Snapshot:
        """A new Snapshot with some parts replaced or removed; equal parts keep the old object. Costs what it touches,
        beside one shallow copy of the mapping."""
        parts = dict(self.parts)
        total = self._sum
        names: set[str] = set()
        for name in remove:
            old = parts.pop(name, None)
            if old is not None:
                names.add(name)
                total -= _weight(name, old)
        for part in update:
            name = part_name(part)
            old = parts.get(name)
            if old == part:
                continue
            if old is not None:
                total -= _weight(name, old)
            names.add(name)
            parts[name] = part
            total += _weight(name, part)
        result = Snapshot()
        result.parts, result._sum = parts, total % _MODULUS
        if len(names) <= _FEW:
            before = ((self._sum, frozenset[str]()), *self._past[: _PAST - 1])
            longer = ((past, found | names) for past, found in before)
            result._past = tuple((past, found) for past, found in longer if len(found) <= _FEW)
        return result

    def differing(self, base: Snapshot | None) -> frozenset[str] | None:
        """Names of the parts that are not as in `base`, perhaps of some that are; None when only a look at all of them could tell."""
        if base is None:
            return None
        if base._sum == self._sum:
            return frozenset()
        return next((found for past, found in self._past if past == base._sum), None)

    def delta_from(self, base: Snapshot | None) -> Delta:
        """What turns `base` into this; the whole when base is None."""
        if base is None:
            return Delta(base="", version=self.version, set=tuple(self.parts.values()))
        names = self.differing(base)
        if names is not None:
            return Delta(
                base=base.version,
                version=self.version,
                set=tuple(self.parts[name] for name in sorted(names) if name in self.parts),
                remove=tuple(name for name in sorted(names) if name in base.parts and name not in self.parts),
            )
        update = tuple(
            part for name, part in self.parts.items() if base.parts.get(name) is not part and base.parts.get(name) != part
        )
        remove = tuple(name for name in base.parts if name not in self.parts)
        return Delta(base=base.version, version=self.version, set=update, remove=remove)

    def apply(self, delta: Delta) -> Snapshot:
        """Raises ValueError when the delta's base is not this version or the result is not the version it promises."""
        if not delta.base:
            result = Snapshot.of(delta.set)
        elif delta.base != self.version:
            raise ValueError(f"delta is from version {delta.base[:12]}…, but version {self.version[:12]}… is running")
        else:
            result = self.changed(delta.set, delta.remove)
        if result.version != delta.version:
            raise ValueError(f"delta promised version {delta.version[:12]}…, applying it gave {result.version[:12]}…")
        return result

    def json(self) -> bytes:
        """Canonical JSON of the whole: {"version": …, "parts": {name: part}} with sorted names."""
        return _encoder.encode({"version": self.version, "parts": dict(sorted(self.parts.items()))})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and other._sum == self._sum

    def __hash__(self) -> int:
        return hash(self._sum)

    def __repr__(self) -> str:
        return f"<Snapshot {self.version[:12]} {len(self.parts)} parts>"
