"""Reads what a project has in OpenStack: load balancers with their members, servers, ports.

Each reading is whole or raises, with one exception: of a pool whose members could not be read those of the last reading stand, and
such pools are named. So one that is being deleted, or one answer lost among hundreds, never takes members away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from discovery.clients.openstack import CloudError, OpenStackClient
from discovery.nova import NeutronPort, Server
from discovery.octavia import Balancing, Listener, LoadBalancer, Member, Pool

T = TypeVar("T")


class CloudReader:
    """Reads as one project; asks for what belongs to that project only, also when the credentials could see more."""

    def __init__(self, client: OpenStackClient, project: str) -> None:
        self._client = client
        self._project = project
        self._members: dict[str, tuple[Member, ...]] = {}

    async def balancing(self) -> tuple[Balancing, dict[str, CloudError]]:
        """Octavia as it stands, and the pools of which nobody could say the members: what was last known of them stands, if anything was.
        Raises CloudError when load balancers, listeners or pools could not be listed."""
        balancers: list[LoadBalancer] = []
        listeners: list[Listener] = []
        pools: list[Pool] = []
        await _together(
            lambda: self._into(balancers, "loadbalancers", LoadBalancer),
            lambda: self._into(listeners, "listeners", Listener),
            lambda: self._into(pools, "pools", Pool),
        )
        wanted = {listener.default_pool_id for listener in listeners}
        failed: dict[str, CloudError] = {}
        members: dict[str, tuple[Member, ...]] = {}

        async def read(pool: Pool) -> None:
            try:
                found = await self._client.listing("load_balancer", f"/lbaas/pools/{pool.id}/members", "members", Member)
                members[pool.id] = tuple(sorted(found, key=lambda member: member.id))
            except CloudError as error:
                failed[pool.id] = error
                if pool.id in self._members:
                    members[pool.id] = self._members[pool.id]

        async with trio.open_nursery() as nursery:  # the client's limiter bounds how many ask at once
            for pool in pools:
                if pool.id in wanted:
                    nursery.start_soon(read, pool)
        self._members = members
        return Balancing(tuple(balancers), tuple(listeners), tuple(pools), members), failed

    async def servers(self) -> list[Server]:
        """Nova's servers with their metadata. Raises CloudError."""
        return await self._client.listing("compute", "/servers/detail", "servers", Server)

    async def ports(self) -> list[NeutronPort]:
        """Neutron's ports of servers: addresses, states and zones. Raises CloudError."""
        found = await self._client.listing("network", "/ports", "ports", NeutronPort, project_id=self._project)
        return [port for port in found if port.device_owner.startswith("compute:")]

    async def _into(self, found: list[T], path: str, kind: type[T]) -> None:
        found += await self._client.listing("load_balancer", f"/lbaas/{path}", path, kind, project_id=self._project)


async def _together(*calls: Callable[[], Awaitable[None]]) -> None:
    """All at once; raises the first CloudError when all have ended."""
    failed: list[CloudError] = []

    async def run(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except CloudError as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(run, call)
    if failed:
        raise failed[0]
