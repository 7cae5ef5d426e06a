"""Which unix sockets no endpoint leads to: the gateway's own admin API, where whoever can open the socket may do everything.

Workers run as the user who may open it, so its mode does not keep them out; and an endpoint's path is said by whoever may write a
ServiceEntry, or register a service in Consul. What counts is the path that the listening socket was bound to, which the kernel tells of a
connection that was made: a path may lead there by links and by /proc.
"""

from __future__ import annotations

import errno
import os
import socket

ADMIN_SOCKET = "admin.sock"
"""In the state directory."""


def check_reached(sock: socket.socket) -> None:
    """Raises OSError (EACCES) for a connection, just made, to an admin API. A workload whose socket has that name needs another."""
    if sock.family == socket.AF_UNIX:
        path = sock.getpeername()
        if isinstance(path, str) and os.path.basename(path) == ADMIN_SOCKET:
            raise OSError(errno.EACCES, "an endpoint may not be the gateway's admin API")
