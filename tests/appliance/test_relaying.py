"""`fedgate run` with servers that relay: TCP on a port and on a unix socket that two workers share, metrics and the socket's file."""

import os
import socket

import pytest
from running import Fedgate, Workloads, document, fetch, listening, running, service, wait_until

pytestmark = pytest.mark.slow

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def ask(address):
    """A request over a connection of its own; b"" when nobody is there."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        sock.connect(address)
        sock.sendall(REQUEST)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def tcp_route(name, gateway, host):
    spec = {"hosts": ["*"], "gateways": [gateway], "tcp": [{"route": [{"destination": {"host": host, "port": {"number": 80}}}]}]}
    return document("VirtualService", name, spec)


def test_a_port_and_a_unix_socket_relay(tmp_path):
    shop, east = Workloads(tmp_path, "v1"), Fedgate(tmp_path, "east", workers=2)
    path = str(tmp_path / "tcp.sock")
    servers = [
        {"port": {"number": east.ingress, "name": "tcp", "protocol": "TCP"}, "bind": east.address, "hosts": ["*"]},
        {"port": {"number": 0, "name": "local", "protocol": "TCP"}, "bind": f"unix://{path}", "hosts": ["*"]},
    ]
    east.write("service", service("tcp.shop", [shop.endpoint("v1")]))
    east.write("gateway", listening("edge", *servers), tcp_route("edge", "edge", "tcp.shop"))
    with running(shop):
        with running(east):
            for _ in range(10):
                assert ask((east.address, east.ingress)).startswith(b"HTTP/1.1 200")
                assert ask(path).startswith(b"HTTP/1.1 200")

            def counted():
                lines = fetch(east.address, east.admin, "/metrics").decode().splitlines()
                return sum(float(line.split()[-1]) for line in lines if line.startswith("istio_tcp_connections_closed_total"))

            wait_until(lambda: counted() == 20.0, "both workers' connections are counted")
            line = next(line for line in wait_until(east.logged, "lines") if line["downstream_local_address"] == path)
            assert (line["downstream_remote_address"], line["upstream_cluster"]) == (path, "outbound|80||tcp.shop")
        assert os.path.exists(path), "it was killed, and left the file"
        with running(east):
            assert ask(path).startswith(b"HTTP/1.1 200")
            east.write("gateway", listening("edge", servers[0]), tcp_route("edge", "edge", "tcp.shop"))
            wait_until(lambda: not os.path.exists(path), "the socket's file is gone with its server")
            assert ask((east.address, east.ingress)).startswith(b"HTTP/1.1 200")
