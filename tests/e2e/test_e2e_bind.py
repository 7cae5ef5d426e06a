"""One port on every address and on one address of its own: each address is its server's, whichever comes first, and both come and go
while the gateway runs."""

import os
import signal
import socket

import pytest
import trio
from running import Fedgate, fresh_address, listening, routes, running
from running_gateway import request, until

pytestmark = pytest.mark.slow

HOST = "shop.example.com"


def free_everywhere():
    """A port that nobody has on any address."""
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return sock.getsockname()[1]


class Place:
    """A gateway whose documents say where `wide` (every address) and `own` (one) listen."""

    def __init__(self, folder, workers=2):
        self.gateway = Fedgate(folder, workers=workers)
        self.port = free_everywhere()
        self.own = fresh_address()
        answers = [
            routes(name, [HOST], {"directResponse": {"status": 200, "body": {"string": name}}}, gateways=[name])
            for name in ("wide", "own")
        ]
        self.gateway.write("routes", *answers)

    def listen(self, *names):
        """Serve these only."""
        for name in ("wide", "own"):
            port = {"number": self.port, "name": name, "protocol": "HTTP"}
            bind = {"bind": self.own} if name == "own" else {}
            document = listening(name, {"port": port, "hosts": ["*"], **bind})
            self.gateway.write(name, *([document] if name in names else []))

    async def answers(self):
        """What is served at the address of its own, and at another."""
        found = []
        for address in (self.own, self.gateway.address):
            try:
                answer = await self.gateway_get(address)
                found.append(answer.body.decode())
            except OSError:
                found.append("")
        return tuple(found)

    async def gateway_get(self, address):
        return await request(address, self.port, "/", host=HOST)

    async def serve(self, *expected):
        await until(self.answers, lambda found: found == expected)


@pytest.mark.parametrize("first", ["wide", "own"])
async def test_each_address_is_its_servers_own(tmp_path, first):
    place = Place(tmp_path)
    second = "own" if first == "wide" else "wide"
    place.listen(first)
    alone = ("wide", "wide") if first == "wide" else ("own", "")
    with running(place.gateway):
        await place.serve(*alone)
        place.listen(first, second)
        await place.serve("own", "wide")
        rows = await place.gateway.rows("listeners")
        assert [row["error"] for row in rows if row["error"]] == []
        found = [await place.answers() for _ in range(30)]  # whichever worker accepts
        assert set(found) == {("own", "wide")}
        place.listen(second)
        await place.serve(*(("own", "") if second == "own" else ("wide", "wide")))
        place.listen(first, second)
        await place.serve("own", "wide")
        place.listen(first)
        await place.serve(*alone)


async def test_both_from_the_start_and_with_a_worker_that_was_killed(tmp_path):
    place = Place(tmp_path)
    place.listen("own", "wide")
    with running(place.gateway):
        await place.serve("own", "wide")
        os.kill(place.gateway.pids("worker")[0], signal.SIGKILL)
        found = []
        with trio.move_on_after(3):
            while len(found) < 100:
                found.append(await place.answers())
        assert len(found) >= 20
        # what the killed one carried is lost, everything else is answered, and by whom it should
        wrong = [each for each in found if each != ("own", "wide")]
        assert len(wrong) <= 2, wrong
        assert all(own in ("own", "") and wide in ("wide", "") for own, wide in wrong)
