"""How exchanges come by connections: shared ones, ones of their own, and who waits for which."""

import contextlib

import h2.settings
import trio
import trio.testing
from h2_talk import Client, Http2Workload
from native_engine import NAME, OK, Workload, backend, endpoint, forward, host, read_until, running
from relaying import AUTHORITY, server_context

from gateway.snapshot import EndpointSet, Http2, Limits, UpstreamTls, UpstreamTlsMode

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
SOON = 15  # seconds: well before the route's time ends


def parts(*workloads, **options):
    options.setdefault("http2", Http2(always=True))
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(forward(timeout_ms=30_000)),
    )


class Slow:
    """Answers requests one at a time, each when it is let go."""

    def __init__(self):
        self.go = trio.Semaphore(0)

    async def two(self, peer, sid, head, body):
        await self.go.acquire()
        peer.connection.send_headers(sid, [(":status", "204")], end_stream=True)
        await peer.flush()

    async def one(self, stream, data):
        if data.startswith(b"PRI"):
            return False
        await self.go.acquire()
        await stream.send_all(OK)
        return True


async def waits(gateway, count):
    """Until so many requests wait for a connection."""
    while gateway.engine.runtime.states[NAME].queued < count:
        await trio.testing.wait_all_tasks_blocked(0.005)


async def test_who_may_open_no_connection_takes_the_stream_that_another_leaves():
    slow = Slow()
    workload = Http2Workload(slow.two, settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    async with running(*parts(workload, limits=Limits(connections=1)), workloads=[workload]) as gateway:
        slow.go.release()
        assert (await gateway.get()).startswith(b"HTTP/1.1 204")  # its settings are known from now on
        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(gateway.get)
                await waits(gateway, 3)
                for _ in range(4):
                    slow.go.release()
        assert workload.connections == 1
        assert len(workload.heads) == 5


async def test_http_2_is_never_spoken_on_a_connection_of_http_1():
    """Neither on one that is kept, nor on one that is given back to who waits."""
    for held in (False, True):
        slow = Slow()
        workload = Workload(slow.one)
        options = {"http2": Http2(client=True), "limits": Limits(connections=int(held))}
        async with (
            running(*parts(workload, **options), workloads=[workload]) as gateway,
            await gateway.connect() as stream,
            Client.to(gateway.port) as client,
        ):
            await stream.send_all(GET)
            if not held:
                slow.go.release()
                await read_until(stream, b"ok")
            else:
                while not workload.requests:
                    await trio.testing.wait_all_tasks_blocked(0.005)
            talk = await client.start()
            if held:
                await waits(gateway, 1)
                slow.go.release()
                await read_until(stream, b"ok")
            with trio.fail_after(SOON):
                await talk.ended.wait()
        assert workload.connections == 2
        assert workload.requests[0].startswith(b"GET ")
        assert workload.requests[1].startswith(b"PRI ")


async def test_what_was_dialled_for_a_host_that_is_gone_meanwhile_is_for_one_request():
    slow = Slow()
    workload = Http2Workload(slow.two, settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    async with running(*parts(workload, limits=Limits(connections=1)), workloads=[workload]) as gateway:
        slow.go.release()
        assert (await gateway.get()).startswith(b"HTTP/1.1 204")
        (known,) = gateway.engine.runtime.states[NAME].hosts.values()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.get)
            nursery.start_soon(gateway.get)
            await waits(gateway, 1)
            gateway.snapshots.set(gateway.snapshot(backend(http2=Http2(always=True)), EndpointSet(NAME, ()), host(forward())))
            while not known.pool.closed:
                await trio.testing.wait_all_tasks_blocked(0.005)
            slow.go.release()
            slow.go.release()
        assert workload.connections == 2
        with trio.fail_after(SOON):
            while known.pool.multiplexed or known.opened:
                await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_connection_that_is_going_closes_with_its_last_stream_however_that_ends():
    async def early(peer, sid, head):
        """GOAWAY, and an answer that needs no body."""
        peer.connection.send_headers(sid, [(":status", "413")], end_stream=True)
        peer.connection.reset_stream(sid, 0)
        data = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + sid.to_bytes(4, "big") + bytes(4) + peer.connection.data_to_send()
        async with peer.writing:
            await peer.stream.send_all(data)

    async def late(peer, sid, head, body):
        """Nothing more."""

    workload = Http2Workload(late, early=early)
    async with running(*parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
        (known,) = gateway.engine.runtime.states[NAME].hosts.values()
        with trio.fail_after(SOON):
            while known.pool.multiplexed:
                await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_connection_whose_goaway_refuses_all_that_is_on_it_closes():
    async def early(peer, sid, head):
        async with peer.writing:
            await peer.stream.send_all(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8))

    async def late(peer, sid, head, body):
        """Nothing more."""

    workload = Http2Workload(late, early=early)
    async with running(*parts(workload), workloads=[workload]) as gateway:
        assert (await gateway.get()).startswith(b"HTTP/1.1 503")
        (known,) = gateway.engine.runtime.states[NAME].hosts.values()
        with trio.fail_after(SOON):
            while known.pool.multiplexed:
                await trio.testing.wait_all_tasks_blocked(0.005)


async def test_connections_are_kept_for_good_where_no_idle_timeout_is():
    workload = Workload()
    options = {"http2": None, "idle_timeout_ms": 0}
    async with running(*parts(workload, **options), workloads=[workload]) as gateway, await gateway.connect() as stream:
        for _ in range(3):
            await stream.send_all(GET)
            await read_until(stream, b"ok")
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert workload.connections == 1


async def test_extended_connect_waits_for_the_settings_of_a_new_connection():
    connects = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    ask = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n\r\n"

    async def early(peer, sid, head):
        peer.connection.send_headers(sid, [(":status", "200")])
        await peer.flush()

    async def late(peer, sid, head, body):
        """Nothing more."""

    workload = Http2Workload(late, early=early, settings=connects)
    async with running(*parts(workload), workloads=[workload]) as gateway:
        for _ in range(2):
            async with await gateway.connect() as stream:
                await stream.send_all(ask)
                assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")


async def test_an_endpoint_that_never_says_its_settings_is_not_waited_for_longer_than_the_route():
    closing = trio.Event()

    async def silent(stream):
        async with stream:
            if closing.is_set():
                return
            closing.set()
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass

    ask = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n\r\n"
    workload = Workload()
    workload._serve = silent
    routed = parts(workload)[:2]
    async with running(*routed, host(forward(timeout_ms=200)), workloads=[workload]) as gateway:
        for status in (b"504", b"503"):  # it says nothing; it closes
            async with await gateway.connect() as stream:
                await stream.send_all(ask)
                with trio.fail_after(SOON):
                    assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)
            (known,) = gateway.engine.runtime.states[NAME].hosts.values()
            for connection in list(known.pool.multiplexed):
                connection.close()


