"""The open-loop load, against a real small server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from appliance.demo.load import Load, Request, Sample

ANSWER = b"HTTP/1.1 200 OK\r\nx-served-by: here/be-v1\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def server(answer: Callable[[trio.SocketStream, int], object]) -> AsyncIterator[tuple[str, int]]:
    """Calls answer(stream, number of the request) for each request head; counts over all connections."""
    count = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal count
        try:
            while await stream.receive_some(4096):
                count += 1
                await answer(stream, count)  # type: ignore[misc]
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield listeners[0].socket.getsockname()
        nursery.cancel_scope.cancel()


async def offered(answer: Callable[[trio.SocketStream, int], object], count: int, **options: float) -> list[Sample]:
    async with server(answer) as address:
        load = Load(address, lambda i: Request(f"r{i}", "be.test"), rate=200, **options)
        await load.run(count / 200)
        return load.samples


async def test_every_request_is_due_on_time_and_says_who_served_it() -> None:
    async def fine(stream: trio.SocketStream, _: int) -> None:
        await stream.send_all(ANSWER)

    got = sorted(await offered(fine, 20), key=lambda sample: sample.due_s)
    assert [sample.due_s for sample in got] == pytest.approx([i / 200 for i in range(20)])
    assert {sample.served_by for sample in got} == {"here/be-v1"}
    assert {sample.target for sample in got} == {f"r{i}" for i in range(20)}
    assert not any(sample.failed for sample in got)


async def test_no_answer_is_a_failure_with_its_time() -> None:
    async def silent(stream: trio.SocketStream, number: int) -> None:
        if number != 1:
            await stream.send_all(ANSWER)

    got = await offered(silent, 10, timeout_s=0.1)
    failed = [sample for sample in got if sample.failed]
    assert len(failed) == 1
    assert failed[0].error == "no answer in 0.1 s"
    assert failed[0].took_ms >= 99


async def test_a_closed_connection_and_a_5xx_are_failures() -> None:
    async def bad(stream: trio.SocketStream, number: int) -> None:
        if number % 2:
            await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        else:
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal")
            await stream.aclose()

    got = await offered(bad, 10)
    assert len(got) == 10
    assert all(sample.failed for sample in got)
    assert {sample.status for sample in got} == {0, 503}


async def test_a_stalled_server_does_not_stop_the_next_requests() -> None:
    started: list[int] = []

    async def stall(stream: trio.SocketStream, number: int) -> None:
        started.append(number)
        if number == 10:
            for each in everyone:
                await each.send_all(ANSWER)
        else:
            everyone.append(stream)

    everyone: list[trio.SocketStream] = []
    got = await offered(stall, 10, timeout_s=0.3)
    assert len(started) == 10
    assert sum(not sample.failed for sample in got) == 9
