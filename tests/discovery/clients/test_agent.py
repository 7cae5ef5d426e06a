"""HTTP to an agent: answers that are no answers, and a token that nobody is shown."""

import gzip

import msgspec
import pytest
import trio

from discovery.clients import agent as module
from discovery.clients.agent import Agent, NoAnswer, TokenFile
from discovery.clients.consul_session import ConsulConnection, Refused, Session
from discovery.clients.nomad import NomadClient, NomadOptions, NomadRefused

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"


class To(msgspec.Struct, frozen=True):
    address: str
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@pytest.fixture
async def says(nursery):
    """A server that answers with these bytes, a piece a turn; it keeps what it was asked."""

    async def begin(*pieces, end=True, pause=0.0):
        asked = []

        async def serve(stream):
            async with stream:
                asked.append((await stream.receive_some()).decode())
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.sleep(pause)
                if not end:
                    await stream.receive_some()

        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", asked

    yield begin
    nursery.cancel_scope.cancel()


async def ask(to, *, within=5.0):
    agent = Agent("Consul", to, connections=2, narrow="ask for less")
    try:
        return await agent.request("GET", "/v1/x", [("a", "b c")], within=within)
    finally:
        await agent.aclose()


async def test_an_answer(says):
    address, asked = await says(OK + b"x-index: 5\r\n\r\n[]")
    answer = await ask(To(address))
    assert (answer.status, answer.headers["x-index"], answer.body) == (200, "5", b"[]")
    head = asked[0].lower()
    assert head.startswith("get /v1/x?a=b")
    assert "accept-encoding: identity" in head
    assert "token" not in head


@pytest.mark.parametrize(
    "pieces",
    [
        (b"",),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n[",),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[",),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n[",),
        (b"SSH-2.0-OpenSSH_9.6\r\n",),
        (OK + b"content-length: 3\r\n\r\n[]",),
    ],
    ids=["nothing", "half", "half a chunk", "no chunk", "no HTTP", "two lengths"],
)
async def test_what_is_no_answer(says, pieces):
    address, _ = await says(*pieces)
    with pytest.raises(NoAnswer, match="check that the Consul agent runs"), trio.fail_after(5):
        await ask(To(address))


async def test_an_answer_that_drips_has_an_end(says, monkeypatch):
    """Each byte comes in time, the whole never."""
    monkeypatch.setattr(module, "CONNECT_WITHIN", 0.05)
    monkeypatch.setattr(module, "LEASE_WITHIN", 0.05)
    address, _ = await says(b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n", *[b"x"] * 2000, pause=0.01)
    with pytest.raises(NoAnswer), trio.fail_after(5):
        await ask(To(address), within=0.1)


@pytest.mark.parametrize("body", [b"[]", gzip.compress(b" " * 1_000_000)], ids=["no gzip", "a million spaces"])
async def test_what_was_compressed_though_we_asked_for_plain_is_not_unpacked(says, body):
    address, _ = await says(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    with pytest.raises(NoAnswer, match="compressed"):
        await ask(To(address))


async def test_an_answer_without_end_is_cut(says, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    address, _ = await says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *[b"5dc\r\n" + b" " * 1500 + b"\r\n"] * 100)
    with pytest.raises(NoAnswer, match=r"larger than .* MiB; ask for less"):
        await ask(To(address))


async def test_another_place_is_not_gone_to(says):
    elsewhere, never = await says(OK + b"\r\n[]")
    address, _ = await says(
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: %b/v1/x\r\ncontent-length: 0\r\n\r\n" % elsewhere.encode()
    )
    assert (await ask(To(address))).status == 307
    assert never == []


async def test_the_token_is_sent_and_taken_out_of_what_comes_back(says, tmp_path):
    (tmp_path / "token").write_text("top-secret\n")
    address, asked = await says(OK + b"\r\n[]")
    agent = Agent("Nomad", To(address, str(tmp_path / "token")), connections=2, narrow="")
    assert agent.redacted(b"nothing yet") == b"nothing yet"
    await agent.request("GET", "/", [], within=5.0)
    assert "x-nomad-token: top-secret" in asked[0].lower()
    assert agent.redacted(b"no top-secret here") == b"no [redacted] here"
    await agent.aclose()


@pytest.mark.parametrize("before", [195, 795])
async def test_half_a_token_is_not_shown_either_where_what_came_back_is_cut(says, tmp_path, before):
    (tmp_path / "token").write_text("top-secret")
    body = b"%b top-secret" % (b" " * (before - 2) + b"x")
    answer = b"HTTP/1.1 403 No\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    address, _ = await says(answer)
    async with NomadClient(NomadOptions(address, token_file=str(tmp_path / "token"))) as client:
        with pytest.raises(NomadRefused) as caught:
            await client.get("/v1/x", msgspec.json.Decoder())
    assert "top" not in str(caught.value)
    async with Session(ConsulConnection(address, token_file=str(tmp_path / "token")), connections=1) as session:
        with pytest.raises(Refused) as caught:
            await session.request("GET", "/v1/x", [])
    assert "top" not in str(caught.value)


@pytest.mark.parametrize("text", ["top-secret\nsecond", "top secret", "t\u00f6p-secret", "top-secret\0"])
async def test_a_token_that_cannot_be_sent_is_refused_before_anybody_quotes_it(tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(NoAnswer, match="write the token alone") as caught:
        await ask(To("http://127.0.0.1:1", str(tmp_path / "token")))
    assert "secret" not in str(caught.value)


def test_a_token_is_kept_while_its_file_is_gone_or_empty(tmp_path):
    path = tmp_path / "token"
    token = TokenFile(str(path))
    with pytest.raises(NoAnswer, match="No such file"):
        token.read()
    path.write_bytes(b"\xff")
    with pytest.raises(NoAnswer, match="is not text"):
        token.read()
    path.write_text("\n")
    with pytest.raises(NoAnswer, match="is empty"):
        token.read()
    path.write_text("one")
    assert token.read() == "one"
    path.write_text("")  # as whoever writes it anew begins
    assert token.read() == "one"
    path.unlink()
    assert token.read() == "one"
    path.write_text("the-next")
    assert token.read() == "the-next"


@pytest.mark.parametrize("address", ["http://127.0.0.1:port", "http://[bad", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none(address):
    with pytest.raises(NoAnswer):
        await ask(To(address))
