"""What the processes of one gateway say to each other: tagged unions, one per direction.

Three conversations, each over its own socket pair (DESIGN section 2, "Processes"):
    supervisor ↔ control    packets that may carry descriptors: which sockets to bind, the pipes to the workers
    supervisor ↔ worker     packets that may carry descriptors: sockets, shared memory, the pipe to control, drain
    control ↔ worker        frames on a stream: Deltas, keys, Verdicts one way; reports and statistics the other
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.engine import Report, Statistics
from gateway.snapshot import Delta, ListenerKind, Part
from gateway.verdicts import VerdictsDelta

# ------------------------------------------------------------------------------------------------ supervisor → control


class BeginControl(msgspec.Struct, frozen=True, tag="begin-control"):
    """The first word to a control process. settings: what its predecessor said, None for the first one."""

    paths: tuple[str, ...]
    settings: Settings | None = None


class WorkerPipe(msgspec.Struct, frozen=True, tag="worker-pipe"):
    """A worker is there. Descriptors: [stream of frames, packets that carry handed-off connections]. restarts: of this number so far."""

    worker: int
    pid: int
    restarts: int = 0


class WorkerGone(msgspec.Struct, frozen=True, tag="worker-gone"):
    """A worker's process ended. status: exit status, or minus the signal that killed it."""

    worker: int
    status: int


class Bound(msgspec.Struct, frozen=True, tag="bound"):
    """Outcome of the last Listen: key → why it could not be bound; every other key that was asked for is listening."""

    listening: tuple[str, ...]
    faults: Mapping[str, str] = {}


class AdminSocket(msgspec.Struct, frozen=True, tag="admin-socket"):
    """Descriptor: [the listening socket of an ADMIN listener]."""

    key: str


class Reload(msgspec.Struct, frozen=True, tag="reload"):
    """SIGHUP: read everything again."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """The workers are gone; end."""


ToControl = BeginControl | WorkerPipe | WorkerGone | Bound | AdminSocket | Reload | Stop

# ------------------------------------------------------------------------------------------------ control → supervisor


class Settings(msgspec.Struct, frozen=True, tag="settings"):
    """What the supervisor must know of the Node document. Only the first counts for `workers`: SO_REUSEPORT sockets are made per
    worker, so another number takes a restart of the whole gateway. state_dir: absolute."""

    workers: int
    drain_ms: int
    state_dir: str


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """One socket to listen on; ADMIN ones go to control, all others to the workers. datagrams: UDP, else TCP."""

    key: str
    address: str
    port: int
    kind: ListenerKind
    datagrams: bool = False

    @property
    def admin(self) -> bool:
        return self.kind is ListenerKind.ADMIN


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """Every socket that shall be listening; what is bound and not named is closed."""

    wanted: tuple[Wanted, ...]


FromControl = Settings | Listen

# ------------------------------------------------------------------------------------------------- supervisor → worker


class BeginWorker(msgspec.Struct, frozen=True, tag="begin-worker"):
    """The first word to a worker. Descriptors: [shared memory]."""

    worker: int
    workers: int


class Take(msgspec.Struct, frozen=True, tag="take"):
    """Descriptors: one listening socket per worker, in their order. A key taken before is replaced."""

    key: str


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Nobody listens on this key any more."""

    key: str


class ControlPipe(msgspec.Struct, frozen=True, tag="control-pipe"):
    """A control process is there. Descriptors: [stream of frames, packets for handed-off connections]."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Finish what runs, take nothing new, exit with status 0 after at most `ms`. Control may say it too, to one worker."""

    ms: int


ToWorker = BeginWorker | Take | Leave | ControlPipe | Drain

# --------------------------------------------------------------------------------------------------- control → worker


class Keys(msgspec.Struct, frozen=True, tag="keys"):
    """Private keys, by digest, that the Snapshot sent next names. whole: forget all others."""

    keys: Mapping[str, bytes]
    remove: tuple[str, ...] = ()
    whole: bool = False

    def __repr__(self) -> str:
        return f"Keys({len(self.keys)} [redacted], remove={len(self.remove)}, whole={self.whole})"


class Pieces(msgspec.Struct, frozen=True, tag="pieces"):
    """Parts of the SnapshotDelta that comes next, which is too large for one message: first begins a new one."""

    first: bool
    parts: tuple[Part, ...]


class SnapshotDelta(msgspec.Struct, frozen=True, tag="snapshot"):
    """The first one on a pipe is whole (base ""). The parts of the Pieces before it belong to it."""

    delta: Delta


class Overlay(msgspec.Struct, frozen=True, tag="verdicts"):
    """The first one on a pipe is whole."""

    delta: VerdictsDelta


class Collect(msgspec.Struct, frozen=True, tag="collect"):
    """Answer with Collected of the same number."""

    number: int


class SetLogLevel(msgspec.Struct, frozen=True, tag="log-level"):
    level: str


FromControlToWorker = Keys | Pieces | SnapshotDelta | Overlay | Collect | SetLogLevel | Drain

# --------------------------------------------------------------------------------------------------- worker → control


class Have(msgspec.Struct, frozen=True, tag="have"):
    """The first word on a pipe: the Snapshot that this worker has, "" = none."""

    version: str


class Reported(msgspec.Struct, frozen=True, tag="reported"):
    """Something that this worker's engine said."""

    report: Report


class Collected(msgspec.Struct, frozen=True, tag="collected"):
    """number: of the Collect that asked; 0 = unasked, a worker's last words before it exits."""

    number: int
    statistics: Statistics


class Resend(msgspec.Struct, frozen=True, tag="resend"):
    """A delta did not fit what this worker has: send everything again, whole."""

    reason: str


FromWorker = Have | Reported | Collected | Resend