class Both(Http2Workload):
    """Speaks both versions. Answers each request when it is let go, and notes who asked: 1 or 2."""

    def __init__(self):
        self.go = trio.Semaphore(0)
        self.asked = []
        super().__init__(self._two, settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100})

    async def _two(self, peer, sid, head, body):
        self.asked.append(2)
        await self.go.acquire()
        peer.connection.send_headers(sid, [(":status", "204")], end_stream=True)
        await peer.flush()

    async def _serve(self, stream):
        first = await stream.receive_some(65536)
        if first.startswith(b"PRI"):
            await super()._serve(Again(stream, first))
        else:
            with contextlib.suppress(trio.BrokenResourceError):
                while first:
                    self.asked.append(1)
                    await self.go.acquire()
                    await stream.send_all(OK)
                    first = await stream.receive_some(65536)
            await stream.aclose()


class Again:
    """A stream whose first bytes were read."""

    def __init__(self, stream, first):
        self.stream, self.first = stream, first

    async def receive_some(self, size):
        first, self.first = self.first, b""
        return first or await self.stream.receive_some(size)

    async def send_all(self, data):
        await self.stream.send_all(data)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        await trio.aclose_forcefully(self.stream)


@contextlib.asynccontextmanager
async def one_connection():
    """(gateway, an endpoint that may be connected to once, a client of HTTP/1, one of HTTP/2), which are spoken to as they speak."""
    workload = Both()
    options = {"http2": Http2(client=True), "limits": Limits(connections=1)}
    async with (
        running(*parts(workload, **options), workloads=[workload]) as gateway,
        await gateway.connect() as stream,
        Client.to(gateway.port) as client,
    ):
        with trio.fail_after(SOON):
            yield gateway, workload, stream, client


async def asked(workload, count):
    while len(workload.asked) < count:
        await trio.testing.wait_all_tasks_blocked(0.005)


async def test_an_idle_connection_of_the_other_version_gives_its_place():
    async with one_connection() as (_, workload, stream, client):
        for _ in range(8):
            workload.go.release()
        for _ in range(2):
            await stream.send_all(GET)
            await read_until(stream, b"ok")
            assert (await client.ask()).status == 204
            assert (await client.ask()).status == 204
        assert workload.asked == [1, 2, 2, 1, 2, 2]


