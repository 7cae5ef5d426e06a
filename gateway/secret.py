"""Bytes that cannot print themselves. Private keys and tokens travel beside the Snapshot, referenced by digest."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping


class Secret:
    """Bytes whose str, repr and format say `[redacted]`; `reveal()` is the one way to the content."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def reveal(self) -> bytes:
        return self._data

    @property
    def digest(self) -> str:
        """Hex SHA-256: how Snapshot parts name it (CertificateRef.key)."""
        return hashlib.sha256(self._data).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(other._data, self._data)

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return "[redacted]"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled; send its bytes over the private pipe on purpose")


Secrets = Mapping[str, Secret]
"""digest → Secret"""
