"""The Nomad client against a scripted agent: parameters, tokens, TLS, refusals, bounds."""

import os
import ssl
from functools import partial

import msgspec
import pytest
import trio
import trustme
from nomad_server import ScriptedNomad

from discovery.clients import agent
from discovery.clients.nomad import NomadClient, NomadOptions, NomadRefused, NomadUnreachable, part

ANY = msgspec.json.Decoder()


async def start(nursery, nomad, **options):
    port = await nursery.start(nomad.serve)
    return NomadClient(NomadOptions(f"http://127.0.0.1:{port}", **options))


async def test_it_names_region_namespace_index_and_wait(nursery):
    nomad = ScriptedNomad()
    async with await start(nursery, nomad, region="eu") as client:
        answer = await client.get("/v1/services", ANY, namespace="*")
        assert answer.index == 10
        await client.get("/v1/services", ANY, index=20, stale=True, wait=30)
    first, second = nomad.asked
    assert first == "/v1/services?namespace=%2A&region=eu"
    assert set(second.partition("?")[2].split("&")) == {"region=eu", "stale=", "index=20", "wait=30s"}
    nursery.cancel_scope.cancel()


async def test_the_token_is_read_anew_when_its_file_changes_and_is_never_shown(nursery, tmp_path):
    nomad = ScriptedNomad()
    file = tmp_path / "token"
    file.write_text("secret-one\n")
    async with await start(nursery, nomad, token_file=str(file)) as client:
        await client.get("/v1/nodes", ANY)
        file.write_text("secret-two-longer\n")
        await client.get("/v1/nodes", ANY)
        nomad.refuse["/v1"] = 403
        with pytest.raises(NomadRefused, match="read-job") as refused:
            await client.get("/v1/nodes", ANY)
        assert "secret" not in repr(client) + str(refused.value)
    assert nomad.tokens == ["secret-one", "secret-two-longer", "secret-two-longer"]
    assert refused.value.status == 403
    nursery.cancel_scope.cancel()


async def test_a_token_file_that_is_not_there_is_named(nursery, tmp_path):
    nomad = ScriptedNomad()
    async with await start(nursery, nomad, token_file=str(tmp_path / "missing")) as client:
        with pytest.raises(NomadUnreachable, match="missing"):
            await client.get("/v1/nodes", ANY)
    nursery.cancel_scope.cancel()


async def test_what_is_no_nomad_is_said(nursery):
    nomad = ScriptedNomad()
    async with await start(nursery, nomad) as client:
        with pytest.raises(NomadUnreachable, match="none of Nomad's"):
            await client.get("/v1/nodes", msgspec.json.Decoder(dict))
        with pytest.raises(NomadRefused, match="404"):
            await client.get("/v1/elsewhere", ANY)
    nursery.cancel_scope.cancel()


async def test_an_answer_without_end_is_cut(nursery, monkeypatch):
    monkeypatch.setattr(agent, "MOST_BYTES", 1000)
    nomad = ScriptedNomad()
    nomad.nodes["n"] = {"ModifyIndex": 1, "Meta": {"a": "x" * 2000}}
    async with await start(nursery, nomad) as client:
        with pytest.raises(NomadUnreachable, match="MiB"):
            await client.get("/v1/nodes", ANY)
    nursery.cancel_scope.cancel()


async def test_over_a_unix_socket(nursery, tmp_path):
    nomad = ScriptedNomad()
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(tmp_path / "nomad.sock"))
    sock.listen()
    nursery.start_soon(trio.serve_listeners, nomad._talk, [trio.SocketListener(sock)])
    async with NomadClient(NomadOptions(f"unix://{tmp_path}/nomad.sock")) as client:
        assert (await client.get("/v1/nodes", ANY)).value == []
    nursery.cancel_scope.cancel()


async def test_over_mutual_tls_with_certificates_that_are_replaced(nursery, tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    nomad = ScriptedNomad()
    listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, nomad._talk, 0, server, host="127.0.0.1"))
    port = listeners[0].transport_listener.socket.getsockname()[1]
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))

    def write(trusted):
        own = authority.issue_cert("client.example")
        trusted.cert_pem.write_to_path(ca)
        own.cert_chain_pems[0].write_to_path(cert)
        own.private_key_pem.write_to_path(key)

    write(other)
    os.utime(ca, (1, 1))
    async with NomadClient(NomadOptions(f"https://127.0.0.1:{port}", ca_file=ca, cert_file=cert, key_file=key)) as client:
        with pytest.raises(NomadUnreachable, match="verify failed"):
            await client.get("/v1/nodes", ANY)
        write(authority)
        assert (await client.get("/v1/nodes", ANY)).value == []
        write(other)
        os.utime(ca, (2, 2))
        with pytest.raises(NomadUnreachable, match="verify failed"):
            await client.get("/v1/nodes", ANY)
    nursery.cancel_scope.cancel()


async def test_a_query_that_is_cancelled_gives_its_connection_back(nursery):
    nomad = ScriptedNomad()
    async with await start(nursery, nomad) as client:
        for _ in range(3):
            with trio.move_on_after(0.05) as scope:
                await client.get("/v1/services", ANY, index=99)
            assert scope.cancelled_caught or nomad.index
        assert (await client.get("/v1/nodes", ANY)).value == []
    nursery.cancel_scope.cancel()


def test_a_name_cannot_become_another_path():
    assert part("a/../b?c") == "a%2F..%2Fb%3Fc"
