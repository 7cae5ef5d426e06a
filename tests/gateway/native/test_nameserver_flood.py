"""A flood of questions delays nobody: what a worker does in one turn is bounded, and other clients are answered meanwhile.

How long such a turn takes is measured by `python -m bench dns`, beside traffic."""

import pathlib
import subprocess
import sys

import dns_flood
import pytest
import trio
from nameserving import LOOPBACK, nameserving

from gateway.native.nameserver import BATCH
from gateway.snapshot import Dns, Name

pytestmark = pytest.mark.slow

REVIEWS = Name("reviews.shop.svc.cluster.local", addresses=("240.240.0.7",))
MOST = 2 * BATCH  # one batch of the flood, what others ask, and what upstreams answered, which were questions of turns before


@pytest.mark.parametrize("kind", ["known", "unknown", "outside", "garbage"])
async def test_no_turn_takes_many_and_others_are_answered(kind):
    dns = Dns(allow=LOOPBACK, synced=True, upstreams=(("127.0.0.1", 9),))  # the discard port: nobody answers
    async with nameserving(REVIEWS, dns=dns) as server:
        turns, reactor, counts = [], server.engine.reactor, server.nameserver.counts
        turn = reactor.turn

        def counted():
            before = sum(counts.values())
            try:
                return turn()
            finally:
                turns.append(sum(counts.values()) - before)

        reactor.turn = counted
        command = [sys.executable, "-I", str(pathlib.Path(dns_flood.__file__)), server.address, str(server.port), kind, "1.0"]
        async with trio.open_nursery() as nursery:
            flood = await nursery.start(trio.run_process, command)
            answered = 0
            while flood.poll() is None:
                # By TCP: its datagram might find no room in the queue, which is the flood's doing, not ours.
                (answer,) = await server.ask_stream(query())
                assert answer.answer
                answered += 1
        assert answered >= 3
        assert sum(counts.values()) > 200, counts
        assert max(turns) <= MOST, sorted(turns)[-5:]
        assert len(server.nameserver.kept) < 25_000


def query():
    import dns.message

    return dns.message.make_query(REVIEWS.name, "A")


def test_the_flood_asks_what_it_should():
    import dns.message

    read = dns.message.from_wire(dns_flood.question("a.test", 70000))
    assert (read.id, read.question[0].to_text()) == (70000 & 0xFFFF, "a.test. IN A")
    assert (
        subprocess.run([sys.executable, dns_flood.__file__, "127.0.0.1", "9", "garbage", "0"], capture_output=True).stdout == b"0\n"
    )
