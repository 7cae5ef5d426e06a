"""Listening sockets: one per worker on one port, and clear words when it cannot be."""

import contextlib
import os
import select
import socket
import stat

import pytest

from appliance.binding import CannotBind, bind, forget


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_several_sockets_listen_on_one_port():
    port = free_port()
    sockets = bind("127.0.0.1", port, 3)
    try:
        assert {sock.getsockname() for sock in sockets} == {("127.0.0.1", port)}
        assert not any(sock.getblocking() for sock in sockets)
        with socket.create_connection(("127.0.0.1", port)):
            pass
    finally:
        for sock in sockets:
            sock.close()


def test_a_port_that_another_gateway_of_the_same_user_shares_is_in_use():
    """SO_REUSEPORT alone would let both have it, and each would get half of the connections."""
    port = free_port()
    first = bind("127.0.0.1", port, 2)
    try:
        with pytest.raises(CannotBind, match=rf"127\.0\.0\.1:{port} is in use.*choose another port"):
            bind("127.0.0.1", port, 2)
    finally:
        for sock in first:
            sock.close()
    for sock in bind("127.0.0.1", port, 1):
        sock.close()


def test_datagrams_come_to_several_sockets_of_one_port_which_nobody_else_has():
    port = free_port()
    sockets = bind("127.0.0.1", port, 3, datagrams=True)
    try:
        assert {(sock.type, sock.getsockname()) for sock in sockets} == {(socket.SOCK_DGRAM, ("127.0.0.1", port))}
        assert not any(sock.getblocking() for sock in sockets)
        with pytest.raises(CannotBind, match=rf"UDP 127\.0\.0\.1:{port} is in use.*choose another port"):
            bind("127.0.0.1", port, 1, datagrams=True)
        for sock in bind("127.0.0.1", port, 1):  # TCP has ports of its own
            sock.close()
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            for _ in range(4):
                client.sendto(b"question", ("127.0.0.1", port))
        taken = 0
        for sock in sockets:
            sock.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                while sock.recv(100) == b"question":
                    taken += 1
        assert taken == 4
    finally:
        for sock in sockets:
            sock.close()


def test_every_address_of_a_port_beside_one_of_them():
    """The closer one takes its own connections; what another program has is still in use."""
    (one,) = bind("127.26.0.77", 0, 1)
    port = one.getsockname()[1]
    with one:
        with pytest.raises(CannotBind, match="in use"):
            bind("0.0.0.0", port, 1)
        every = bind("0.0.0.0", port, 2, beside=True)
        with every[0], every[1]:
            for address, taken in (("127.26.0.77", True), ("127.26.0.78", False)):
                with socket.create_connection((address, port)):
                    ready, _, _ = select.select([one, *every], [], [], 5)
                    assert (ready == [one]) is taken
                    for sock in ready:
                        sock.accept()[0].close()
    with socket.create_server(("127.26.0.77", 0)) as other, pytest.raises(CannotBind, match="in use"):
        bind("0.0.0.0", other.getsockname()[1], 1, beside=True)


def test_a_port_with_connections_in_time_wait_is_free():
    port = free_port()
    (listener,) = bind("127.0.0.1", port, 1)
    with socket.create_connection(("127.0.0.1", port)) as client:
        listener.setblocking(True)
        accepted, _ = listener.accept()
        accepted.close()  # this side closes first, so TIME_WAIT is here
        assert client.recv(1) == b""
    listener.close()
    for sock in bind("127.0.0.1", port, 1):
        sock.close()


@pytest.mark.parametrize(
    ("address", "port", "says"),
    [
        ("192.0.2.1", 8080, "no such address"),
        ("example.com", 8080, "example.com"),
        ("127.0.0.1", 70000, "127.0.0.1:70000"),
    ],
)
def test_what_is_wrong_is_said(address, port, says):
    with pytest.raises(CannotBind, match=says):
        bind(address, port, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind every port")
def test_a_privileged_port_says_what_to_do():
    with pytest.raises(CannotBind, match="CAP_NET_BIND_SERVICE"):
        bind("127.0.0.1", 1, 1)


def test_ipv4_and_ipv6_of_one_port_are_two_listeners():
    port = free_port()
    four, six = bind("0.0.0.0", port, 1), bind("::", port, 1)
    for sock in (*four, *six):
        sock.close()


# ---------------------------------------------------------------------------------------------------------- unix sockets


def answers(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def test_a_unix_socket_is_one_for_all_and_for_the_group_only(tmp_path):
    path = str(tmp_path / "gw.sock")
    (sock,) = bind(path, 80, 4)
    with sock:
        assert answers(path)
        assert not sock.getblocking()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        with pytest.raises(CannotBind, match=r"in use by another process.*ss -lxp"):
            bind(path, 80, 1)
        assert answers(path)
        forget(sock)
    assert not os.path.exists(path)


def test_an_abstract_name_needs_no_file():
    name = f"@fedgate-test-{os.getpid()}"
    (sock,) = bind(name, 80, 2)
    with sock:
        assert answers("\0" + name[1:])
        with pytest.raises(CannotBind, match="in use"):
            bind(name, 80, 1)
        forget(sock)


def test_what_a_killed_gateway_left_is_taken_over_and_other_files_are_not(tmp_path):
    path = str(tmp_path / "gw.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    (sock,) = bind(path, 80, 1)
    with sock:
        assert answers(path)
    os.unlink(path)
    for make in (lambda: open(path, "w").close(), lambda: os.symlink("/nowhere", path)):
        make()
        with pytest.raises(CannotBind, match="no socket of this user"):
            bind(path, 80, 1)
        assert os.path.lexists(path)
        os.unlink(path)


def test_why_a_unix_socket_cannot_be_bound(tmp_path):
    with pytest.raises(CannotBind, match="longer than 107 bytes"):
        bind("/" + "x" * 107, 80, 1)
    with pytest.raises(CannotBind, match="there is no directory"):
        bind(str(tmp_path / "no" / "gw.sock"), 80, 1)
