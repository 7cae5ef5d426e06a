"""Listening sockets: bound by the supervisor, one per worker and address (SO_REUSEPORT), shared with everybody.

SO_REUSEPORT alone would let a second gateway of the same user bind the same port without an error and take half the connections.
So each address is first tried without it: that fails if anything else listens there.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

# Connections that wait to be accepted, per socket. The kernel's usual ceiling (net.core.somaxconn) is 4096; a worker that is
# restarted leaves some 100 ms of connections here.
_BACKLOG = 4096


class CannotBind(Exception):
    """Says which address, why, and what to do."""


def bind(address: str, port: int, count: int) -> tuple[socket.socket, ...]:
    """`count` non-blocking listening sockets on one address. Raises CannotBind; nothing is left bound then."""
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        _refuse_taken(address, port)
        return _sockets(address, port, count)
    except (OSError, ValueError, OverflowError) as exc:
        raise CannotBind(_explain(where, port, exc)) from exc


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def _refuse_taken(address: str, port: int) -> None:
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        # Not REUSEPORT on purpose. REUSEADDR passes over connections in TIME_WAIT, not over a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _only_v6(probe)
        probe.bind((address, port))


def _sockets(address: str, port: int, count: int) -> tuple[socket.socket, ...]:
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(_family(address), socket.SOCK_STREAM)
            made.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _only_v6(sock)
            sock.bind((address, port))
            sock.listen(_BACKLOG)
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return tuple(made)


def _only_v6(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        # `[::]:80` and `0.0.0.0:80` are two listeners, as written.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _explain(where: str, port: int, exc: Exception) -> str:
    number = exc.errno if isinstance(exc, OSError) else None
    if number == errno.EADDRINUSE:
        return f"{where} is in use by another process; stop it (ss -ltnp 'sport = :{port}' names it) or choose another port"
    if number == errno.EACCES:
        return f"{where}: no permission; a port under 1024 takes CAP_NET_BIND_SERVICE or net.ipv4.ip_unprivileged_port_start"
    if number == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address; write one of its own, or 0.0.0.0"
    if number == errno.EMFILE:
        return f"{where}: this process is out of descriptors; raise ulimit -n"
    return f"{where}: {os.strerror(number) if number else exc}"
