"""curl as a client: another implementation's idea of HTTP/1.1, plain and over TLS."""

import functools
import json
import shutil
import subprocess

import certs
import pytest
import trio
from running import Fedgate, Workloads, listening, routes, running, server, service, to

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH"),
    pytest.mark.xdist_group("live-curl"),
]

HOST = "shop.example.com"
WEB = certs.Authority("web")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(gateway, workloads); the same routes on a plain and a TLS port."""
    folder = tmp_path_factory.mktemp("curl")
    workloads, gateway = Workloads(folder, "one"), Fedgate(folder)
    leaf = WEB.leaf(HOST)
    for name, data in (("chain.pem", leaf.chain.encode()), ("key.pem", leaf.key.reveal()), ("ca.pem", WEB.bundle.encode())):
        (gateway.folder / name).write_bytes(data)
    tls = {"mode": "SIMPLE", "serverCertificate": str(gateway.folder / "chain.pem"), "privateKey": str(gateway.folder / "key.pem")}
    gateway.write(
        "shop",
        listening("web", server(gateway, [HOST]), server(gateway, [HOST], tls=tls)),
        service("one.shop", [workloads.endpoint("one")]),
        routes("one", [HOST], {"route": [to("one.shop")]}, gateways=["web"]),
    )
    with running(workloads, gateway):
        yield gateway, workloads


@pytest.fixture(params=["http", "https"])
def curl(world, request):
    """curl(*options, path=…) → CompletedProcess, on the plain port and on the TLS port."""
    gateway, _ = world
    port = gateway.secure if request.param == "https" else gateway.ingress
    known = ["--resolve", f"{HOST}:{port}:{gateway.address}", "--cacert", str(gateway.folder / "ca.pem")]

    async def run(*options, paths=("/",)):
        urls = [f"{request.param}://{HOST}:{port}{path}" for path in paths]
        call = functools.partial(subprocess.run, capture_output=True, timeout=30, check=False)
        return await trio.to_thread.run_sync(call, ["curl", "-sS", "--http1.1", *known, *options, *urls])

    return run


async def test_get(curl):
    done = await curl("-i", "-H", "x-mine: yes", paths=["/books?id=7"])
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    seen = json.loads(body)
    assert (seen["method"], seen["path"]) == ("GET", "/books?id=7")
    assert ["x-mine", "yes"] in seen["headers"]


async def test_one_connection_carries_many_requests(curl):
    done = await curl("-v", paths=["/a", "/b", "/c"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b'"served_by"') == 3
    assert done.stderr.lower().count(b"re-using existing") == 2, done.stderr.decode()


async def test_head_has_no_body(curl):
    done = await curl("-I", "--max-time", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"HTTP/1.1 200")


async def test_an_upload_of_known_length_and_expect_100_continue(curl, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 8192)
    done = await curl(
        "-v", "-H", "expect: 100-continue", "--expect100-timeout", "20", "--data-binary", f"@{body}", "--max-time", "15"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["body"] == 256 * 8192
    assert b"HTTP/1.1 100 Continue" in done.stderr


async def test_a_chunked_upload(curl, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"z" * 1_000_000)
    done = await curl("-H", "transfer-encoding: chunked", "-T", str(body), "--max-time", "15")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["method"], seen["body"]) == ("PUT", 1_000_000)


async def test_large_and_chunked_answers(curl, tmp_path):
    done = await curl(paths=["/big/5000000"])
    assert (done.returncode, len(done.stdout)) == (0, 5_000_000)
    done = await curl(paths=["/chunked"])
    assert (done.returncode, done.stdout) == (0, b"hello chunks")


async def test_an_answer_that_is_cut_is_an_error_for_curl_too(curl):
    done = await curl(paths=["/half"])
    assert done.returncode in (18, 56), "curl: transfer closed with outstanding data, or connection reset"


async def test_an_old_client(curl):
    done = await curl("--http1.0", "-i")
    assert done.returncode == 0, done.stderr
    assert b" 200 " in done.stdout.split(b"\r\n")[0]


async def test_a_client_that_goes_away_costs_nothing(curl, world):
    _gateway, _workloads = world
    done = await curl("--max-time", "0.3", paths=["/sleep/2"])
    assert done.returncode == 28, "curl: timed out"
    assert (await curl()).returncode == 0
