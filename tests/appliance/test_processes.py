"""Supervisor, control and workers as real processes, with the native engine: what dies, and what the rest does meanwhile.

Control has no plane here (static_control.py): it publishes the Snapshot in a file.
"""

import os
import signal
import socket
import stat

import pytest
import trio
from running_gateway import free_ports, gateway, request, until
from static_control import write

from gateway.snapshot import (
    Backend,
    DirectResponse,
    EndpointSet,
    FilterChain,
    Forward,
    LbEndpoint,
    Listener,
    ListenerKind,
    Node,
    Route,
    RouteMatch,
    Split,
    VirtualHost,
)

pytestmark = pytest.mark.slow

HERE = "127.0.0.1"
SERVING = "worker.serving"


class Static:
    """A gateway's file, and where the gateway will listen."""

    def __init__(self, folder, *, workers=2, drain_ms=5000):
        self.path = folder / "snapshot.json"
        self.state = folder / "state"
        self.workers, self.drain_ms = workers, drain_ms
        self.admin, self.health, self.http, self.spare = free_ports(4)

    def write(self, body="hello", *, ports=None, more=()):
        """Every request on `ports` is answered with `body`."""
        route = Route("r", RouteMatch(), DirectResponse(200, body.encode()))
        self.write_route(route, ports=ports, more=more)

    def write_route(self, route, *, ports=None, more=()):
        parts = [
            Node("gw", "east", drain_ms=self.drain_ms),
            Listener(HERE, self.admin, ListenerKind.ADMIN),
            Listener(HERE, self.health, ListenerKind.HEALTH),
            *(Listener(HERE, port, ListenerKind.GATEWAY, (FilterChain("http", "t"),)) for port in ports or [self.http]),
            VirtualHost("t", "any", ("*",), (route,)),
            *more,
        ]
        write(self.path, workers=self.workers, state_dir=self.state, parts=parts, drain_ms=self.drain_ms)

    async def get(self, path="/", **options):
        return await request(HERE, self.http, path, **options)

    async def ask(self, path):
        return (await request(HERE, self.admin, path)).json()

    async def serving(self, running):
        for worker in range(self.workers):
            await running.event(SERVING, worker=worker)
        await until(lambda: self.ask("/api/v1/snapshot"), lambda answer: answer["running"] == answer["version"])


@pytest.fixture
def static(tmp_path):
    made = Static(tmp_path)
    made.write()
    return made


def one_worker(running):
    return min(pid for pid, command in running.children().items() if "worker" in command)


class Load:
    """New connections, one request each, `rate` a second, until stopped."""

    def __init__(self, static, rate=100):
        self.static, self.rate = static, rate
        self.answered, self.failed, self.slow = 0, [], []
        self.scope = trio.CancelScope()
        self._news = trio.Event()

    async def run(self):
        with self.scope:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._one)
                    await trio.sleep(1 / self.rate)

    async def _one(self):
        began = trio.current_time()
        try:
            answer = await self.static.get(within=5)
            assert answer.status == 200
            self.answered += 1
            news, self._news = self._news, trio.Event()
            news.set()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
            self.failed.append(exc)
        took = trio.current_time() - began
        if took > 1:
            self.slow.append(took)

    async def more(self, count):
        """Wait for so many more answers."""
        wanted = self.answered + count
        with trio.fail_after(30):
            while self.answered < wanted:
                await self._news.wait()


async def test_a_gateway_serves_and_says_how_it_is(static):
    async with gateway(static.path) as running:
        await static.serving(running)
        assert (await static.get()).body == b"hello"
        assert (await request(HERE, static.health, "/healthz/ready")).status == 200
        assert (await request(HERE, static.admin, "/healthz/ready")).body == b"ready\n"
        listeners = (await static.ask("/api/v1/listeners"))["items"]
        assert {(row["port"], row["bound"]) for row in listeners} == {(p, True) for p in (static.admin, static.health, static.http)}
        metrics = (await request(HERE, static.admin, "/metrics")).body.decode()
        assert 'fedgate_worker_up{worker="1"} 1.0' in metrics
        assert "fedgate_snapshot_convergence_seconds_count 1.0" in metrics
        names = {command.split("\0")[4] for command in running.children().values() if "appliance" in command}
        assert names == {"worker"}
        assert stat.S_IMODE((static.state / "admin.sock").stat().st_mode) == 0o600


