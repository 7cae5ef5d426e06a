"""Istio's LoadBalancerSettings: which endpoint a request goes to."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.checks import duration_fault, fault, header_name_fault, range_fault, warning
from federation.resources.locality import LocalityLbSetting, ZoneAwareLbSetting
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Milliseconds, Number, Whole, choice_reader

LARGEST_RING = 8 * 1024 * 1024  # Envoy's maximum_ring_size
LARGE_RING = 65_536  # points of 100 bytes each, a few µs to make: from here on worth a word
LARGEST_MAGLEV = 5_000_011  # Envoy's and Istio's bound, exclusive here


class SimpleLB(enum.Enum):
    UNSPECIFIED = "UNSPECIFIED"  # least request, as LEAST_REQUEST
    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"  # to the address that was asked for


_read_simple = choice_reader(SimpleLB, same={"LEAST_CONN": SimpleLB.LEAST_REQUEST})
_Simple = Annotated[SimpleLB, BeforeValidator(_read_simple)]


class CookieAttribute(Message):
    """value "": a flag, such as Secure."""

    name: str
    value: str = ""

    def faults(self) -> Iterator[Fault]:
        if not self.name or set(self.name + self.value) & set(';,"\r\n\0'):
            yield Fault((), 'a cookie attribute is a name, or name and value, without `;`, `,`, `"` and line ends')


class HTTPCookie(Message):
    """ttl None: only a cookie that is there is used. 0: one is made for clients without, for their session."""

    name: str = ""
    path: str = ""
    ttl: Milliseconds | None = None
    attributes: tuple[CookieAttribute, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if not self.name:
            yield Fault(("name",), "name required for HttpCookie; write the cookie's name")
        elif header_name_fault(self.name):
            yield Fault(("name",), "a cookie's name is of letters, digits and `-`, `_`, `.` (RFC 6265)")
        if set(self.path) & set(";\r\n\0"):
            yield Fault(("path",), "a path has no `;` and no line ends; write for example /")
        if self.ttl is not None and self.ttl % 1000:
            yield from warning(("ttl",), "a cookie lives for whole seconds; the rest is left out")


class RingHash(Message):
    minimum_ring_size: Whole = 1024

    def faults(self) -> Iterator[Fault]:
        yield from _ring_faults(self.minimum_ring_size, ("minimumRingSize",))


class MagLev(Message):
    table_size: Whole = 65_537

    def faults(self) -> Iterator[Fault]:
        if self.table_size >= LARGEST_MAGLEV:
            yield Fault(("tableSize",), f"tableSize must be less than {LARGEST_MAGLEV} for maglev; 65537 is the default")
        elif not is_prime(self.table_size) or self.table_size < 3:
            yield Fault(("tableSize",), "tableSize must be a prime number for maglev; 65537 is the default")


class ConsistentHashLB(Message):
    """One key and one table. Requests without the key go anywhere."""

    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: Flag = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: Whole = 0

    def faults(self) -> Iterator[Fault]:
        keys = {
            "httpHeaderName": bool(self.http_header_name),
            "httpCookie": self.http_cookie is not None,
            "useSourceIp": self.use_source_ip,
            "httpQueryParameterName": bool(self.http_query_parameter_name),
        }
        written = [name for name, there in keys.items() if there]
        if len(written) > 1:
            yield Fault((), f"only one of {', '.join(written)} can be specified; keep one")
        elif not written:
            yield Fault((), f"consistentHash has nothing to hash; write one of {', '.join(keys)}")
        if self.http_header_name:
            yield from fault(("httpHeaderName",), header_name_fault(self.http_header_name))
        if self.ring_hash is not None and self.maglev is not None:
            yield Fault((), "only one of ringHash, maglev can be specified; keep one")
        if self.minimum_ring_size:
            if self.ring_hash is not None or self.maglev is not None:
                yield Fault(("minimumRingSize",), "only one of MinimumRingSize or Maglev/Ringhash can be specified; remove it")
            else:
                yield from warning(("minimumRingSize",), "minimumRingSize is deprecated; write ringHash: {minimumRingSize: …}")
            yield from _ring_faults(self.minimum_ring_size, ("minimumRingSize",))


class WarmupConfiguration(Message):
    duration: Milliseconds | None = None
    minimum_percent: Number | None = None
    aggression: Number | None = None

    def faults(self) -> Iterator[Fault]:
        if self.duration is None:
            yield Fault(("duration",), "duration is required; write how long a new endpoint warms up")
        yield from fault(("duration",), duration_fault(self.duration))
        if self.minimum_percent is not None and not 0 <= self.minimum_percent <= 100:
            yield Fault(("minimumPercent",), "minimumPercent value should be less than or equal to 100, and 0 or more")
        if self.aggression is not None and self.aggression < 1:
            yield Fault(("aggression",), "aggression should be greater than or equal to 1; 1 grows evenly")


class LoadBalancerSettings(Message):
    simple: _Simple | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    warmup: WarmupConfiguration | None = None
    warmup_duration_secs: Milliseconds | None = None

    def faults(self) -> Iterator[Fault]:
        if self.simple is not None and self.consistent_hash is not None:
            yield Fault((), "only one of simple, consistentHash can be specified; keep one")
        if self.locality_lb_setting is not None and self.zone_aware_lb_setting is not None:
            yield Fault((), "only one of localityLbSetting, zoneAwareLbSetting can be specified; keep one")
        if self.warmup_duration_secs is not None:
            if self.warmup is not None:
                yield Fault(("warmupDurationSecs",), "only one of WarmupDurationSecs or Warmup can be set; keep warmup")
            else:
                yield from warning(("warmupDurationSecs",), "warmupDurationSecs is deprecated; write warmup: {duration: …}")
            yield from fault(("warmupDurationSecs",), duration_fault(self.warmup_duration_secs))
        warmed = self.warmup is not None or self.warmup_duration_secs is not None
        if warmed and (self.consistent_hash or self.simple in (SimpleLB.RANDOM, SimpleLB.PASSTHROUGH)):
            yield from warning((), "warm-up works with ROUND_ROBIN and LEAST_REQUEST only; it does nothing here")


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _ring_faults(size: int, at: tuple[str, ...]) -> Iterator[Fault]:
    yield from fault(at, range_fault(size, 0, LARGEST_RING))
    if LARGE_RING < size <= LARGEST_RING:
        yield from warning(
            at, f"a ring of {size} points costs each worker about {size // 10_000} MB; maglev spreads as evenly for less"
        )
