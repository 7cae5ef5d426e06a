"""A Publisher to Designate: the merged catalog as records of a zone.

Theory of operation. The zone is listed once, then again every minute, after any failure, and while records of ours are not yet
answered by its nameservers; between that our own writes are noted, so one change costs one write. Writes are spaced, and give way to a
newer catalog: what is written is always of the latest. `zone_records` decides what; here it is done.
"""

from __future__ import annotations

import random

import msgspec
import structlog
import trio

from discovery.backoff import DEFAULT, Backoff, BackoffPolicy, Random
from discovery.clients.openstack import CloudAccess, CloudError, OpenStackClient
from discovery.watch import Watchable
from federation.publish.publication import Publications, PublisherStatus
from federation.publish.zone_records import Name, Plan, RecordSet, ZoneOptions, ZonePlanner, wished

_RESYNC = 60.0  # seconds: what others did to our records stands no longer
_SETTLING = BackoffPolicy(base=2.0, cap=_RESYNC)  # Designate's workers poll nameservers every few seconds
_log = structlog.get_logger()


class DesignateOptions(msgspec.Struct, frozen=True):
    """writes_per_second: at most."""

    access: CloudAccess
    zone: ZoneOptions
    writes_per_second: float = 5.0


class _Zone(msgspec.Struct, frozen=True):
    id: str
    name: str


