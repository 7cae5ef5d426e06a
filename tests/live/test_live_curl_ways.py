"""curl over HTTP/1.1 and HTTP/2, plain and over TLS: what must be the same in all four, and what only HTTP/2 has."""

import re
import shutil

import pytest
from curling import WAYS, World, answered, keeps_connections, seen
from workload import CONTENT

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH"),
    pytest.mark.xdist_group("live-curl-ways"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("ways"))
    with made.running():
        yield made


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def curl(world, way):
    async def run(*options, **more):
        return await world.curl(way, *options, **more)

    return run


async def test_get_in_the_protocol_that_was_asked_for(curl, way):
    done = await curl("-w", "\n%{http_version}", "-H", "x-mine: yes", paths=["/books?id=7"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"\n2" if way.startswith("h2") else b"\n1.1")
    assert b'"path": "/books?id=7"' in done.stdout
    assert b'["x-mine", "yes"]' in done.stdout


@pytest.fixture
def kept(way):
    """Skips where curl cannot keep a connection. Not in the test: inside pytest-trio a skip loses its reason."""
    if not keeps_connections(way):
        pytest.skip("this curl's HTTP/2 with prior knowledge breaks on the second request of a connection (curl issue 10634)")


@pytest.mark.usefixtures("kept")
async def test_many_requests_over_one_connection(curl, tmp_path):
    count = 40
    done = await curl("-Z", "--parallel-max", "20", "-w", "%{num_connects}\\n", "-o", str(tmp_path / "#1"), paths=[f"/[1-{count}]"])
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) == count
    assert all(f'"path": "/{path.name}"' in path.read_text() for path in tmp_path.iterdir())


async def test_head(curl):
    head, body = answered(await curl("-I", paths=["/range"]))
    assert " 200" in head
    assert f"content-length: {len(CONTENT)}" in head
    assert body == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body(curl, way, status):
    head, body = answered(await curl("-i", paths=[f"/empty/{status}"]))
    assert f" {status}" in head.splitlines()[0]
    assert 'etag: "1"' in head
    assert "transfer-encoding" not in head
    assert body == b""
    if keeps_connections(way):
        done = await curl("-w", "%{http_code}", paths=[f"/empty/{status}", "/books"])
        assert done.stdout.startswith(str(status).encode()), "the connection is in step after it"
        assert b'"path": "/books"' in done.stdout


async def test_ranges(curl):
    head, body = answered(await curl("-i", "-r", "1000-50999", paths=["/range"]))
    assert " 206" in head.splitlines()[0]
    assert f"content-range: bytes 1000-50999/{len(CONTENT)}" in head
    assert body == CONTENT[1000:51000]


async def test_a_download_that_was_broken_off_goes_on(curl, tmp_path):
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:12345])
    done = await curl("-C", "-", "-o", str(part), paths=["/range"])
    assert done.returncode == 0, done.stderr
    assert part.read_bytes() == CONTENT


async def test_a_large_body_both_ways_is_not_changed(curl, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(CONTENT * 5)
    done = await curl("--data-binary", f"@{body}", paths=["/echo"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == CONTENT * 5


async def test_an_upload_of_unknown_length(curl):
    found = seen(await curl("-T", "-", paths=["/x"], data=b"z" * 1_000_000))
    assert (found["method"], found["body"]) == ("PUT", 1_000_000)


async def test_100_continue(curl, way, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(CONTENT)
    done = await curl("-v", "-H", "expect: 100-continue", "--expect100-timeout", "15", "--data-binary", f"@{body}", paths=["/echo"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == CONTENT
    assert re.search(rb"< HTTP/[12.]+ 100", done.stderr), done.stderr[-2000:]


async def test_informational_answers_do_not_confuse(curl):
    done = await curl("-w", "\n%{http_code}", paths=["/early"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"\n200")


async def test_compressed_is_asked_for_and_nothing_is_invented(curl):
    found = seen(await curl("--compressed", paths=["/books"]))
    assert dict(found["headers"])["accept-encoding"].startswith("deflate, gzip")


async def test_cookies_in_pieces_arrive_as_one(curl):
    found = seen(await curl("-H", "cookie: a=1; b=2; c=3", paths=["/books"]))
    assert [value for name, value in found["headers"] if name == "cookie"] == ["a=1; b=2; c=3"]


async def test_an_answer_that_is_cut_is_an_error(curl, way):
    done = await curl(paths=["/half"])
    assert done.returncode in ((92, 18, 56) if way.startswith("h2") else (18, 56)), done.stderr


async def test_no_endpoint_answers(curl):
    head, _ = answered(await curl("-i", paths=["/close"]))
    assert " 503" in head.splitlines()[0]


async def test_a_client_that_goes_away_costs_nothing(curl):
    done = await curl("--max-time", "0.3", paths=["/sleep/2"])
    assert done.returncode == 28, done.stderr
    assert seen(await curl())["method"] == "GET"


async def test_upgrade_to_http2_is_not_taken_up_but_answered(world):
    """`--http2` on a plain port offers h2c by Upgrade; RFC 9113 has no such thing any more."""
    done = await world.curl("http", "--http2", "-w", "\n%{http_version}", paths=["/books"])
    assert done.returncode == 0, done.stderr
    assert b'"path": "/books"' in done.stdout
    assert done.stdout.endswith(b"\n1.1")