async def test_a_killed_worker_strands_no_new_connection_and_has_a_successor(static):
    async with gateway(static.path) as running, trio.open_nursery() as nursery:
        await static.serving(running)
        load = Load(static)
        nursery.start_soon(load.run)
        await load.more(50)
        victim = one_worker(running)
        os.kill(victim, signal.SIGKILL)
        await running.event("process.ended", pid=victim, status="SIGKILL")
        await load.more(100)
        await running.event(SERVING, count=3)
        await load.more(100)
        load.scope.cancel()
        assert len(load.failed) <= 3, f"more than what it was carrying: {load.failed}"
        assert load.slow == []
        workers = (await static.ask("/api/v1/snapshot"))["workers"]
        assert sorted(worker["restarts"] for worker in workers) == [0, 1]
        assert all(worker["up"] for worker in workers)


async def test_counters_do_not_fall_when_a_worker_is_killed(static):
    async def total():
        lines = (await request(HERE, static.admin, "/metrics")).body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("istio_requests_total"))

    async with gateway(static.path) as running:
        await static.serving(running)
        for _ in range(40):
            await static.get()
        assert await total() == 40
        os.kill(one_worker(running), signal.SIGKILL)
        await running.event(SERVING, count=3)
        await until(total, lambda value: value >= 40)
        assert await total() == 40


async def test_a_stopped_worker_strands_nobody(static):
    async with gateway(static.path) as running:
        await static.serving(running)
        victim = one_worker(running)
        os.kill(victim, signal.SIGSTOP)
        await running.event("listener.lending")
        for _ in range(30):
            assert (await static.get(within=5)).status == 200
        os.kill(victim, signal.SIGCONT)


async def test_control_may_die_and_the_next_one_takes_over(static):
    async with gateway(static.path) as running, trio.open_nursery() as nursery:
        await static.serving(running)
        load = Load(static)
        nursery.start_soon(load.run)
        await load.more(20)
        os.kill(running.child("static_control"), signal.SIGKILL)
        await running.event("process.ended", name="control")
        await load.more(50)
        await running.event("admin.serving", count=2)
        static.write("new words")
        running.signal(signal.SIGHUP)
        await until(static.get, lambda answer: answer.body == b"new words")
        load.scope.cancel()
        assert load.failed == []
        assert load.slow == []
        assert running.found("worker.draining") == []
        assert len(running.found(SERVING)) == 2, "no worker was started again"


async def test_a_new_control_process_with_broken_documents_still_serves(static):
    async with gateway(static.path) as running:
        await static.serving(running)
        await until(lambda: _exists(static.state / "snapshot.json"), bool)
        static.path.write_text("broken")
        os.kill(running.child("static_control"), signal.SIGKILL)
        await running.event("node.broken")
        await running.event("admin.serving", count=2)
        os.kill(one_worker(running), signal.SIGKILL)
        await running.event(SERVING, count=3)
        assert (await static.get()).body == b"hello"
        assert "snapshot.json" in (await static.ask("/api/v1/snapshot"))["problem"]
        static.write("mended")
        running.signal(signal.SIGHUP)
        await until(static.get, lambda answer: answer.body == b"mended")


async def _exists(path):
    return path.exists()


async def test_nothing_to_begin_with_is_said_and_ends_it(static):
    static.path.write_text("broken")
    async with gateway(static.path) as running:
        assert await running.ended() == 1
        await until(lambda: _exists(static.path), lambda _: running.events != [])
        assert [event for event in running.events if "text" in event and event["text"].startswith("fedgate: ")]
        assert not any("Traceback" in event.get("text", "") for event in running.events)


async def test_a_port_in_use_is_reported_and_the_rest_runs_and_it_is_taken_when_free(static):
    holder = socket.create_server((HERE, static.spare))
    static.write(ports=[static.http, static.spare])
    async with gateway(static.path) as running:
        await static.serving(running)
        await running.event("listener.failed", listener=f"{HERE}:{static.spare}")
        assert (await static.get()).status == 200
        rows = {row["port"]: row for row in (await static.ask("/api/v1/listeners"))["items"]}
        assert not rows[static.spare]["bound"]
        assert "in use by another process" in rows[static.spare]["error"]
        assert any("in use" in fault for fault in (await static.ask("/api/v1/snapshot"))["faults"])
        holder.close()
        await running.event("listener.bound", listener=f"{HERE}:{static.spare}")
        answer = await until(lambda: request(HERE, static.spare), lambda answer: answer.status == 200)
        assert answer.body == b"hello"
        assert (await static.ask("/api/v1/snapshot"))["faults"] == []


