"""Listening sockets: bound by the supervisor, one per worker and address (SO_REUSEPORT), shared with everybody.

SO_REUSEPORT alone would let a second gateway of the same user bind the same port without an error and take half the connections.
So each address is first tried without it: that fails if anything else listens there.

A nameserver's UDP sockets are bound in the same way; the kernel gives each client's datagrams to one of them by its address and port.

A unix socket (`/path`, or `@name` in the abstract name space) is one that all workers accept from. A socket file that a gateway left when
it was killed is removed, if it is this user's and nobody answers there; anything else in its place is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat

# Connections that wait to be accepted, per socket. The kernel's usual ceiling (net.core.somaxconn) is 4096; a worker that is
# restarted leaves some 100 ms of connections here.
_BACKLOG = 4096
# Bytes of datagrams that wait to be read, per socket: what 100,000 questions a second are in 10 ms, each counted with 0.7 KB of the
# kernel's own. The system's ceiling (net.core.rmem_max, mostly 208 KB) holds.
_DATAGRAMS = 1 << 20


# Who may connect to a socket file: the gateway's user and group. Others are let in by adding them to the group, or by the directory.
_MODE = 0o660
_LONGEST_PATH = 107  # bytes of a path in struct sockaddr_un, less the end


class CannotBind(Exception):
    """Says which address, why, and what to do."""


def bind(address: str, port: int, count: int, *, datagrams: bool = False, beside: bool = False) -> tuple[socket.socket, ...]:
    """`count` non-blocking listening sockets on one address; on a unix address one. datagrams: UDP instead. beside: this process listens on
    another address of that port (on all of them, or on one of them), so nobody is asked whether the port is free: the kernel still
    refuses one that another user, or a program that does not share, has. Raises CannotBind; nothing is left bound then."""
    if address[:1] in ("/", "@"):
        return (_bind_unix(address),)
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    try:
        if not beside:
            _refuse_taken(address, port, kind)
        return _sockets(address, port, count, kind)
    except (OSError, ValueError, OverflowError) as exc:
        raise CannotBind(_explain(f"UDP {where}" if datagrams else where, port, exc)) from exc


def forget(sock: socket.socket) -> None:
    """It listens no more: remove its socket file, if it has one."""
    if sock.family == socket.AF_UNIX:
        path = sock.getsockname()
        if isinstance(path, str) and path.startswith("/"):
            with contextlib.suppress(OSError):
                os.unlink(path)


def _bind_unix(address: str) -> socket.socket:
    name = "\0" + address[1:] if address.startswith("@") else address
    if len(name.encode()) > _LONGEST_PATH:
        raise CannotBind(f"unix socket {address} is longer than {_LONGEST_PATH} bytes, the system's limit; choose a shorter path")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if name == address:
            _remove_stale(address)
        sock.bind(name)
        if name == address:
            os.chmod(address, _MODE)  # nobody can connect before `listen`
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise CannotBind(_explain_unix(address, exc)) from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Raises OSError (EADDRINUSE) if what is there is not a dead socket of this user's."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise FileExistsError(errno.EEXIST, "not a socket of this user")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is an answer too
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "somebody answers")
    os.unlink(path)


def _explain_unix(address: str, exc: OSError) -> str:
    where = f"unix socket {address}"
    if exc.errno == errno.EADDRINUSE:
        return f"{where} is in use by another process; stop it (ss -lxp src {address} names it) or choose another path"
    if exc.errno == errno.EEXIST:
        return f"{where}: something is there that is no socket of this user; remove it or choose another path"
    if exc.errno == errno.ENOENT:
        return f"{where}: there is no directory {os.path.dirname(address)}; make it, owned by the gateway's user"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{where}: no permission to make it; the gateway's user must be able to write to {os.path.dirname(address) or address}"
        )
    return f"{where}: {os.strerror(exc.errno) if exc.errno else exc}"


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def _refuse_taken(address: str, port: int, kind: socket.SocketKind) -> None:
    with socket.socket(_family(address), kind) as probe:
        if kind == socket.SOCK_STREAM:
            # Not REUSEPORT on purpose. REUSEADDR passes over connections in TIME_WAIT, not over a listener; UDP knows no TIME_WAIT, and
            # there it passes over everything.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _only_v6(probe)
        probe.bind((address, port))


def _sockets(address: str, port: int, count: int, kind: socket.SocketKind) -> tuple[socket.socket, ...]:
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(_family(address), kind)
            made.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _only_v6(sock)
            if kind == socket.SOCK_DGRAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAMS)
                sock.bind((address, port))
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
        return f"{where} is in use by another process; stop it (ss -lntup 'sport = :{port}' names it) or choose another port"
    if number == errno.EACCES:
        return f"{where}: no permission; a port under 1024 takes CAP_NET_BIND_SERVICE or net.ipv4.ip_unprivileged_port_start"
    if number == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address; write one of its own, or 0.0.0.0"
    if number == errno.EMFILE:
        return f"{where}: this process is out of descriptors; raise ulimit -n"
    return f"{where}: {os.strerror(number) if number else exc}"
