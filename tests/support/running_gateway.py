"""A whole gateway (`fedgate run`, or run_static.py) as a process of a test: its log as events, requests to it, its end."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import trio

SUPPORT = pathlib.Path(__file__).parent
STATIC = (sys.executable, str(SUPPORT / "run_static.py"))
FEDGATE = (sys.executable, "-P", "-m", "appliance", "run", "-c")

# Generous: several Python processes start on a machine that runs other tests.
PATIENCE_S = 60


def free_ports(count, address="127.0.0.1"):
    """Ports that were free just now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((address, 0))
        return [sock.getsockname()[1] for sock in sockets]


class Gateway:
    """`events` is every line of its log so far, as dicts; other lines are {"text": …}."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.events = []
        self._news = trio.Event()
        self.closed = trio.Event()  # its log has ended

    async def read(self, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        rest = b""
        async for chunk in self.process.stderr:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"text": line.decode(errors="replace")}
                self.events.append(event)
            news, self._news = self._news, trio.Event()
            news.set()
        self.closed.set()

    def found(self, name, /, **keys):
        return [e for e in self.events if e.get("event") == name and all(e.get(k) == v for k, v in keys.items())]

    async def event(self, name, /, *, count=1, **keys):
        """Wait until `count` such events were logged; the last of them."""
        with trio.move_on_after(PATIENCE_S):
            while len(self.found(name, **keys)) < count:
                await self._news.wait()
            return self.found(name, **keys)[count - 1]
        raise AssertionError(f"no {name} {keys} in:\n" + "\n".join(map(str, self.events)))

    def signal(self, number):
        self.process.send_signal(number)

    async def ended(self):
        with trio.fail_after(PATIENCE_S):
            return await self.process.wait()

    def children(self):
        """pid → command line of its processes."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == self.pid:
                        found[int(entry.name)] = (entry / "cmdline").read_text()
        return found

    def child(self, word):
        """pid of the one child whose command line has this word."""
        (pid,) = (pid for pid, command in self.children().items() if word in command)
        return pid


@contextlib.asynccontextmanager
async def gateway(*paths, command=STATIC, cwd=None):
    """Start it; killed at the end, with all its processes."""
    environment = {key: value for key, value in os.environ.items() if key != "FEDGATE_LOG"}
    process = await trio.lowlevel.open_process(
        [*command, *map(str, paths)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=cwd, env=environment
    )
    running = Gateway(process)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(running.read)
            yield running
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
            await process.stderr.aclose()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<Answer {self.status} {self.body[:60]!r}>"


async def request(address, port, path="/", *, host="localhost", headers=(), method="GET", within=10.0):
    """One request on one connection. Raises OSError, trio.BrokenResourceError, trio.TooSlowError."""
    with trio.fail_after(within):
        stream = await trio.open_tcp_stream(address, port)
        async with stream:
            lines = [f"{method} {path} HTTP/1.1", f"host: {host}", "connection: close", *(f"{n}: {v}" for n, v in headers), "", ""]
            await stream.send_all("\r\n".join(lines).encode())
            data = b""
            async for chunk in stream:
                data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    if not head:
        raise trio.BrokenResourceError("closed without an answer")
    status, *fields = head.decode("latin-1").split("\r\n")
    return Answer(int(status.split()[1]), dict(field.lower().split(": ", 1) for field in fields), body)


async def until(ask, good, *, within=PATIENCE_S):
    """Ask again until the answer is good: for what no event tells. An OSError is an answer that is not good."""
    last = None
    with trio.move_on_after(within):
        while True:
            try:
                last = await ask()
                if good(last):
                    return last
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as exc:
                last = exc
            await trio.sleep(0.02)
    raise AssertionError(f"not in time; last: {last!r}")
