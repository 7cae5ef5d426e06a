"""FrozenMap: an immutable mapping whose changed copies share what did not change.

Theory of operation. Keys are spread over a fixed number of buckets by CRC-32 (not `hash`, which is salted: iteration must be
the same in every process). A changed copy copies the tuple of buckets and the buckets it touches: with 250,000 keys that is
about a thousand pointers and one dict of 250, some 10 µs, where copying one big dict takes milliseconds. Iteration goes
bucket by bucket, sorted within, so equal maps iterate alike however they came about. Pure.
"""

from __future__ import annotations

from collections.abc import Generator, ItemsView, Iterator, Mapping, ValuesView
from typing import Any, Generic, TypeVar, overload
from zlib import crc32

T = TypeVar("T")
V = TypeVar("V")

# About the root of the largest catalog planned for (50 clusters of 5,000 services), so that both copies cost alike.
_BUCKETS = 512
_AT_ONCE = 1000  # changes in one step: 2 µs each


class FrozenMap(Mapping[str, V], Generic[V]):
    """A read-only mapping of strings; `updated` makes another one."""

    __slots__ = ("_buckets", "_size")

    def __init__(self, items: Mapping[str, V] | None = None) -> None:
        self._buckets: tuple[dict[str, V], ...] = ({},) * _BUCKETS
        self._size = 0
        if items:
            made = self.updated(items)
            self._buckets, self._size = made._buckets, made._size

    def updated(self, changes: Mapping[str, V | None]) -> FrozenMap[V]:
        """A copy with each key set to its value, or without it where the value is None. The same object if nothing changes."""
        buckets = list(self._buckets)
        copied: set[int] = set()
        size = self._size
        for key, value in changes.items():
            index = _bucket(key)
            bucket = buckets[index]
            if bucket.get(key) is value:
                continue
            if index not in copied:
                copied.add(index)
                bucket = buckets[index] = dict(bucket)
            if value is None:
                del bucket[key]
                size -= 1
            else:
                size += key not in bucket
                bucket[key] = value
        if not copied:
            return self
        result: FrozenMap[V] = FrozenMap()
        result._buckets, result._size = tuple(buckets), size
        return result

    def __getitem__(self, key: str) -> V:
        return self._buckets[_bucket(key)][key]

    @overload
    def get(self, key: str, /) -> V | None: ...
    @overload
    def get(self, key: str, /, default: V | T) -> V | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """As a Mapping's, without an exception for what is not there."""
        return self._buckets[_bucket(key)].get(key, default)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._buckets[_bucket(key)]

    def __iter__(self) -> Iterator[str]:
        for bucket in self._buckets:
            yield from sorted(bucket)

    def values(self) -> ValuesView[V]:
        """As a Mapping's, without looking each key up."""
        return _Values(self)

    def items(self) -> ItemsView[str, V]:
        """As a Mapping's, without looking each key up."""
        return _Items(self)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<FrozenMap of {self._size}>"


class Draft(Generic[V]):
    """A FrozenMap that is being changed. `done` is the changed copy; what it was made from stays as it was."""

    def __init__(self, base: FrozenMap[V], changes: Mapping[str, V] | None = None) -> None:
        self._base = base
        self._changes: dict[str, V | None] = dict(changes or {})

    def get(self, key: str) -> V | None:
        return self._changes[key] if key in self._changes else self._base.get(key)

    def __setitem__(self, key: str, value: V) -> None:
        self._changes[key] = value

    def pop(self, key: str, default: V) -> V:
        """The value, which is gone then; `default` if there is none."""
        value = self.get(key)
        if value is None:
            return default
        self._changes[key] = None
        return value

    def done(self) -> FrozenMap[V]:
        """The same object as the base if nothing changed."""
        return self._written(self._base, self._changes)

    def finishing(self) -> Generator[None, None, FrozenMap[V]]:
        """`done` in steps of a few milliseconds."""
        made, names = self._base, list(self._changes)
        for start in range(0, len(names), _AT_ONCE):
            made = self._written(made, {name: self._changes[name] for name in names[start : start + _AT_ONCE]})
            yield
        return made

    def _written(self, made: FrozenMap[V], changes: Mapping[str, V | None]) -> FrozenMap[V]:
        return made.updated({key: value for key, value in changes.items() if value is not None or key in self._base})


class _Values(ValuesView[V]):
    def __init__(self, mapping: FrozenMap[V]) -> None:
        super().__init__(mapping)
        self._buckets = mapping._buckets

    def __iter__(self) -> Iterator[V]:
        for bucket in self._buckets:
            for key in sorted(bucket):
                yield bucket[key]


class _Items(ItemsView[str, V]):
    def __init__(self, mapping: FrozenMap[V]) -> None:
        super().__init__(mapping)
        self._buckets = mapping._buckets

    def __iter__(self) -> Iterator[tuple[str, V]]:
        for bucket in self._buckets:
            for key in sorted(bucket):
                yield key, bucket[key]


def _bucket(key: str) -> int:
    return crc32(key.encode("utf-8", "surrogatepass")) % _BUCKETS
