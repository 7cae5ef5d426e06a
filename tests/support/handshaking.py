"""Real TLS handshakes over memory buffers, for tests: a client against the context that its hello chooses."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import certs
import pytest

from gateway.native.codec.hello import Hello, read_hello
from gateway.native.identity import Proof
from gateway.native.tls import ServerTls

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def client_context(leaf: certs.Leaf | None = None, top: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, trust: str = "") -> ssl.SSLContext:
    """trust: the PEM of its roots, "" = it takes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = top
    if trust:
        context.load_verify_locations(cadata=trust)
    else:
        context.verify_mode = ssl.CERT_NONE
    return leaf.load_into(context) if leaf else context


class Pair:
    """A client and a server joined by buffers; the server's context is chosen by the client's hello."""

    def __init__(
        self, client: ssl.SSLContext, server: Callable[[Hello], ssl.SSLContext], name: str | None, session: object = None
    ) -> None:
        self.up, self.down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.down, self.up, server_hostname=name, session=session)  # type: ignore[arg-type]
        with pytest.raises(ssl.SSLWantReadError):
            self.client.do_handshake()
        first = self.up.read()
        hello = read_hello(first)
        assert isinstance(hello, Hello)
        self.hello = hello
        self.up.write(first)
        self.server = server(hello).wrap_bio(self.up, self.down, server_side=True)

    def shake(self) -> None:
        """Both handshakes to the end, then a byte each way, so that TLS 1.3 verdicts and tickets have arrived."""
        done = {"client": False, "server": False}
        for _ in range(6):
            for side, tls in (("server", self.server), ("client", self.client)):
                if not done[side]:
                    try:
                        tls.do_handshake()
                        done[side] = True
                    except ssl.SSLWantReadError:
                        continue
        assert all(done.values())
        self.server.write(b"x")
        assert self.client.read(1) == b"x"


def handshake(server: ServerTls, client: ssl.SSLContext, name: str | None = "shop.example", session: object = None) -> Proof:
    pair = Pair(client, server.context, name, session)
    pair.shake()
    return server.prove(pair.server)
