"""What becomes of what a source said, once it cannot be reached. Pure data; `discovery.source` does it."""

from __future__ import annotations

import enum

import msgspec


class OnLoss(enum.Enum):
    """What becomes of a lost source's shard when its lease is up."""

    KEEP = "keep"
    EXPIRE = "expire"
    DEGRADE = "degrade"


class LossPolicy(msgspec.Struct, frozen=True):
    """KEEP: the shard stands for ever. EXPIRE: it is dropped `after` seconds of loss. DEGRADE: then its healthy endpoints
    become DEGRADED, so that they are used after those of others."""

    action: OnLoss = OnLoss.KEEP
    after: float = 0.0


KEEP_FOREVER = LossPolicy()  # an outdated endpoint is found by health checks and ejection; a missing one by nobody