async def test_who_cannot_speak_http_2_is_not_starved_by_those_who_do():
    """Their connection is never idle, so it has to be left."""
    async with one_connection() as (gateway, workload, stream, client):
        talks = [await client.start()]
        await asked(workload, 1)
        talks.append(await client.start())
        await asked(workload, 2)
        await stream.send_all(GET)
        await waits(gateway, 1)
        workload.go.release()
        while not any(talk.ended.is_set() for talk in talks):
            await trio.testing.wait_all_tasks_blocked(0.005)
        talks.append(await client.start())  # behind the one who waits
        await waits(gateway, 2)
        for _ in range(3):
            workload.go.release()
        await read_until(stream, b"ok")
        for talk in talks:
            await talk.ended.wait()
        assert [talk.status for talk in talks] == [204] * 3
        assert workload.asked == [2, 2, 1, 2]


class EachInTurn(Both):
    """Answers a request of HTTP/2 when its own event is set. ends: of the requests, in their order."""

    def __init__(self):
        super().__init__()
        self.ends = []

    async def _two(self, peer, sid, head, body):
        end = trio.Event()
        self.ends.append(end)
        self.asked.append(2)
        await end.wait()
        peer.connection.send_headers(sid, [(":status", "204")], end_stream=True)
        await peer.flush()


async def test_for_one_who_cannot_share_one_connection_goes_and_the_others_stay():
    workload = EachInTurn()
    options = {"http2": Http2(client=True, streams=2), "limits": Limits(connections=3)}
    async with (
        running(*parts(workload, **options), workloads=[workload]) as gateway,
        await gateway.connect() as stream,
        Client.to(gateway.port) as client,
    ):
        with trio.fail_after(SOON):
            talks = []
            for number in range(6):  # two on each of three connections
                talks.append(await client.start())
                await asked(workload, number + 1)
            await stream.send_all(GET)
            await waits(gateway, 1)
            talks.append(await client.start())
            await waits(gateway, 2)
            for number in (0, 2, 4):
                workload.ends[number].set()
                await talks[number].ended.wait()
            (known,) = gateway.engine.runtime.states[NAME].hosts.values()
            assert [each.going for each in known.pool.multiplexed].count(True) == 1
            await asked(workload, 7)  # who waited behind him finds room on those that stay
            talks.append(await client.start())
            await asked(workload, 8)  # and so does who comes now
            workload.go.release()
            for end in workload.ends:
                end.set()
            await read_until(stream, b"ok")
            for talk in talks:
                await talk.ended.wait()


async def test_who_speaks_http_2_is_not_starved_by_those_who_do_not():
    async with one_connection() as (gateway, workload, stream, client), await gateway.connect() as second:
        await stream.send_all(GET)
        await asked(workload, 1)
        talk = await client.start()
        await waits(gateway, 1)
        await second.send_all(GET)
        await waits(gateway, 2)
        for _ in range(3):
            workload.go.release()
        await read_until(stream, b"ok")
        await talk.ended.wait()
        await read_until(second, b"ok")
        assert workload.asked == [1, 2, 1]


async def test_a_name_that_is_none_takes_no_connection_with_it():
    """Who waited under it is given one, and cannot use it: it has to go on to others, for there is only this one."""
    slow, tls = Slow(), UpstreamTls(UpstreamTlsMode.SIMPLE, ca=AUTHORITY.pem)
    workload = Secure(slow.one)
    async with (
        running(*parts(workload, http2=None, tls=tls, limits=Limits(connections=1)), workloads=[workload]) as gateway,
        await gateway.connect() as first,
        await gateway.connect() as second,
    ):
        with trio.fail_after(SOON):
            await first.send_all(GET)
            while not workload.requests:
                await trio.testing.wait_all_tasks_blocked(0.005)
            await second.send_all(GET.replace(b"a.test", b"a" * 64 + b".test"))  # a label has 63 characters at most
            await waits(gateway, 1)
            slow.go.release()
            await read_until(first, b"ok")
            assert (await read_until(second, b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
            slow.go.release()
            await first.send_all(GET)
            await read_until(first, b"ok")
        (known,) = gateway.engine.runtime.states[NAME].hosts.values()
        assert known.pool.opened == 1


class Secure(Workload):
    async def _serve(self, stream):
        await super()._serve(trio.SSLStream(stream, server_context(), server_side=True, https_compatible=True))
