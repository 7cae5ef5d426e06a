"""What gateways that share a store agree on: the table of virtual addresses in segments, each one value that is written by check-and-set.

Theory of operation. A slot belongs to one segment, so no two gateways can give one address away: whoever writes the segment first has it, the
other reads again. What a segment says replaces what was known of it, save rows of names that are wanted here and that nobody
contradicts: those were kept from before or are our proposals, and are written (again). A proposal is nobody's address until it has
been read back. Should a name stand in two segments (two gateways found one full at different moments), the lower slot holds.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Set

import msgspec

from federation.store import Stored
from federation.vips import Row, Table, segment_of, segments

_decoder = msgspec.json.Decoder(list[Row])


class Agreement:
    """One table against its segments. proposed: names whose row nobody has agreed to yet. crowded: names that found no room."""

    def __init__(self, table: Table, wanted: Set[str], taken: Callable[[int], bool]) -> None:
        """table: is changed. wanted: names that want an address, as it is when asked."""
        self.table = table
        self.proposed: set[str] = set()
        self.crowded: frozenset[str] = frozenset()
        self._wanted, self._taken = wanted, taken
        self.segments = segments(table.size)
        self._index = [0] * self.segments
        self._stored: list[dict[str, Row]] = [{} for _ in range(self.segments)]
        self._dirty: set[int] = set()

    def index(self, number: int) -> int:
        """Of the value that was read last."""
        return self._index[number]

    def touch(self, slot: int) -> None:
        """The segment of this slot may have to be written."""
        self._dirty.add(segment_of(slot, self.table.size))

    def load(self, number: int, stored: Stored) -> set[str]:
        """Take a segment as the store has it; returns the names whose row, or whose standing, changed. A value that cannot be read is
        taken for an empty one, and so written anew."""
        self._index[number] = stored.index
        self._stored[number] = {row.host: row for row in _rows(stored.value) if self._fits(row, number)}
        said = {host: row for host, row in self._stored[number].items() if not self._taken(row.slot)}
        mine = [row for row in self._segment(number) if row.host not in said]
        changed = {row.host for row in mine}
        for row in mine:
            self.table.drop(row.host)
        for row in said.values():
            changed |= self._take(row)
        self._offer_again(mine, changed)
        self._dirty.add(number)
        return changed

    def _fits(self, row: Row, number: int) -> bool:
        return 0 < row.slot < self.table.size - 1 and segment_of(row.slot, self.table.size) == number

    def _segment(self, number: int) -> list[Row]:
        size = self.table.size
        return [row for row in self.table.rows.values() if segment_of(row.slot, size) == number]

    def _take(self, row: Row) -> set[str]:
        """A row of the store; the newer of two times stays. Returns whom it changes."""
        mine = self.table.rows.get(row.host)
        if mine is not None and mine.slot == row.slot:
            agreed = row.host in self.proposed
            self.proposed.discard(row.host)
            if mine.seen < row.seen:
                self.table.put(row)
            return {row.host} if agreed else set()
        if mine is not None and mine.slot < row.slot and self._is_stored(mine):
            return set()
        changed = {row.host, self.table.holder(row.slot) or row.host}
        if mine is not None:
            self.touch(mine.slot)
        self.table.put(row)
        self.proposed -= changed
        return changed

    def _is_stored(self, row: Row) -> bool:
        known = self._stored[segment_of(row.slot, self.table.size)].get(row.host)
        return known is not None and known.slot == row.slot

    def _offer_again(self, rows: list[Row], changed: set[str]) -> None:
        """Rows that the store does not have stay ours where they are wanted and in nobody's way."""
        for row in rows:
            fits = self.table.holder(row.slot) is None and not self._taken(row.slot)
            if row.host in self._wanted and row.host not in self.table.rows and fits:
                self.table.put(row)
                changed.discard(row.host)
            else:
                self.proposed.discard(row.host)

    def propose(self, now: int) -> frozenset[str]:
        """Rows for the names that want one and have none; returns those that newly found no room, or no longer lack it."""
        missing = self._wanted - self.table.rows.keys()
        made = self.table.claim(missing, now, self._taken)
        for row in made:
            self.proposed.add(row.host)
            self.touch(row.slot)
        before, self.crowded = self.crowded, frozenset(missing - {row.host for row in made})
        return before ^ self.crowded

    def withdraw(self) -> None:
        """Forget proposals: whether they were written is not known."""
        for host in self.proposed:
            self.table.drop(host)
        self.proposed.clear()

    def unwritten(self) -> list[int]:
        """Segments that the store has otherwise than they should be."""
        self._dirty = {number for number in self._dirty if {row.host: row for row in self._segment(number)} != self._stored[number]}
        return sorted(self._dirty)

    def encoded(self, number: int) -> bytes:
        """A segment's value as it should be."""
        return msgspec.json.encode(sorted(self._segment(number), key=lambda row: row.slot))

    def __repr__(self) -> str:
        return f"<Agreement {self.table!r} proposed={len(self.proposed)} unwritten={self.unwritten()}>"


def _rows(value: bytes) -> list[Row]:
    try:
        return _decoder.decode(value) if value else []
    except msgspec.DecodeError:
        return []
