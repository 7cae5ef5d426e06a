"""HTTP to a Consul agent: token and certificates from files, limits, errors that say what to do."""

import os
import ssl

import certs
import pytest
import trio
from scripted_consul import LIST, Scripted, ScriptedConsul

from discovery.clients import agent
from discovery.clients.consul_session import ConsulConnection, Refused, Session, Unreachable


async def asked_of(consul, connection, *, path=LIST):
    async with Session(connection, connections=2) as session:
        return await session.request("GET", path, [])


@pytest.fixture
async def consul(nursery):
    made = ScriptedConsul()
    await nursery.start(made.serve)
    made.say(LIST, {"web": []})
    return made


async def test_every_request_says_where_it_is_meant_for(consul):
    connection = ConsulConnection(consul.address, datacenter="dc2", namespace="shop", partition="p1")
    await asked_of(consul, connection)
    assert consul.requests[0].params == {"dc": "dc2", "ns": "shop", "partition": "p1"}
    assert "x-consul-token" not in consul.requests[0].headers
    assert consul.requests[0].headers["accept-encoding"] == "identity"


async def test_the_token_is_read_anew_when_its_file_changes_and_kept_while_it_is_gone(consul, tmp_path, monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "of-the-environment")
    path = tmp_path / "token"
    path.write_text("first\n")
    async with Session(ConsulConnection(consul.address, token_file=str(path)), connections=2) as session:
        await session.request("GET", LIST, [])
        (tmp_path / "new").write_text("second")
        os.replace(tmp_path / "new", path)
        await session.request("GET", LIST, [])
        path.unlink()
        await session.request("GET", LIST, [])
        assert "second" not in repr(session)
    assert [asked.headers["x-consul-token"] for asked in consul.requests] == ["first", "second", "second"]


async def test_a_token_that_never_was_is_said_with_its_path(consul, tmp_path):
    with pytest.raises(Unreachable, match="nowhere cannot be read: No such file"):
        await asked_of(consul, ConsulConnection(consul.address, token_file=str(tmp_path / "nowhere")))
    assert not consul.requests


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "rights"),
        (429, "http_max_conns"),
        (500, "Consul's own log"),
        (503, "No cluster leader"),
        (400, "report"),
        (307, "check the address"),
    ],
)
async def test_a_refusal_says_what_was_asked_and_what_to_do(consul, tmp_path, status, words):
    (tmp_path / "token").write_text("top-secret")
    consul.scripted[LIST] = [Scripted("No cluster leader", status=status)]
    with pytest.raises(Refused, match=f"GET /v1/catalog/services: Consul answered {status}") as caught:
        await asked_of(consul, ConsulConnection(consul.address, token_file=str(tmp_path / "token")))
    assert caught.value.status == status
    assert words in str(caught.value)
    assert "top-secret" not in str(caught.value)


@pytest.mark.parametrize("status", [404, 409])
async def test_there_is_none_and_a_transactions_no_are_answers(consul, status):
    consul.scripted[LIST] = [Scripted({}, status=status)]
    assert (await asked_of(consul, ConsulConnection(consul.address))).code == status


async def test_nobody_there_a_closed_connection_and_silence_are_unreachable(consul, monkeypatch):
    unused = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = unused[0].socket.getsockname()[1]
    await unused[0].aclose()
    with pytest.raises(Unreachable, match="check that the Consul agent runs"):
        await asked_of(consul, ConsulConnection(f"http://127.0.0.1:{port}"))
    consul.scripted[LIST] = [Scripted(status=-1)]
    with pytest.raises(Unreachable):
        await asked_of(consul, ConsulConnection(consul.address))
    consul.scripted[LIST] = [Scripted(status=0)]
    async with Session(ConsulConnection(consul.address), connections=2) as session:
        with pytest.raises(Unreachable):
            await session.request("GET", LIST, [], within=0.05)


async def test_an_answer_without_end_is_cut(consul, monkeypatch):
    monkeypatch.setattr(agent, "MOST_BYTES", 1000)
    consul.say(LIST, {"x" * 2000: []})
    with pytest.raises(Unreachable, match="larger than"):
        await asked_of(consul, ConsulConnection(consul.address))


async def test_tls_is_verified_and_a_certificate_shown_the_one_its_file_has_now(nursery, tmp_path):
    authority, other = certs.Authority("consul"), certs.Authority("other")
    server, seen = authority.leaf("127.0.0.1"), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "server.pem").write_text(server.chain)
    (tmp_path / "server.key").write_bytes(server.key.reveal())
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    (tmp_path / "ca.pem").write_text(authority.bundle)
    (tmp_path / "other.pem").write_text(other.bundle)
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    async def serve(stream):
        async with trio.SSLStream(stream, context, server_side=True, https_compatible=True) as tls:
            await tls.receive_some()
            seen.append(dict(name[0] for name in tls.getpeercert()["subject"]) | {"san": tls.getpeercert().get("subjectAltName")})
            await tls.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")

    def client(name):
        leaf = authority.leaf(name)
        (tmp_path / "new").write_text(leaf.chain)
        os.replace(tmp_path / "new", tmp_path / "client.pem")
        (tmp_path / "client.key").write_bytes(leaf.key.reveal())

    listeners = await nursery.start(trio.serve_tcp, serve, 0)
    address = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    files = {"cert_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key")}
    client("one.example.com")
    async with Session(ConsulConnection(address, ca_file=str(tmp_path / "ca.pem"), **files), connections=2) as session:
        await session.request("GET", LIST, [])
        client("two.example.com")
        await session.request("GET", LIST, [])
    assert [each["san"] for each in seen] == [(("DNS", "one.example.com"),), (("DNS", "two.example.com"),)]
    (tmp_path / "client.key").write_text("no key")
    with pytest.raises(Unreachable, match=r"TLS cannot be used: .*check .*client.key"):
        await asked_of(None, ConsulConnection(address, ca_file=str(tmp_path / "ca.pem"), **files))
    nursery.cancel_scope.cancel()


async def test_a_server_of_another_authority_is_not_believed(nursery, tmp_path):
    server, other = certs.Authority("consul").leaf("127.0.0.1"), certs.Authority("other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "server.pem").write_text(server.chain)
    (tmp_path / "server.key").write_bytes(server.key.reveal())
    (tmp_path / "other.pem").write_text(other.bundle)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    async def serve(stream):
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
            await trio.SSLStream(stream, context, server_side=True).do_handshake()
        await stream.aclose()

    listeners = await nursery.start(trio.serve_tcp, serve, 0)
    address = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        await asked_of(None, ConsulConnection(address, ca_file=str(tmp_path / "other.pem")))
    nursery.cancel_scope.cancel()


async def test_a_unix_socket(nursery, tmp_path):
    path = str(tmp_path / "consul.sock")
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listener.bind(path)
    listener.listen()

    async def serve(stream):
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listener)])
    assert (await asked_of(None, ConsulConnection(f"unix://{path}"))).body == b"{}"
    nursery.cancel_scope.cancel()
