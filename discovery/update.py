"""What a source says: Reset, Upsert, Remove, Absent.

The first thing a source says after each (re)connect is a Reset; until it comes the old shard stands. "No such service"
(Absent) is not "a service with no endpoints": only the first permits a fallback.
"""

from __future__ import annotations

import msgspec

from discovery.model import Service


class Reset(msgspec.Struct, frozen=True, tag="reset"):
    """Everything this source knows, replacing what it said before."""

    services: tuple[Service, ...]


class Upsert(msgspec.Struct, frozen=True, tag="upsert"):
    """One service, whole, new or changed."""

    service: Service


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """A service that the registry said is gone."""

    hostname: str


class Absent(msgspec.Struct, frozen=True, tag="absent"):
    """A service that was asked for by name and does not exist here."""

    hostname: str


Update = Reset | Upsert | Remove | Absent
