"""Memory that all workers of one gateway read, and each writes its own part of: stamps, ejections, counters of limits, token buckets.

Theory of operation. The supervisor creates one anonymous memory file and every process maps it. It holds a header and one slot a
worker. A worker writes its own slot only, so no word ever has two writers and nothing needs a lock; everyone reads all slots.

    header   magic, workers, generation
    slot     stamp, pid, draining, ejections used, then the ejection table, the counter table, the table of token buckets

Python has no memory barriers, so no reader relies on the order in which another process's writes arrive:
- Stamps, pids and counter values are single aligned 8-byte words, which the machine reads and writes whole. A counter is read
  together with its key and believed only if the key is the one wanted; a value one write old is a request's worth of error, which
  the limits allow ("exact to within one request a worker").
- A token bucket's mark is two words, the count written before the epoch: half of it is an old epoch with a small count, which is a token
  or so too many for a moment (policy/ratelimit.py).
- An ejection is several words, so it carries a checksum of them. A reader passes over an entry whose checksum does not fit and
  looks again at its next reading; half an ejection is never seen.
- `generation` is a word that everyone may write, each writer with a value that nobody wrote before (worker number and its own
  count), after the entry it speaks of. A reader scans again when the word differs from the one it saw. Should the word arrive
  before the entry (processors other than x86), the reader's own `stamp`, every 25 ms, makes it scan once more: that bounds how
  long a write can stay unseen.

Names are kept as 64-bit hashes (`ejection_key`, `counter_key`). Times are `time.monotonic_ns()`, which is one clock for all
processes of a machine (trio's clock is not: it has an offset of its own in each process).
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Mapping

import msgspec

from gateway.native.tables import BUCKETS, COUNTERS, EMPTY, MOST_BUCKETS, Counter, Mark

REASONS = (
    "",
    "consecutive-5xx",
    "consecutive-gateway-errors",
    "local-origin",
    "silence",
    "connect-timeout",
    "unconfirmed",
)
"""What Ejected.reason may say; the index is the code in memory. Only ever extended at the end: an upgrade maps the old memory."""

SUPERVISOR = -1
"""The worker number of a process that has no slot: it reads all and clears the slots of the dead."""

_MAGIC = 0x32_65_74_61_67_64_65_66  # "fedgate2", low byte first: the number changes with the layout
_HEADER_WORDS = 8  # one cache line
_GENERATION = 2
_STAMP, _PID, _DRAINING, _USED = 0, 1, 2, 3
_SLOT_HEADER_WORDS = 8
_NOWHERE = 1 << 60  # the slot of a process without one: writing there is an IndexError
_ENTRY_WORDS = 5  # key, until, reason, count, checksum
# A gateway that has more than 2,048 endpoints out at once has lost regions, not endpoints; priorities and verdicts speak then.
# The one that ends soonest gives way. A scan of a full table costs about 1 ms, an usual one a few µs.
EJECTIONS = 2048
_COUNTERS = _SLOT_HEADER_WORDS + EJECTIONS * _ENTRY_WORDS
_BUCKETS = _COUNTERS + COUNTERS * 2
_SLOT_WORDS = (_BUCKETS + BUCKETS * 3 + 511) // 512 * 512  # whole pages: neighbours never share a cache line


def ejection_key(backend: str, endpoint: str) -> int:
    """The 64-bit name of an endpoint in a backend: the same in every process and after every restart."""
    return _hash(backend.encode() + b"\0" + endpoint.encode())


def counter_key(backend: str, of: str = "") -> int:
    """The 64-bit name of a backend's counter. of: what it counts; "" = requests in flight."""
    return _hash(backend.encode() + (b"\0\0" + of.encode() if of else b""))


def bucket_key(limit: bytes, values: Iterable[bytes]) -> int:
    """The 64-bit name of a token bucket. limit: everything that makes it this limit and no other."""
    return _hash(b"".join(b"%d:%b" % (len(each), each) for each in (limit, *values)))


def _hash(name: bytes) -> int:
    # 64 bits: among 100,000 names two are alike with probability 3e-10. 0 and 1 mark empty places.
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") or 2


class Ejection(msgspec.Struct, frozen=True):
    """An endpoint that some worker has taken out until `until_ns` (monotonic; over when that is past). count: how many times in
    a row, for the next one's length. worker: the lowest number of those who hold it."""

    until_ns: int
    reason: str
    count: int
    worker: int


