"""An open-loop HTTP/1.1 load: request i is due at start + i / rate whatever became of the ones before, and its latency is counted
from then, so that a gateway that stalls cannot hide it. Used by the demo, by drills and by benchmarks of failover.

Each request is a trio task; connections are kept and reused. Fit for some hundred requests a second, which is what a drill needs.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

import httptools
import msgspec
import trio

RECEIVE = 65536  # bytes a read: more than any answer of the sample services


class Sample(msgspec.Struct, frozen=True):
    """One request. due_s: when it was due, in seconds since the load began; took_ms: from then until its last byte.
    status 0 and `error` say that there was no answer. target: which of the requests it was; served_by: header x-served-by."""

    due_s: float
    took_ms: float
    status: int
    target: str = ""
    served_by: str = ""
    error: str = ""

    @property
    def failed(self) -> bool:
        """No answer, or one that says the gateway or the service could not."""
        return self.status == 0 or self.status >= 500


class Request(msgspec.Struct, frozen=True):
    """What is sent: GET `path` with Host `host`; `name` appears in the samples. Headers as (name, value)."""

    name: str
    host: str
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()

    def wire(self) -> bytes:
        lines = [
            f"GET {self.path} HTTP/1.1",
            f"host: {self.host}",
            "user-agent: fedgate-load",
            *(f"{k}: {v}" for k, v in self.headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Answer:
    """One response, as httptools reads it."""

    def __init__(self) -> None:
        self.status = 0
        self.served_by = ""
        self.body = b""
        self.complete = False
        self.keep = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Raises HttpParserError on what is not HTTP."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-served-by":
            self.served_by = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True
        self.status = self._parser.get_status_code()
        self.keep = self._parser.should_keep_alive()


class Exchanges:
    """GET requests to one address over kept connections. A cancelled or failed request costs its connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._idle: list[trio.SocketStream] = []

    async def get(self, request: Request) -> Answer:
        """The whole answer. Raises OSError, trio.BrokenResourceError or HttpParserError when there is none."""
        stream = self._reusable() or await trio.open_tcp_stream(*self._address)
        answer = Answer()
        try:
            await stream.send_all(request.wire())
            while not answer.complete:
                data = await stream.receive_some(RECEIVE)
                if not data:
                    raise ConnectionResetError("the gateway closed the connection before its answer was complete")
                answer.feed(data)
        except BaseException:  # cancellation included: a connection with half an answer on it must not be used again
            stream.socket.close()
            raise
        if answer.keep:
            self._idle.append(stream)
        else:
            stream.socket.close()
        return answer

    def close(self) -> None:
        """Closes what is idle."""
        while self._idle:
            self._idle.pop().socket.close()

    def _reusable(self) -> trio.SocketStream | None:
        """An idle connection that the gateway has not closed meanwhile."""
        while self._idle:
            stream = self._idle.pop()
            with contextlib.suppress(BlockingIOError), socket.socket(fileno=os.dup(stream.socket.fileno())) as peek:
                # Readable while idle means closed, or bytes nobody asked for: either way not to be used again.
                peek.setblocking(False)
                peek.recv(1, socket.MSG_PEEK)
                stream.socket.close()
                continue
            return stream
        return None


class Load:
    """`await run()` offers `rate` requests a second for `seconds` to one address; `samples` grows in the order of completion.

    choose(i) gives the i-th request. timeout_s: a request without a complete answer after that has failed. A cancelled run leaves
    the samples so far; requests under way are dropped uncounted.
    """

    def __init__(self, address: tuple[str, int], choose: Callable[[int], Request], *, rate: float, timeout_s: float = 5.0) -> None:
        self.samples: list[Sample] = []
        self.started_at = 0.0  # trio's clock
        self._choose = choose
        self._rate = rate
        self._timeout_s = timeout_s
        self._exchanges = Exchanges(address)

    @property
    def now_s(self) -> float:
        """Seconds since the load began."""
        return trio.current_time() - self.started_at

    async def run(self, seconds: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.started_at = trio.current_time()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                for number in range(int(seconds * self._rate)):
                    due_s = number / self._rate
                    await trio.sleep_until(self.started_at + due_s)
                    nursery.start_soon(self._one, self._choose(number), due_s)
        finally:
            self._exchanges.close()

    async def _one(self, request: Request, due_s: float) -> None:
        status, served_by, error = 0, "", ""
        try:
            with trio.fail_at(self.started_at + due_s + self._timeout_s):
                answer = await self._exchanges.get(request)
                status, served_by = answer.status, answer.served_by
        except trio.TooSlowError:
            error = f"no answer in {self._timeout_s:g} s"
        except (OSError, trio.BrokenResourceError, httptools.HttpParserError) as trouble:
            error = str(trouble.__cause__ or trouble) or type(trouble).__name__
        took_ms = (self.now_s - due_s) * 1000
        self.samples.append(Sample(due_s, took_ms, status, target=request.name, served_by=served_by, error=error))


def percentile(sorted_values: list[float], share: float) -> float:
    """Nearest rank; 0 for nothing."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else 0.0
