"""h2load and wrk: many requests over many connections, and not one of them goes wrong."""

import re
import shutil

import pytest
from curling import HOST, World, run

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.xdist_group("live-loads")]

COUNT = 4000  # requests: the sample workload is Python, and answers some thousand a second


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("loads"), hosts=["*"])  # wrk sends an address, not a name
    with made.running():
        yield made


def url(world, scheme, path="/status/200"):
    return f"{scheme}://{world.gateway.address}:{world.gateway.secure if scheme == 'https' else world.gateway.ingress}{path}"


needs_h2load = pytest.mark.skipif(not shutil.which("h2load"), reason="h2load is not on PATH (Debian: nghttp2-client)")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not on PATH")


@needs_h2load
@pytest.mark.parametrize(
    ("scheme", "options", "protocol"),
    [
        ("http", ["-m20"], "h2c"),
        ("http", ["--h1"], "http/1.1"),
        ("https", ["-m20"], "h2"),
        ("https", ["--h1"], "http/1.1"),
    ],
)
async def test_h2load(world, scheme, options, protocol):
    # The authority of an address in the URL is the address; the name that is routed goes beside it, as in a client behind a resolver.
    header = [] if scheme == "https" else ["-H", f":authority: {HOST}"]
    sni = ["--connect-to", f"{world.gateway.address}:{world.gateway.secure}"] if scheme == "https" else []
    where = f"https://{HOST}/status/200" if scheme == "https" else url(world, scheme)
    done = await run("h2load", "-c20", "-t1", f"-n{COUNT}", *options, *header, *sni, where)
    text = done.stdout.decode()
    assert done.returncode == 0, text + done.stderr.decode()
    assert f"Application protocol: {protocol}" in text
    assert f"{COUNT} total, {COUNT} started, {COUNT} done, {COUNT} succeeded, 0 failed, 0 errored, 0 timeout" in text
    assert f"status codes: {COUNT} 2xx, 0 3xx, 0 4xx, 0 5xx" in text


@needs_h2load
async def test_h2load_uploads(world, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"b" * 100_000)
    done = await run("h2load", "-c5", "-m5", "-t1", "-n200", "-d", body, "-H", f":authority: {HOST}", url(world, "http", "/echo"))
    text = done.stdout.decode()
    assert "200 done, 200 succeeded, 0 failed, 0 errored, 0 timeout" in text, text
    assert "status codes: 200 2xx" in text
    assert int(re.search(r"\((\d+)\) data", text)[1]) == 200 * 100_000


@needs_wrk
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("options", [[], ["-H", "connection: close"]], ids=["kept", "closed"])
async def test_wrk(world, scheme, options):
    done = await run("wrk", "-t1", "-c32", "-d2s", "-H", f"Host: {HOST}", *options, url(world, scheme))
    text = done.stdout.decode()
    assert "Non-2xx" not in text, text
    assert "Socket errors" not in text, text
    assert int(re.search(r"(\d+) requests in", text)[1]) > 50, text
