"""Steady traffic: clients with kept connections that ask at a given rate, and what came of every request.

async with steadily(gateway.address, gateway.mesh, host=HOST) as steady:
    await steady.more(500)      # so many more answers, whatever happens meanwhile
assert not steady.failed
"""

import collections
import contextlib

import trio
from peers.three import who
from traffic import read_answer, wire

PATIENCE_S = 20.0  # for one answer, on a machine that runs other tests


class Steady:
    """`clients` connections that each ask every `pace_s`; answered: by whom; failed: (when, what) of each request without a 200; slowest:
    seconds. A connection that is lost before its answer is a failure, and is opened anew."""

    def __init__(self, address, port, *, host, clients=10, pace_s=0.03):
        self.address, self.port, self.clients, self.pace_s = address, port, clients, pace_s
        self.answered, self.failed, self.slowest = collections.Counter(), [], 0.0
        self._data = wire(host=host)
        self._began = trio.current_time()
        self._news = trio.Event()

    async def run(self):
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(self.clients):
                nursery.start_soon(self._client, number)

    @property
    def rate(self):
        """Answers a second so far."""
        return self.answered.total() / (trio.current_time() - self._began)

    async def more(self, count, *, within=60.0):
        """Wait for so many more answers; returns who gave them."""
        before = self.answered.copy()
        with trio.fail_after(within):
            while (self.answered - before).total() < count:
                await self._news.wait()
        return self.answered - before

    async def only(self, *names, within=30.0):
        """Wait until twenty requests in a row for each of these names were answered by these and all of these."""
        with trio.fail_after(within):
            while set(await self.more(20 * len(names))) != set(names):
                pass

    async def _client(self, number):
        await trio.sleep(self.pace_s * number / self.clients)
        while True:
            try:
                async with await trio.open_tcp_stream(self.address, self.port) as stream:
                    await self._ask_on(stream)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                self._fail(error)
                await trio.sleep(self.pace_s)

    async def _ask_on(self, stream):
        buffer = b""
        due = trio.current_time()
        while True:
            began = trio.current_time()
            with trio.fail_after(PATIENCE_S):
                await stream.send_all(self._data)
                answer, buffer = await read_answer(stream, buffer)
            self.slowest = max(self.slowest, trio.current_time() - began)
            if answer.status == 200:
                self.answered[who(answer)] += 1
                news, self._news = self._news, trio.Event()
                news.set()
            else:
                self._fail((answer.status, answer.headers, answer.body[:200]))
            if answer.headers.get("connection") == "close":
                return
            due = max(due + self.pace_s, trio.current_time())
            await trio.sleep_until(due)

    def _fail(self, what):
        self.failed.append((round(trio.current_time() - self._began, 2), what))


@contextlib.asynccontextmanager
async def steadily(address, port, *, host, **options):
    """Traffic for as long as the block lasts; the arguments are Steady's."""
    steady = Steady(address, port, host=host, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(steady.run)
        yield steady
        nursery.cancel_scope.cancel()
