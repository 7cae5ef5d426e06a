"""The benchmarks' C programs: what they say to each other, and that they count what fails."""

import json
import struct
import subprocess

import hpack
import pytest
from running import wait_until
from running_gateway import free_ports

from bench import http2, layer4, tools
from bench.certificates import self_signed
from bench.http1 import PATH
from bench.process import Pinned, stopping
from gateway.native.codec.hello import Hello, read_hello

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def compiler():
    for name in ("backend", "backend_h2", "load_h2", "bulk", "dial", "offered"):
        try:
            tools.compiled(name)
        except tools.Missing as missing:
            pytest.skip(str(missing))


@pytest.fixture
def backend(tmp_path):
    """backend(program, *words) → its port."""
    processes = []

    def start(program, *words):
        (port,) = free_ports(1)
        processes.append(
            Pinned(program, [str(tools.compiled(program)), *words, f"127.0.0.1:{port}"], core=None, log=tmp_path / program)
        )
        processes[-1].wait_listening("127.0.0.1", port)
        return port

    with stopping(processes):
        yield start


def run(program, *words):
    done = subprocess.run([str(tools.compiled(program)), *map(str, words)], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)


def test_header_blocks_are_what_one_encoder_wrote():
    wanted = [[(":method", "GET"), ("x-session", str(number % 3))] for number in range(10)]
    data, decoder, found = http2.header_blocks(wanted), hpack.Decoder(), []
    while data:
        (length,) = struct.unpack(">H", data[:2])
        found.append([tuple(field) for field in decoder.decode(data[2 : 2 + length])])
        data = data[2 + length :]
    assert found == wanted


def test_requests_with_different_values_over_http2(backend, tmp_path):
    port, blocks = backend("backend_h2", "http", "be", "64"), tmp_path / "blocks"
    blocks.write_bytes(http2.with_different_values(200))
    said = run("load_h2", "127.0.0.1", port, 4, 10, 0.2, blocks)
    assert said["failed"] == 0
    assert said["done"] > 200 * 4, "each connection begins anew when it has sent all"


def test_an_answer_that_is_no_200_has_failed(backend, tmp_path):
    port, blocks = backend("backend", "be", "64"), tmp_path / "blocks"
    blocks.write_bytes(http2.with_different_values(10))
    assert run("load_h2", "127.0.0.1", port, 1, 1, 0.1, blocks)["done"] == 0


@pytest.mark.parametrize("hello", [False, True])
def test_bytes_and_connections_over_tcp(backend, tmp_path, hello):
    port, words = backend("bulk"), []
    if hello:
        (tmp_path / "hello").write_bytes(layer4.client_hello())
        words = [tmp_path / "hello"]
    said = run("dial", "bytes", "127.0.0.1", port, 4, 1_000_000, *words)
    assert (said["bytes"], said["done"], said["failed"]) == (4_000_000, 4, 0)
    said = run("dial", "connections", "127.0.0.1", port, 4, 0.2, *words)
    assert said["failed"] == 0
    assert said["done"] > 10


def test_the_hello_names_the_service():
    hello = read_hello(layer4.client_hello())
    assert isinstance(hello, Hello)
    assert hello.server_name == layer4.NAME


def test_handshakes_full_and_resumed(backend, tmp_path):
    port = backend("backend", "be", "64")
    try:
        program = str(tools.compiled("handshakes"))
        haproxy = tools.found("haproxy", "haproxy")
    except tools.Missing as missing:
        pytest.skip(str(missing))
    certificate, key = self_signed(tmp_path)
    both, (secure,) = tmp_path / "both.pem", free_ports(1)
    both.write_text(certificate.read_text() + key.read_text())
    (tmp_path / "haproxy.cfg").write_text(
        f"""global
  nbthread 1
  maxconn 100
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend in
  bind 127.0.0.1:{secure} ssl crt {both}
  default_backend be
backend be
  server s 127.0.0.1:{port}
"""
    )
    processes = [Pinned("haproxy", [haproxy, "-f", str(tmp_path / "haproxy.cfg")], core=None, log=tmp_path / "log")]
    with stopping(processes):
        processes[0].wait_listening("127.0.0.1", secure)
        words = ["127.0.0.1", str(secure), "be.test", PATH, "2", "0.3"]
        done = [
            json.loads(subprocess.run([program, *words, how], capture_output=True, check=True).stdout)
            for how in ("full", "resumed")
        ]
    assert [one["failed"] for one in done] == [0, 0]
    assert done[0]["done"] > 4
    assert done[0]["resumed"] == 0
    assert done[1]["resumed"] >= done[1]["done"] - 4, "all but the first of each slot"


def test_a_process_that_does_not_answer_says_what_it_said(tmp_path, backend):
    (port,) = free_ports(1)
    process = Pinned("nothing", ["sh", "-c", "echo no configuration"], core=None, log=tmp_path / "log")
    wait_until(lambda: "no configuration" in (tmp_path / "log").read_text(), "it has ended")
    with stopping([process]), pytest.raises(RuntimeError, match="no configuration"):
        process.wait_answering(port, "be.test", seconds=1)
    port = backend("backend", "be", "64")
    process.wait_listening("127.0.0.1", port)
