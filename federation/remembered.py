"""What a plane wants to be told again when it begins anew: for the state directory. Data only.

Documents stand in for files that are broken by then, shards for peers and registries until their next Reset: so the first Snapshot of
a new process is not poorer than the last of the old one.
"""

from __future__ import annotations

import msgspec

from discovery.document import RawDocument
from discovery.model import Service, ShardKey


class Shard(msgspec.Struct, frozen=True):
    """One source's view."""

    key: ShardKey
    services: tuple[Service, ...]


class Remembered(msgspec.Struct, frozen=True):
    """documents: the last good version of every one, as written; Secrets are among them, so the file must be private."""

    documents: tuple[RawDocument, ...] = ()
    shards: tuple[Shard, ...] = ()
