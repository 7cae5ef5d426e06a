"""SIMPLE and MUTUAL hosts on one port, met by real TLS clients: who must show a certificate must, whatever else is there."""

import contextlib
import json
import shutil
import ssl
import subprocess

import certs
import pytest
import trio
from running import Fedgate, listening, routes, running, server
from traffic import client_context, raw, rest_of, secure, tls, wire

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-tls")]

WEB, CLIENTS, OTHERS = certs.Authority("web"), certs.Authority("clients").intermediate(), certs.Authority("others")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """One port: open.example.com asks for nothing, closed.example.com for a certificate of CLIENTS, named.example.com for one name."""
    gateway = Fedgate(tmp_path_factory.mktemp("tls"))
    (gateway.folder / "clients.pem").write_text(CLIENTS.bundle)

    def settings(name, **more):
        leaf = WEB.leaf(f"{name}.example.com")
        (gateway.folder / f"{name}.pem").write_text(leaf.chain)
        (gateway.folder / f"{name}.key").write_bytes(leaf.key.reveal())
        files = {"serverCertificate": str(gateway.folder / f"{name}.pem"), "privateKey": str(gateway.folder / f"{name}.key")}
        return server(gateway, [f"{name}.example.com"], tls=files | more, name=f"https-{name}")

    mutual = {"mode": "MUTUAL", "caCertificates": str(gateway.folder / "clients.pem")}
    gateway.write(
        "secure",
        listening(
            "secure",
            settings("open", mode="SIMPLE"),
            settings("closed", **mutual),
            settings("named", **mutual, subjectAltNames=["alice.example.com"]),
            settings("modern", mode="SIMPLE", minProtocolVersion="TLSV1_3"),
            server(gateway, ["*"], name="http", tls=None) | {"tls": {"httpsRedirect": True}},
        ),
        *(
            routes(
                name, [f"{name}.example.com"], {"directResponse": {"status": 200, "body": {"string": name}}}, gateways=["secure"]
            )
            for name in ("open", "closed", "named", "modern")
        ),
    )
    with running(gateway):
        yield gateway


def ask(gateway, name, leaf=None, **options):
    return secure(gateway.address, gateway.secure, client_context(WEB, leaf), f"{name}.example.com", **options)


async def refused(gateway, name, leaf=None, **options):
    with pytest.raises((trio.BrokenResourceError, OSError)):
        await ask(gateway, name, leaf, **options)
    return True


async def test_simple_serves_everybody_and_mutual_only_whom_its_ca_signed(gateway):
    alice, bob = CLIENTS.leaf("alice.example.com"), CLIENTS.leaf("bob.example.com")
    assert (await ask(gateway, "open")).body == b"open"
    assert (await ask(gateway, "open", alice)).body == b"open"
    assert (await ask(gateway, "closed", alice)).body == b"closed"
    assert (await ask(gateway, "named", alice)).body == b"named"
    assert await refused(gateway, "closed")
    assert await refused(gateway, "closed", OTHERS.leaf("alice.example.com"))
    assert await refused(gateway, "closed", certs.self_signed("alice.example.com"))
    assert await refused(gateway, "closed", CLIENTS.expired("alice.example.com"))
    assert await refused(gateway, "named", bob)


async def test_a_connection_to_the_open_host_does_not_reach_the_closed_one(gateway):
    """The name in the hello chose who must prove what; a Host that names another host of the port finds no route there."""
    answer = await ask(gateway, "open", host="closed.example.com")
    assert answer.status == 404
    assert b"closed" not in answer.body


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_both_hosts_hold_in_both_versions(gateway, version):
    for leaf, name, good in ((None, "open", True), (None, "closed", False), (CLIENTS.leaf("alice.example.com"), "closed", True)):
        context = client_context(WEB, leaf)
        context.maximum_version = context.minimum_version = ssl.TLSVersion[version]
        result = None
        with contextlib.suppress(trio.BrokenResourceError, OSError):
            result = await secure(gateway.address, gateway.secure, context, f"{name}.example.com")
        assert (result is not None and result.status == 200) == good, (name, version)


async def test_a_least_version_is_kept(gateway):
    context = client_context(WEB)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((trio.BrokenResourceError, OSError)):
        await secure(gateway.address, gateway.secure, context, "modern.example.com")
    assert (await ask(gateway, "modern")).body == b"modern"


async def test_an_unknown_name_and_what_is_no_tls_are_closed_without_a_byte(gateway):
    with pytest.raises((trio.BrokenResourceError, OSError)):
        await ask(gateway, "nobody")
    assert await raw(gateway.address, gateway.secure, wire(host="open.example.com")) == b""


@pytest.mark.parametrize(
    ("offered", "taken"), [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), (("h3", "http/1.1"), "http/1.1")]
)
async def test_alpn_is_http_2_before_http_1_1(gateway, offered, taken):
    async with tls(gateway.address, gateway.secure, client_context(WEB, alpn=offered), "open.example.com") as stream:
        assert stream.selected_alpn_protocol() == taken


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(gateway):
    """In TLS 1.3 a client may send both in one segment; nothing more comes then, so nothing tells of it again."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(WEB).wrap_bio(incoming, outgoing, server_hostname="open.example.com")
    with trio.fail_after(5):
        async with await trio.open_tcp_stream(gateway.address, gateway.secure) as tcp:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    break
                await tcp.send_all(outgoing.read())
                incoming.write(await tcp.receive_some(65536))
            client.write(wire(host="open.example.com"))
            await tcp.send_all(outgoing.read())
            data = b""
            while not data.endswith(b"open"):
                incoming.write(await tcp.receive_some(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    data += client.read(65536)


async def test_close_notify_is_said(gateway):
    """Without it a client cannot tell an answer's end from a cut."""
    async with tls(gateway.address, gateway.secure, client_context(WEB), "open.example.com") as stream:
        await stream.send_all(wire(host="open.example.com", headers=[("connection", "close")]))
        assert (await rest_of(stream)).endswith(b"open")


async def test_plain_requests_are_redirected(gateway):
    answer = await gateway.get("/a?b=c", host="open.example.com", port=gateway.ingress)
    assert answer.status == 301
    assert answer.headers["location"].startswith("https://open.example.com")
    assert answer.headers["location"].endswith("/a?b=c")


async def test_keys_are_nowhere_to_be_seen(gateway):
    dump = (await gateway.get("/api/v1/snapshot?full=1", host=gateway.address, port=gateway.admin)).body.decode()
    assert "BEGIN CERTIFICATE" in dump
    assert "PRIVATE KEY" not in dump + gateway.text() + json.dumps(await gateway.rows("config"))


@pytest.mark.live
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
async def test_curl_with_and_without_its_certificate(gateway, tmp_path):
    leaf = CLIENTS.leaf("alice.example.com")
    for path, data in (("ca.pem", WEB.bundle.encode()), ("me.pem", leaf.chain.encode()), ("me.key", leaf.key.reveal())):
        (tmp_path / path).write_bytes(data)
    url = f"https://closed.example.com:{gateway.secure}/"
    command = ["curl", "-sS", "--cacert", "ca.pem", "--resolve", f"closed.example.com:{gateway.secure}:{gateway.address}", url]

    def curl(*more):
        return subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, timeout=20, check=False)

    good = await trio.to_thread.run_sync(curl, "--cert", "me.pem", "--key", "me.key")
    assert (good.returncode, good.stdout) == (0, b"closed")
    bad = await trio.to_thread.run_sync(curl)
    assert bad.returncode != 0
    assert bad.stdout == b""
