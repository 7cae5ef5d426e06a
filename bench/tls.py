"""New TLS connections: what a handshake costs, full and resumed. Each connection carries one small request, so that it is known to work;
keep-alive requests over TLS are in http1.

`full` offers no session. `resumed` offers the session (TLS 1.3 ticket) of the connection before; `resumed_share` says how often the
proxy took it up. The client is one thread of OpenSSL on core 0; where it is slower than a proxy, the rate is the client's and the CPU
per handshake tells the proxies apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench import loads
from bench.contest import Contest, Contestant, Reading
from bench.scene import BODY, scene

CONNECTIONS = 16
CASES = ("full", "resumed")


def measure(names: Sequence[str], *, seconds: int, rounds: int, console: Console) -> dict[str, Any]:
    """What `--json` writes. Raises tools.Missing without a C compiler or libssl's headers."""
    contest = Contest("TLS handshakes", primary="rate", unit="handshakes/s", console=console)

    def case(how: str, contestant: Contestant) -> Reading:
        return loads.handshakes(contestant, contestant.ports.https, how, connections=CONNECTIONS, seconds=seconds)

    with scene() as here:
        here.backend("backend", "be", str(BODY))
        contestants = contest.enter(here.proxies(["fedgate", *names]), here.folder, here.processes)
        cases = {how: lambda contestant, how=how: case(how, contestant) for how in CASES}
        contest.run(contestants, cases, rounds=rounds)
    return contest.summary()