async def test_listeners_come_and_go_with_the_snapshot(static):
    async with gateway(static.path) as running:
        await static.serving(running)
        static.write("second", ports=[static.spare])
        running.signal(signal.SIGHUP)
        await until(lambda: request(HERE, static.spare), lambda answer: answer.body == b"second")
        with pytest.raises(OSError, match="onnect"):
            await static.get()
        static.write("third")
        running.signal(signal.SIGHUP)
        await until(static.get, lambda answer: answer.body == b"third")


class Slow:
    """An upstream that answers when told to."""

    def __init__(self):
        self.asked, self.answer = trio.Event(), trio.Event()

    async def serve(self, *, task_status):
        listeners = await trio.open_tcp_listeners(0, host=HERE)
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._one, listeners, task_status=task_status)

    async def _one(self, stream):
        async with stream:
            while b"\r\n\r\n" not in await stream.receive_some(65536):
                pass
            self.asked.set()
            await self.answer.wait()
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nslow\n")


def slow_parts(port):
    name = "outbound|80||slow"
    route = Route("r", RouteMatch(), Forward((Split(name),)))
    return route, [Backend(name, "slow", 80), EndpointSet(name, (LbEndpoint(f"{HERE}:{port}", HERE, port),))]


async def test_sigterm_finishes_what_runs_and_refuses_what_is_new(static):
    slow = Slow()
    async with trio.open_nursery() as nursery:
        await nursery.start(slow.serve)
        route, more = slow_parts(slow.port)
        static.drain_ms = 20_000
        static.write_route(route, more=more)
        async with gateway(static.path) as running:
            await static.serving(running)
            answers = []

            async def one():
                answers.append(await static.get(within=30))

            nursery.start_soon(one)
            await slow.asked.wait()
            running.signal(signal.SIGTERM)
            await running.event("worker.draining", count=2)
            await until(_refused(static), bool)
            assert (await request(HERE, static.health, "/healthz/ready")).status == 503
            slow.answer.set()
            assert await running.ended() == 0
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"slow\n")]
        nursery.cancel_scope.cancel()


def _refused(static):
    async def ask():
        try:
            await static.get(within=0.2)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
            return isinstance(exc, OSError)
        return False

    return ask


async def test_the_drain_time_is_kept(static):
    slow = Slow()
    async with trio.open_nursery() as nursery:
        await nursery.start(slow.serve)
        route, more = slow_parts(slow.port)
        static.drain_ms = 500
        static.write_route(route, more=more)
        async with gateway(static.path) as running:
            await static.serving(running)
            failed = trio.Event()

            async def one():
                with pytest.raises((OSError, trio.BrokenResourceError)):
                    await static.get(within=30)
                failed.set()

            nursery.start_soon(one)
            await slow.asked.wait()
            running.signal(signal.SIGINT)
            assert await running.ended() == 0
            await failed.wait()
        nursery.cancel_scope.cancel()


async def test_one_worker_may_be_drained_and_its_successor_takes_its_place(static):
    async with gateway(static.path) as running, trio.open_nursery() as nursery:
        await static.serving(running)
        load = Load(static)
        nursery.start_soon(load.run)
        await load.more(20)
        victim = one_worker(running)
        os.kill(victim, signal.SIGTERM)
        await running.event("process.ended", pid=victim, status="0")
        await running.event(SERVING, count=3)
        await load.more(20)
        load.scope.cancel()
        assert load.failed == []
        assert load.slow == []


async def test_a_killed_supervisor_leaves_no_orphan_and_no_port(static):
    async with gateway(static.path) as running:
        await static.serving(running)
        watches = [os.pidfd_open(pid) for pid in running.children()]
        running.signal(signal.SIGKILL)
        with trio.fail_after(10):
            for watch in watches:
                await trio.lowlevel.wait_readable(watch)
                os.close(watch)
    with socket.create_server((HERE, static.http)):
        pass


async def test_a_gateway_may_start_again_from_its_state_before_anything_is_read(static):
    async with gateway(static.path) as running:
        await static.serving(running)
        await until(lambda: _exists(static.state / "snapshot.json"), bool)
    async with gateway(static.path) as running:
        await running.event("state.restored")
        await static.serving(running)
        assert (await static.get()).status == 200
