"""What a worker is handed: listening sockets of all workers, and who to give a peering connection to.

One SO_REUSEPORT socket per worker and listener address; every worker holds all of them, so that a neighbour can accept from the
socket of one that is silent (DESIGN section 2, DATAPLANE "Accepting").
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from gateway.parts.listener import Listener

Sockets = Mapping[str, tuple[socket.socket, ...]]
"""Listener.key, or `datagrams_key`, → one bound, listening, non-blocking socket per worker, indexed by worker number."""


def datagrams_key(listener: Listener) -> str:
    """Under which a nameserver's UDP sockets are kept, beside those of `listener.key` for TCP."""
    return f"udp:{listener.key}"


Handoff = Callable[[socket.socket, bytes], None]
"""Takes over a connection whose client hello named `peering.TRUSTDOMAIN`: the socket and the bytes already read from it. The
callee owns the socket (sends it by SCM_RIGHTS and closes its copy). Never blocks; raises OSError when control is not there, and
then the connection is closed."""
