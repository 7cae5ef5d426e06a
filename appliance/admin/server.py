"""Serves an admin application on a socket that the supervisor bound, or on the unix socket of the state directory.

Starlette on Hypercorn: both are here for what comes to this port later (a page, writes with a client certificate, HTTP/2), run on
trio, and keep HTTP's limits; an own server would be the second HTTP/1 parser to keep strict. They cost the control process about
0.3 s of start and 15 MB, and no worker imports them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from starlette.types import ASGIApp

# Requests here are small and answered from memory.
_IDLE_S = 60
_READ_S = 10
_CONNECTIONS_WAITING = 128


async def serve(app: ASGIApp, sock: socket.socket) -> None:
    """Answer until cancelled. Owns the socket."""
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.backlog = _CONNECTIONS_WAITING
    config.keep_alive_timeout = _IDLE_S
    config.read_timeout = _READ_S
    config.graceful_timeout = 0.5
    config.include_server_header = False
    config.accesslog = None
    quiet = logging.getLogger("fedgate.admin")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    config.errorlog = quiet
    await hypercorn_serve(app, config, shutdown_trigger=trio.sleep_forever, mode="asgi")  # type: ignore[arg-type]


def unix_socket(path: Path) -> socket.socket:
    """A listening unix socket that only this user may open. Raises OSError. A socket left by a dead process is replaced."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The directory is 0700, so nobody gets between bind and chmod.
        sock.bind(str(path))
        os.chmod(path, 0o600)
        sock.listen(_CONNECTIONS_WAITING)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
