"""Clients of end-to-end tests: many requests over few kept connections, TLS with real contexts, and bytes that are no requests."""

from __future__ import annotations

import collections
import contextlib
import ssl

import trio
from running_gateway import Answer


def wire(path="/", *, host, method="GET", headers=(), body=b""):
    """A request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join([*lines, *([f"content-length: {len(body)}"] if body else []), "", ""])).encode() + body


async def read_answer(stream, buffer=b""):
    """One answer with a content-length from a kept connection; (Answer, what came after it). Raises BrokenResourceError."""
    while b"\r\n\r\n" not in buffer:
        more = await stream.receive_some(65536)
        if not more:
            raise trio.BrokenResourceError(f"closed after {buffer!r}")
        buffer += more
    head, _, rest = buffer.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    headers = dict(field.lower().split(": ", 1) for field in fields)
    length = int(headers.get("content-length", 0))
    while len(rest) < length:
        more = await stream.receive_some(65536)
        if not more:
            raise trio.BrokenResourceError("closed in a body")
        rest += more
    return Answer(int(status.split()[1]), headers, rest[:length]), rest[length:]


async def counted(address, port, requests, *, connections=16):
    """Send each of `requests` (bytes) once, over so many kept connections; Counter of (number in `requests`' cycle key, …).

    requests: pairs (key, bytes). The Counter has (key, status, x-served-by)."""
    found = collections.Counter()
    left = iter(requests)

    async def client():
        async with await trio.open_tcp_stream(address, port) as stream:
            buffer = b""
            for key, data in left:
                await stream.send_all(data)
                answer, buffer = await read_answer(stream, buffer)
                found[key, answer.status, answer.headers.get("x-served-by", "")] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(client)
    return found


async def raw(address, port, data, *, within=10.0):
    """What comes back for these bytes until the other side closes; sends no end of its own. Raises trio.TooSlowError."""
    with trio.fail_after(within):
        async with await trio.open_tcp_stream(address, port) as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            return await rest_of(stream)


async def rest_of(stream):
    """Everything until the end; a reset is an end too."""
    data = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while more := await stream.receive_some(65536):
            data += more
    return data


def client_context(authority, leaf=None, *, names=True, alpn=("http/1.1",)):
    """Of a client that trusts this authority and shows this leaf. names False: SPIFFE servers have no DNS name to check."""
    context = ssl.create_default_context(cadata=authority.bundle)
    context.check_hostname = names
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return leaf.load_into(context) if leaf else context


@contextlib.asynccontextmanager
async def tls(address, port, context, name, *, within=10.0):
    """A TLS stream after its handshake; name "" sends none. Raises trio.BrokenResourceError when there is no handshake."""
    with trio.fail_after(within):
        tcp = await trio.open_tcp_stream(address, port)
        stream = trio.SSLStream(tcp, context, server_hostname=name or None, https_compatible=True)
        try:
            await stream.do_handshake()
            yield stream
        finally:
            await trio.aclose_forcefully(stream)


async def secure(address, port, context, name, path="/", *, host=None, headers=()):
    """One request over TLS. Raises trio.BrokenResourceError when it is refused (at the handshake, or with the first bytes read)."""
    async with tls(address, port, context, name) as stream:
        await stream.send_all(wire(path, host=host or name, headers=headers))
        return (await read_answer(stream))[0]


class Clients:
    """`count` clients, each with one kept connection, each asking `data` again as soon as it was answered, until `stop`.

    answered; bad: answers that are no 200; lost: (client, error) of requests that got no answer, after which the client connects
    anew; slowest: seconds of the slowest request, connecting included."""

    def __init__(self, address, port, data, *, count=50):
        self.address, self.port, self.data, self.count = address, port, data, count
        self.answered, self.bad, self.lost, self.slowest = 0, [], [], 0.0
        self.bodies = collections.Counter()
        self._scope = trio.CancelScope()
        self._news = trio.Event()

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        with self._scope:
            async with trio.open_nursery() as nursery:
                for number in range(self.count):
                    nursery.start_soon(self._client, number)
                task_status.started()

    def stop(self):
        self._scope.cancel()

    async def more(self, count, *, within=30.0):
        """Wait for so many more answers."""
        wanted = self.answered + count
        with trio.fail_after(within):
            while self.answered < wanted:
                await self._news.wait()

    async def _client(self, number):
        while True:
            try:
                async with await trio.open_tcp_stream(self.address, self.port) as stream:
                    await self._ask_on(stream)
            except (OSError, trio.BrokenResourceError) as error:
                self.lost.append((number, error))

    async def _ask_on(self, stream):
        buffer = b""
        while True:
            began = trio.current_time()
            await stream.send_all(self.data)
            answer, buffer = await read_answer(stream, buffer)
            self.slowest = max(self.slowest, trio.current_time() - began)
            self.answered += 1
            news, self._news = self._news, trio.Event()
            news.set()
            self.bodies[answer.body] += 1
            if answer.status != 200:
                self.bad.append(answer)
            if answer.headers.get("connection") == "close":
                return
