"""A native engine with its nameserver on loopback sockets, and questions to it by dnspython: who reads what we wrote is somebody else."""

import contextlib
import socket

import dns.flags
import dns.message
import dns.rdatatype
import trio
from native_engine import Gateway

from discovery.watch import Watchable
from gateway.native.engine import NativeEngine
from gateway.native.sockets import datagrams_key
from gateway.snapshot import Dns, Listener, ListenerKind, Node, Snapshot
from gateway.verdicts import Verdicts

LOOPBACK = ("127.0.0.0/8", "::1/128")


class Asking:
    """A running nameserver at (address, port)."""

    def __init__(self, engine, listener, snapshots, verdicts):
        self.engine, self.listener, self.snapshots, self.verdicts = engine, listener, snapshots, verdicts
        self.address, self.port = listener.address, listener.port
        self.nameserver = engine.nameserver

    def snapshot(self, *parts, dns):
        return Snapshot.of([Node(name="gw", cluster="east", dns=dns), self.listener, *parts])

    async def ask(self, name, kind="A", *, address="", source="", **options):
        """By UDP; the answer as dnspython reads it."""
        query = name if isinstance(name, dns.message.Message) else dns.message.make_query(name, kind, **options)
        wire = await self.exchange(query.to_wire(), address=address, source=source)
        answer = dns.message.from_wire(wire)
        assert query.is_response(answer)
        return answer

    async def exchange(self, wire, *, address="", source=""):
        """One datagram there, one back. source: the client's address."""
        to = (address or self.address, self.port)
        with trio.socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if source:
                await sock.bind((source, 0))
            await sock.connect(to)  # an answer from another address would not be heard
            await sock.send(wire)
            with trio.fail_after(5):
                return await sock.recv(65535)

    async def texts(self, name, kind="A", **options):
        """What the records of the answer section say, sorted."""
        return texts(await self.ask(name, kind, **options))

    async def ask_stream(self, *queries):
        """By one TCP connection, all sent at once."""
        async with await trio.open_tcp_stream(self.address, self.port) as stream:
            wires = [query.to_wire() for query in queries]
            await stream.send_all(b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires))
            data, found = b"", []
            with trio.fail_after(5):
                while len(found) < len(queries):
                    more = await stream.receive_some()
                    assert more, "closed early"
                    data += more
                    while len(data) >= 2 and len(data) >= 2 + (size := int.from_bytes(data[:2], "big")):
                        found.append(dns.message.from_wire(data[2 : 2 + size]))
                        data = data[2 + size :]
            return found


def texts(answer, section="answer"):
    return sorted(record.to_text() for rrset in getattr(answer, section) for record in rrset)


def bound(address="127.0.0.1"):
    """A TCP and a UDP socket on one port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        tcp, udp = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
        tcp.bind((address, 0))
        try:
            udp.bind((address, tcp.getsockname()[1]))
        except OSError:  # that number is taken for UDP
            tcp.close()
            udp.close()
            continue
        tcp.listen(128)
        tcp.setblocking(False)
        udp.setblocking(False)
        return tcp, udp


@contextlib.asynccontextmanager
async def nameserving(*parts, dns=None, address="127.0.0.1", **options):
    """dns: default is one that answers loopback and knows everything."""
    dns = dns or Dns(allow=LOOPBACK, synced=True)
    tcp, udp = bound(address)
    listener = Listener(address, tcp.getsockname()[1], ListenerKind.DNS)
    sockets = Watchable({listener.key: (tcp,), datagrams_key(listener): (udp,)})
    engine = NativeEngine(worker=0, sockets=sockets, **options)
    said, heard = trio.open_memory_channel(1000)
    snapshots = Watchable(Snapshot.of([Node(name="gw", cluster="east", dns=dns), listener, *parts]))
    verdicts = Watchable(Verdicts())
    with tcp, udp, heard:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(20):
                await nursery.start(engine.run, snapshots, verdicts, Watchable({}), said)
                yield Asking(engine, listener, snapshots, verdicts)
            nursery.cancel_scope.cancel()


__all__ = ["LOOPBACK", "Asking", "Gateway", "bound", "nameserving", "texts"]
