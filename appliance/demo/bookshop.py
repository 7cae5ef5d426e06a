"""The bookshop's services: one small HTTP server a process, as a workload behind the gateways would be.

    python -m appliance.demo.bookshop SERVICE CLUSTER ADDRESS GATEWAY VERSION=PORT…

productpage asks details and reviews, reviews v2 and v3 ask ratings, each by its service name at the own cluster's gateway (GATEWAY,
its `http` port). A service that cannot get what it needs answers 502: nothing is papered over.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from typing import Any

import httptools
import trio

from appliance.children import die_with_parent
from appliance.demo.load import Exchanges, Request
from appliance.demo.world import MESH_PORT, hostname

NEEDS = {"productpage": ("details", "reviews"), "reviews": ("ratings",)}
PATIENCE_S = 3.0  # a service waits this long for another; longer than the gateways need to notice a silent region
DATA: dict[str, dict[str, Any]] = {
    "details": {"title": "The Comedy of Errors", "author": "William Shakespeare", "pages": 200, "year": 1595},
    "ratings": {"reviewer 1": 5, "reviewer 2": 4},
}


class _Heads:
    """Collects requests from httptools; these services only look at the target."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []
        self._url = b""

    def on_message_begin(self) -> None:
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        self.targets.append(self._url)


class Workload:
    """One service of one cluster, in one or more versions."""

    def __init__(self, service: str, cluster: str, gateway: str) -> None:
        self._service = service
        self._cluster = cluster
        self._others = Exchanges((gateway, MESH_PORT))

    async def serve(self, version: str, stream: trio.SocketStream) -> None:
        """Answers one client until it goes away."""
        heads = _Heads()
        parser = httptools.HttpRequestParser(heads)
        with contextlib.suppress(OSError, trio.BrokenResourceError, httptools.HttpParserError):
            async with stream:
                while data := await stream.receive_some(65536):
                    parser.feed_data(data)
                    targets, heads.targets = heads.targets, []
                    for target in targets:
                        await stream.send_all(await self._answer(version, target))

    async def _answer(self, version: str, target: bytes) -> bytes:
        status = 200
        content: dict[str, Any] = {"service": self._service, "version": version, "cluster": self._cluster}
        if target != b"/healthz":
            try:
                content |= DATA.get(self._service, {}) | await self._ask_others(version)
            except (OSError, RuntimeError, trio.TooSlowError, trio.BrokenResourceError, httptools.HttpParserError) as trouble:
                status, content = 502, {"error": f"{self._service} in {self._cluster}: {trouble or type(trouble).__name__}"}
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Bad Gateway'}\r\ncontent-type: application/json\r\n"
        who = f"x-served-by: {self._cluster}/{self._service}-{version}\r\ncontent-length: {len(body)}\r\n\r\n"
        return (head + who).encode() + body

    async def _ask_others(self, version: str) -> dict[str, Any]:
        got: dict[str, Any] = {}
        for other in NEEDS.get(self._service, ()):
            if self._service == "reviews" and version == "v1":  # v1 shows no stars
                continue
            with trio.fail_after(PATIENCE_S):
                answer = await self._others.get(Request(other, hostname(other)))
            if answer.status != 200:
                raise RuntimeError(f"{other} answered {answer.status}")
            got[other] = json.loads(answer.body)
        return got


async def run(service: str, cluster: str, address: str, gateway: str, versions: dict[str, int]) -> None:
    """Listens for every version until cancelled."""
    workload = Workload(service, cluster, gateway)
    async with trio.open_nursery() as nursery:
        for version, port in versions.items():
            handler = functools.partial(workload.serve, version)
            await nursery.start(functools.partial(trio.serve_tcp, handler, port, host=address))


def main() -> None:
    service, cluster, address, gateway, parent, *versions = sys.argv[1:]
    die_with_parent(int(parent))
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(run, service, cluster, address, gateway, {v.split("=")[0]: int(v.split("=")[1]) for v in versions})


if __name__ == "__main__":
    main()