class DesignatePublisher:
    """See Publisher. `leave` takes back every record set with our owner's mark, whoever of the equal gateways wrote it."""

    def __init__(
        self, name: str, options: DesignateOptions, *, rng: Random = random.random, client: OpenStackClient | None = None
    ) -> None:
        self.name = name
        self.status = Watchable(PublisherStatus(name))
        self._options = options
        self._rng = rng
        self._client = client or OpenStackClient(options.access)
        self._planner = ZonePlanner(options.zone)
        self._zone = ""
        self._standing: dict[Name, RecordSet] = {}
        self._stale_at = 0.0
        self._conflicts: frozenset[str] = frozenset()

    async def run(
        self, publications: Watchable[Publications], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what differs until cancelled. Cancelled, a request that is under way may still be done."""
        failing, settling = Backoff(DEFAULT, self._rng), Backoff(_SETTLING, self._rng)
        task_status.started()
        self._stale_at = trio.current_time()
        while True:
            seen = publications.version
            try:
                left = await self._reconcile(publications)
            except CloudError as error:
                self._say(error=str(error))
                self._stale_at = trio.current_time()
                await trio.sleep(failing.failed())
                continue
            failing.succeeded()
            self._say(pending=left)
            if not left:
                settling.succeeded()
            elif publications.version == seen:
                self._stale_at = min(self._stale_at, trio.current_time() + settling.failed())
            with trio.move_on_at(self._stale_at):
                await publications.newer_than(seen)

    async def leave(self) -> None:
        """Take our records back. Raises CloudError; what was not deleted then stands."""
        await self._list()
        for standing in [each for each in self._standing.values() if self._planner.ours(each)]:
            await self._delete(standing)
        self._say()
        self._client.close()

    async def _reconcile(self, publications: Watchable[Publications]) -> int:
        """One pass. Returns how many record sets are not as they should be yet: to be written, or not answered yet."""
        if trio.current_time() >= self._stale_at:
            await self._list()
        wanted, version = publications.value, publications.version
        wishes, clashes = wished(wanted, self._options.zone)
        plan = self._planner.plan(wishes, self._standing)
        self._conflicted(plan.conflicts | clashes)
        if plan.size:
            self._say(pending=plan.size)
        done = await self._write(plan, publications, version)
        pending = sum(1 for each in self._standing.values() if self._planner.ours(each) and each.status != "ACTIVE")
        return plan.size - done + pending

    async def _write(self, plan: Plan, publications: Watchable[Publications], version: int) -> int:
        """Do what was planned, as long as nothing newer is known. Returns how much of it was done."""
        done = 0
        for standing, records in plan.update:
            await self._update(standing, records)
            if await self._pause(publications, version, done := done + 1):
                return done
        for standing in plan.delete:
            await self._delete(standing)
            if await self._pause(publications, version, done := done + 1):
                return done
        for key, records in plan.create:
            await self._create(key, records)
            if await self._pause(publications, version, done := done + 1):
                return done
        return done

    async def _pause(self, publications: Watchable[Publications], version: int, done: int) -> bool:
        """Space the writes. True if the catalog has changed meanwhile."""
        self._say(pending=max(self.status.value.pending - 1, 0))
        await trio.sleep(1 / self._options.writes_per_second)
        return publications.version != version

    async def _list(self) -> None:
        """Read the zone: the truth about what stands."""
        zone = self._options.zone.origin
        if not self._zone:
            zones = await self._client.listing("dns", "/zones", "zones", _Zone, name=zone)
            if not zones:
                raise CloudError(
                    f"{self._options.access} has no zone {zone} in this project; create it, or look at the credentials"
                )
            self._zone = zones[0].id
        try:
            found = await self._client.listing("dns", f"/zones/{self._zone}/recordsets", "recordsets", RecordSet, limit="1000")
        except CloudError as error:
            if error.status == 404:
                self._zone = ""  # deleted, and perhaps made anew
            raise
        self._standing = {each.key: each for each in found}
        self._planner.listed(self._standing)
        self._stale_at = trio.current_time() + _RESYNC

    async def _create(self, key: Name, records: tuple[str, ...]) -> None:
        name, kind = key
        body = {"name": name, "type": kind, **self._body(records)}
        try:
            answer = await self._client.send("dns", "POST", f"/zones/{self._zone}/recordsets", body)
        except CloudError as error:
            if error.status != 409:
                raise
            self._look_again()  # somebody was faster: the next listing says who
            return
        made = msgspec.json.decode(answer, type=_Made)
        self._note(RecordSet(made.id, name, kind, records, self._options.zone.ttl, self._options.zone.description, "PENDING"))
        _log.info("designate.created", publisher=self.name, record=name, type=kind, records=records)

    async def _update(self, standing: RecordSet, records: tuple[str, ...]) -> None:
        try:
            await self._client.send("dns", "PUT", self._path(standing), self._body(records))
        except CloudError as error:
            if error.status not in (404, 409):
                raise
            self._look_again()  # it is gone, or is being deleted
            return
        self._note(msgspec.structs.replace(standing, records=records, ttl=self._options.zone.ttl, status="PENDING"))
        _log.info("designate.updated", publisher=self.name, record=standing.name, type=standing.type, records=records)

    async def _delete(self, standing: RecordSet) -> None:
        try:
            await self._client.send("dns", "DELETE", self._path(standing))
        except CloudError as error:
            if error.status != 404:
                raise
        self._standing.pop(standing.key, None)
        self._planner.wrote(standing.key, None)
        _log.info("designate.deleted", publisher=self.name, record=standing.name, type=standing.type)

    def _look_again(self) -> None:
        self._stale_at = min(self._stale_at, trio.current_time() + _SETTLING.base)

    def _path(self, standing: RecordSet) -> str:
        return f"/zones/{self._zone}/recordsets/{standing.id}"

    def _body(self, records: tuple[str, ...]) -> dict[str, object]:
        zone = self._options.zone
        return {"records": list(records), "ttl": zone.ttl, "description": zone.description}

    def _note(self, standing: RecordSet) -> None:
        self._standing[standing.key] = standing
        self._planner.wrote(standing.key, standing.records)

    def _conflicted(self, conflicts: frozenset[str]) -> None:
        for name in sorted(conflicts - self._conflicts):
            _log.warning("designate.conflict", publisher=self.name, record=name, reason="somebody else writes it: it is left alone")
        self._conflicts = conflicts

    def _say(self, *, pending: int | None = None, error: str = "") -> None:
        """Pending None: as before."""
        if error and error != self.status.value.error:
            _log.warning("designate.failed", publisher=self.name, error=error)
        status = PublisherStatus(
            self.name,
            connected=not error,
            published=sum(1 for each in self._standing.values() if self._planner.ours(each)),
            pending=self.status.value.pending if pending is None else pending,
            conflicts=tuple(sorted(self._conflicts)),
            error=error,
        )
        if status != self.status.value:
            self.status.set(status)

    def __repr__(self) -> str:
        return f"<DesignatePublisher {self.name} zone={self._options.zone.origin} {self.status.value}>"


class _Made(msgspec.Struct, frozen=True):
    id: str
