"""Where everything is put together: the one place that names concrete classes.

`main` is the `fedgate` command; `control` is the control process. Both import what they run when they run it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.admin.app import View
    from appliance.control import Begun, Parts
    from federation.resources.document import Document
    from federation.resources.node import Node


def main() -> int:
    """The console script. Exit statuses: 0 done, 1 failed, 2 wrong usage."""
    from appliance.cli.root import app

    app()
    return 0


def control(arguments: Sequence[str]) -> int:
    """The control process, as the supervisor starts it."""
    from appliance import control as process

    return process.main(arguments, begin, view)


def begin(paths: Sequence[str]) -> Begun:
    """The plane of the one Node document in these paths. Raises CannotBegin."""
    from appliance import registries
    from appliance.anyip import AnyIp
    from appliance.control import Begun
    from appliance.messages import Settings
    from appliance.state import StateDirectory
    from discovery.documents.file import FileDocuments
    from discovery.sources.dns import DnsSource
    from discovery.sources.static import StaticSource
    from federation.compile.inputs import located
    from federation.plane import Plane
    from federation.surroundings import Factories
    from federation.trust.keeper import Keeper
    from federation.vip_keeper import VipKeeper
    from federation.vips import Ranges
    from federation.workloads.office import Office

    node = the_node(paths)
    spec = node.spec
    state = os.path.abspath(located(spec.state_dir, node.origin))
    names = [spec.advertise.east_west.host] if spec.advertise.east_west else []
    folder = os.path.dirname(node.origin.file)
    office = Office(Path(state))
    store = registries.shared_store(spec.shared, folder) if spec.shared is not None else None
    plane = Plane(
        node,
        [FileDocuments(paths)],
        Factories(
            StaticSource,
            DnsSource,
            registries.registry,
            registries.documents,
            registries.publisher,
        ),
        Keeper(Path(state), spec.trust_domain, cluster=spec.cluster, dns_names=names),
        remembered=StateDirectory(Path(state)).load_remembered(),
        workloads=office,
        vips=VipKeeper(
            Ranges.parse(spec.vips.range, spec.vips.range6),
            Path(state),
            store=store,
            prefix=f"vips/{spec.cluster}",
            reach=AnyIp(),
            add_route=spec.vips.add_route,
        ),
    )
    settings = Settings(workers=spec.workers or len(os.sched_getaffinity(0)), drain_ms=spec.drain_duration, state_dir=state)
    return Begun(plane, settings, office)


def the_node(paths: Sequence[str]) -> Document[Node]:
    """The Node document in these paths. Raises CannotBegin, with every line that says why, unless there is exactly one good one."""
    from appliance.control import CannotBegin
    from discovery.documents.file import list_files, read_file
    from federation.resources.read import read

    listing = list_files(paths)
    read_files = [read_file(file) for file in listing.files]
    resources = read(document for documents, _ in read_files for document in documents)
    if len(resources.nodes) == 1:
        return resources.nodes[0]
    wrong = [str(problem) for problem in resources.problems if problem.kind == "Node"]
    unread = [str(error) for error in (*listing.errors, *(error for _, errors in read_files for error in errors))]
    where = ", ".join(str(path) for path in paths)
    if resources.nodes:
        several = ", ".join(str(node.origin) for node in resources.nodes)
        raise CannotBegin(
            [f"{where}: {len(resources.nodes)} Node documents ({several}); a gateway is one Node, take the others out"]
        )
    raise CannotBegin(
        wrong
        or [*unread, f"{where}: no Node document (apiVersion fedgate.io/v1, kind Node); write one, its spec needs `cluster` only"]
    )


def view(parts: Parts) -> View:
    """What the admin API shows."""
    from appliance.admin.gateway import GatewayView, Nothing
    from appliance.admin.knowledge import PlaneKnowledge
    from federation.plane import Plane

    knowledge = PlaneKnowledge(parts.plane) if isinstance(parts.plane, Plane) else Nothing()
    return GatewayView(parts, knowledge)


if __name__ == "__main__":
    sys.exit(main())
