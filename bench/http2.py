"""HTTP/2 and gRPC through fedgate and through its peers: 16 connections of 10 streams each.

`h2`: clear text with prior knowledge and TLS with ALPN, to endpoints that speak HTTP/1.1 and to endpoints that speak HTTP/2. Four kinds
of request: small; with five more headers; those with 5,000 different paths; and with 5,000 different values of one header (by a load
generator of our own, as h2load's headers are always the same; HPACK's dynamic table is used in full). `grpc`: unary calls of small
messages, HTTP/2 on both sides, trailers at the end of each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hpack
from rich.console import Console

from bench import loads
from bench.contest import Case, Contest, Contestant, Reading
from bench.http1 import PATH
from bench.scene import BODY, Scene, scene

MORE = (
    "accept-language: en-GB,en;q=0.9",
    "cache-control: no-cache",
    "x-tenant: example-tenant-0042",
    "x-client-version: 7.31.0",
    "x-session: 5f0c2f7e8b7a4d1f9c1e",
)
DIFFERENT = 5000
SENT_BY_ONE = 20_000  # requests before a connection of load_h2 begins anew
MESSAGE = b"\x0a\x10" + b"m" * 16  # field 1, 16 bytes: a small protobuf message

UPSTREAMS = {"h1": ("HTTP", "backend", ("be", str(BODY))), "h2": ("HTTP2", "backend_h2", ("http", "be", str(BODY)))}
CASES = ("small", "+5", "+5 paths", "+5 values", "tls small", "tls +5 paths")


def different_paths(count: int = DIFFERENT) -> list[str]:
    return [f"/api/v1/users/{number * 7919 % 100_003}/orders/{number}" for number in range(count)]


def header_blocks(requests: Iterable[Sequence[tuple[str, str]]]) -> bytes:
    """What load_h2 reads: each request's fields as one connection's encoder would write them, one after the other."""
    encoder = hpack.Encoder()
    made = []
    for fields in requests:
        block = encoder.encode(fields)
        made.append(struct.pack(">H", len(block)) + block)
    return b"".join(made)


def with_different_values(count: int = SENT_BY_ONE) -> bytes:
    """Requests with five more headers, one of which has DIFFERENT values in turn."""
    pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "be.test"), (":path", PATH), ("user-agent", "load_h2")]
    more = [tuple(line.split(": ", 1)) for line in MORE[:-1]]
    return header_blocks(
        [*pseudo, *((name, value) for name, value in more), ("x-session", f"{number % DIFFERENT * 2654435761 % 2**40:020x}")]
        for number in range(count)
    )


def measure(
    names: Sequence[str],
    *,
    seconds: int,
    rounds: int,
    console: Console,
    upstreams: Sequence[str] = tuple(UPSTREAMS),
    cases: Sequence[str] = CASES,
) -> dict[str, Any]:
    """The `h2` benchmark; what `--json` writes. Cases are named `UPSTREAM: CASE`."""
    contest = Contest("HTTP/2", primary="rps", unit="requests/s", console=console)
    for upstream in upstreams:
        protocol, program, words = UPSTREAMS[upstream]
        with scene() as here:
            here.backend(program, *words)
            proxies = here.proxies(["fedgate", *names], upstream=protocol, downstream="HTTP2")
            contestants = contest.enter(proxies, here.folder, here.processes)
            chosen = {f"{upstream}: {name}": case for name, case in _cases(here, seconds).items() if name in cases}
            contest.run(contestants, chosen, rounds=rounds)
    return contest.summary()


def _cases(here: Scene, seconds: int) -> dict[str, Case]:
    more = [word for line in MORE for word in ("-H", line)]
    paths, blocks = here.folder / "paths", here.folder / "blocks"
    blocks.write_bytes(with_different_values())

    def listed(scheme: str, port: int) -> list[str]:
        paths.write_text("".join(f"{scheme}://127.0.0.1:{port}{path}\n" for path in different_paths()))
        return [*more, "-i", str(paths)]

    def plain(options: Sequence[str], contestant: Contestant) -> Reading:
        return loads.h2load(contestant, options, [f"http://127.0.0.1:{contestant.ports.http}{PATH}"], seconds=seconds)

    def secure(contestant: Contestant) -> Reading:
        return loads.h2load(contestant, (), [f"https://127.0.0.1:{contestant.ports.https}{PATH}"], seconds=seconds)

    return {
        "small": partial(plain, ()),
        "+5": partial(plain, more),
        "+5 paths": lambda one: loads.h2load(one, listed("http", one.ports.http), (), seconds=seconds),
        "+5 values": _values(blocks, seconds),
        "tls small": secure,
        "tls +5 paths": lambda one: loads.h2load(one, listed("https", one.ports.https), (), seconds=seconds),
    }


def _values(blocks: Path, seconds: int) -> Callable[[Contestant], Reading]:
    def measure_one(contestant: Contestant) -> Reading:
        words = ["127.0.0.1", str(contestant.ports.http), "16", "10", str(seconds), str(blocks)]
        amounts = {"rps": "rps", "p50_us": "p50_us", "p99_us": "p99_us"}
        return loads.own(contestant, "load_h2", *words, amounts=amounts)

    return measure_one


def measure_grpc(names: Sequence[str], *, seconds: int, rounds: int, console: Console) -> dict[str, Any]:
    """The `grpc` benchmark: clear text and TLS."""
    contest = Contest("gRPC unary", primary="rps", unit="calls/s", console=console)
    with scene() as here:
        here.backend("backend_h2", "grpc", "be", str(len(MESSAGE)))
        message = here.folder / "message"
        message.write_bytes(struct.pack(">BI", 0, len(MESSAGE)) + MESSAGE)
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 10S", "-d", str(message)]

        def case(scheme: str, contestant: Contestant) -> Reading:
            port = contestant.ports.https if scheme == "https" else contestant.ports.http
            url = f"{scheme}://127.0.0.1:{port}/shop.v1.Orders/Get"
            return loads.h2load(contestant, headers, [url], seconds=seconds)

        proxies = here.proxies(["fedgate", *names], upstream="GRPC", downstream="HTTP2")
        contestants = contest.enter(proxies, here.folder, here.processes)
        contest.run(contestants, {"clear": partial(case, "http"), "tls": partial(case, "https")}, rounds=rounds)
    return contest.summary()