class Shared:
    """One process's view. `worker` is its own slot, or SUPERVISOR."""

    def __init__(self, fd: int, worker: int) -> None:
        """Maps the memory behind `fd`, which stays open and belongs to the caller's process. Use `create` or `attach`."""
        self.fd = fd
        self.worker = worker
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._words = memoryview(self._memory).cast("Q")
        if self._words[0] != _MAGIC:
            raise ValueError(f"descriptor {fd} is not a gateway's shared memory: its first word is {self._words[0]:#x}")
        self.workers = self._words[1]
        self._base = _slot(worker) if worker != SUPERVISOR else _NOWHERE
        self._written = 0
        self._own: dict[int, int] = {}  # key → index of its entry in this worker's ejection table
        self._marks: dict[tuple[bytes, tuple[str | bytes, ...]], Mark] = {}
        self._seen = -1
        self._ejections: Mapping[int, Ejection] = {}

    @classmethod
    def create(cls, workers: int) -> Shared:
        """New memory for this many workers, all slots empty. The descriptor is not inherited unless passed on purpose."""
        fd = os.memfd_create("fedgate-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 8 * (_HEADER_WORDS + workers * _SLOT_WORDS))
        # Sealed: a process that truncated it would kill all others with SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        os.pwrite(fd, struct.pack("QQ", _MAGIC, workers), 0)
        return cls(fd, SUPERVISOR)

    @classmethod
    def attach(cls, fd: int, worker: int) -> Shared:
        """The memory behind an inherited descriptor, as worker `worker` (or SUPERVISOR). The worker's slot is emptied: a process
        that begins carries nothing. Raises ValueError when the descriptor is something else or has no such slot."""
        shared = cls(fd, worker)
        if not SUPERVISOR <= worker < shared.workers:
            raise ValueError(f"worker {worker} has no slot: the shared memory was made for {shared.workers} workers")
        if worker != SUPERVISOR:
            shared._empty(worker)
            shared._words[shared._base + _PID] = os.getpid()
        return shared

    def close(self) -> None:
        """Unmap; the descriptor stays open. Counters made from this are of no use afterwards."""
        self._words.release()
        self._memory.close()

    # ------------------------------------------------------------------------------------------------ who is alive

    def stamp(self, now_ns: int) -> None:
        """Say that this worker serves. Also makes the next `ejections()` look at the tables again (see the module's theory)."""
        self._words[self._base + _STAMP] = now_ns
        self._seen = -1

    def drain(self) -> None:
        """Say that this worker accepts no more: neighbours do it for him from now on."""
        self._words[self._base + _DRAINING] = 1

    def absent(self, now_ns: int, *, silent_for_ns: int) -> list[int]:
        """The other workers that drain, or whose stamp is older than that (one that never stamped is)."""
        words, oldest = self._words, now_ns - silent_for_ns
        return [
            worker
            for worker in range(self.workers)
            if worker != self.worker and (words[_slot(worker)] < oldest or words[_slot(worker) + _DRAINING])
        ]

    def stamp_of(self, worker: int) -> int:
        """When that worker last stamped; 0 = not since its slot was cleared."""
        return self._words[_slot(worker) + _STAMP]

    def pid_of(self, worker: int) -> int:
        """Its process; 0 = none."""
        return self._words[_slot(worker) + _PID]

    def draining(self, worker: int) -> bool:
        return bool(self._words[_slot(worker) + _DRAINING])

    def clear(self, worker: int) -> None:
        """Empty the slot of a worker that died, so that its requests and ejections count no more. For the supervisor, after the
        process was reaped and before its successor is started."""
        self._empty(worker)

    def _empty(self, worker: int) -> None:
        base = _slot(worker)
        self._memory[8 * base : 8 * (base + _SLOT_WORDS)] = bytes(8 * _SLOT_WORDS)
        self._announce()

    # ------------------------------------------------------------------------------------------------- ejections

    def eject(self, key: int, *, until_ns: int, reason: str, count: int = 1) -> None:
        """Take an endpoint (`ejection_key`) out for every worker, or replace this worker's earlier ejection of it. When the table
        is full, the ejection that ends soonest gives way. Raises ValueError for a reason that REASONS does not have."""
        index = self._own.get(key)
        if index is None:
            index = self._place()
            self._own[key] = index
        self._write(index, (key, until_ns, REASONS.index(reason), count))

    def restore(self, key: int) -> None:
        """End this worker's ejection of the endpoint, if there is one; another worker's stands."""
        index = self._own.pop(key, None)
        if index is not None:
            self._write(index, (EMPTY, 0, 0, 0))

    def mine(self, key: int) -> bool:
        """True while this worker itself holds an ejection of the endpoint (it may have run out)."""
        return key in self._own

    def generation(self) -> int:
        """Differs from an earlier reading if any ejection began, changed or ended since. About 0.1 µs."""
        return self._words[_GENERATION]

    def ejections(self) -> Mapping[int, Ejection]:
        """By `ejection_key`, those of all workers; of two for one endpoint the one that lasts longer. The same object while
        nothing changes, so `is` tells "unchanged"; about 0.2 µs then. Some may be past: compare until_ns with the clock."""
        generation = self._words[_GENERATION]
        if generation != self._seen:
            found, whole = self._scan()
            self._seen = generation if whole else -1
            if found != self._ejections:
                self._ejections = found
        return self._ejections

    def _scan(self) -> tuple[dict[int, Ejection], bool]:
        found: dict[int, Ejection] = {}
        whole = True
        for worker in range(self.workers):
            base = _slot(worker)
            start = base + _SLOT_HEADER_WORDS
            used = min(self._words[base + _USED], EJECTIONS)
            values = self._words[start : start + used * _ENTRY_WORDS].tolist()
            for at in range(0, len(values), _ENTRY_WORDS):
                key, until, reason, count, check = values[at : at + _ENTRY_WORDS]
                if check != _checksum(key, until, reason, count):
                    whole = False  # its writer is at it just now, or died in it: look again next time
                elif key != EMPTY and (key not in found or found[key].until_ns < until):
                    first = found[key].worker if key in found else worker
                    name = REASONS[reason] if reason < len(REASONS) else "unknown"
                    found[key] = Ejection(until, name, count, first)
        return found, whole

    def _place(self) -> int:
        """An entry for a new ejection: a free one, else one more, else that of the ejection that ends soonest."""
        start = self._base + _SLOT_HEADER_WORDS
        used = self._words[self._base + _USED]
        if len(self._own) < used:
            taken = set(self._own.values())
            return next(index for index in range(used) if index not in taken)
        if used < EJECTIONS:
            self._write(used, (EMPTY, 0, 0, 0))  # a valid entry before anyone is told to read it
            self._words[self._base + _USED] = used + 1
            return used
        soonest = min(self._own, key=lambda key: self._words[start + self._own[key] * _ENTRY_WORDS + 1])
        return self._own.pop(soonest)

    def _write(self, index: int, entry: tuple[int, int, int, int]) -> None:
        at = 8 * (self._base + _SLOT_HEADER_WORDS + index * _ENTRY_WORDS)
        struct.pack_into("5Q", self._memory, at, *entry, _checksum(*entry))
        self._announce()

    def _announce(self) -> None:
        """A generation that nobody wrote before: the writer's number in the top bits, below it the writer's own count, begun
        anew at the process number so that a successor does not repeat its predecessor."""
        self._written += 1
        self._words[_GENERATION] = (self.worker + 1) << 56 | (os.getpid() & 0xFFFFFF) << 32 | self._written & 0xFFFFFFFF

    # -------------------------------------------------------------------------------------------------- counters

    def counter(self, key: int) -> Counter:
        """The handle of a counter (`counter_key`). Make one a name and keep it beside the backend: `forget` of one handle is not
        known to another. A process without a slot can only read it."""
        own, others = self._tables(_COUNTERS)
        return Counter(self._words, own, others, key)

    def mark(self, limit: bytes, values: tuple[str | bytes, ...]) -> Mark:
        """The token bucket of these values under this limit. limit: what makes it this limit and no other. Do not keep it: of more than
        MOST_BUCKETS the one that was longest not asked for gives way."""
        key = (limit, values)
        mark = self._marks.pop(key, None)
        if mark is None:
            if len(self._marks) >= MOST_BUCKETS:
                self._marks.pop(next(iter(self._marks))).forget()
            own, others = self._tables(_BUCKETS)
            mark = Mark(self._words, own, others, bucket_key(limit, [v if isinstance(v, bytes) else v.encode() for v in values]))
        self._marks[key] = mark  # the last used is the last
        return mark

    def _tables(self, offset: int) -> tuple[int, list[int]]:
        """Where this worker's table of a kind is (-1 = it has none) and where those of the others are."""
        return self._base + offset, [_slot(worker) + offset for worker in range(self.workers) if worker != self.worker]

    def add(self, backend: str, delta: int) -> None:
        """`counter(counter_key(backend)).add(delta)`, for where speed does not matter."""
        self.counter(counter_key(backend)).add(delta)

    def total(self, backend: str) -> int:
        """`counter(counter_key(backend)).total()`, for where speed does not matter."""
        return self.counter(counter_key(backend)).total()

    def __repr__(self) -> str:
        who = "supervisor" if self.worker == SUPERVISOR else f"worker {self.worker}"
        return f"<Shared {who} of {self.workers}, {len(self._own)} ejections of its own>"


def _slot(worker: int) -> int:
    return _HEADER_WORDS + worker * _SLOT_WORDS


def _checksum(key: int, until: int, reason: int, count: int) -> int:
    # Of an empty entry it is 0, so that memory never written is a valid empty entry.
    return zlib.crc32(struct.pack("4Q", key, until, reason, count)) if key else 0
