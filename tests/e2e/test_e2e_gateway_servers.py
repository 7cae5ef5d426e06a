"""Gateway servers of every protocol in one gateway: optional, revoked and pinned clients, two certificates, TLS that ends before TCP, TLS and
TCP that pass through, a unix socket. Met by real clients; what is relayed ends in echo servers of this test."""

import base64
import contextlib
import hashlib
import socket
import ssl

import certs
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from running import Fedgate, document, listening, routes, running
from traffic import client_context, raw, read_answer, rest_of, secure, tls, wire

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-gateway-servers")]

WEB, CLIENTS = certs.Authority("web"), certs.Authority("clients")
ALICE, BOB = CLIENTS.leaf("alice.example.com"), CLIENTS.leaf("bob.example.com")
OWN = WEB.leaf("through.example.com")  # of the workload that ends its TLS itself
SPKI = hashlib.sha256(
    ALICE.certificate.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
)


def bound(address):
    sock = socket.socket()
    sock.bind((address, 0))
    sock.listen()
    return sock


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The gateway, and the listening sockets of the two workloads."""
    gateway = Fedgate(tmp_path_factory.mktemp("servers"))
    plain, own = bound(gateway.address), bound(gateway.address)
    with plain, own:
        gateway.plain, gateway.own, gateway.socket = plain, own, f"{gateway.folder}/gw.sock"
        gateway.write("servers", *documents(gateway))
        with running(gateway):
            yield gateway


def documents(gateway):
    files = {"ca.pem": CLIENTS.pem, "ca.crl": CLIENTS.crl(BOB)}
    pairs = {"ecdsa": WEB.leaf("*.example.com"), "rsa": WEB.leaf("*.example.com", of_rsa=True, label="rsa")}
    for name, leaf in pairs.items():
        files |= {f"{name}.pem": leaf.chain, f"{name}.key": leaf.key.reveal().decode()}
    for name, text in files.items():
        (gateway.documents / name).parent.mkdir(parents=True, exist_ok=True)
        (gateway.documents / name).write_text(text)
    one = {"serverCertificate": "ecdsa.pem", "privateKey": "ecdsa.key"}
    two = {"tlsCertificates": [{"serverCertificate": f"{kind}.pem", "privateKey": f"{kind}.key"} for kind in pairs]}
    clients = one | {"caCertificates": "ca.pem"}

    def at(protocol, name, host, settings=None, port=None, **more):
        number = gateway.secure if port is None else port
        written = {"port": {"number": number, "name": name, "protocol": protocol}, "hosts": [host], "bind": gateway.address}
        return written | ({"tls": settings} if settings else {}) | more

    yield listening(
        "all",
        at("HTTPS", "open", "open.example.com", {"mode": "SIMPLE"} | two),
        at("HTTPS", "optional", "optional.example.com", {"mode": "OPTIONAL_MUTUAL"} | clients),
        at("HTTPS", "revoked", "revoked.example.com", {"mode": "MUTUAL", "caCrl": "ca.crl"} | clients),
        at(
            "HTTPS",
            "pinned",
            "pinned.example.com",
            {"mode": "MUTUAL", "verifyCertificateSpki": [base64.b64encode(SPKI.digest()).decode()]} | clients,
        ),
        at("TLS", "ends", "ends.example.com", {"mode": "SIMPLE"} | one),
        at("TLS", "through", "through.example.com", {"mode": "PASSTHROUGH"}),
        at("TCP", "tcp", "*", port=gateway.ingress),
        at("HTTP", "local", "*", port=0, bind=f"unix://{gateway.socket}"),
    )
    yield routes("http", ["*"], {"directResponse": {"status": 200, "body": {"string": "here"}}}, gateways=["all"])
    echo, own = ({"destination": {"host": f"{name}.test"}} for name in ("echo", "own"))
    streams = {
        "hosts": ["*"],
        "gateways": ["all"],
        "tcp": [{"route": [echo]}],
        "tls": [{"match": [{"sniHosts": ["through.example.com"]}], "route": [own]}],
    }
    yield document("VirtualService", "streams", streams)
    for name, sock in (("echo", gateway.plain), ("own", gateway.own)):
        port = {"number": 7, "name": "tcp", "protocol": "TCP"}
        endpoint = {"address": gateway.address, "ports": {"tcp": sock.getsockname()[1]}}
        spec = {
            "hosts": [f"{name}.test"],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [port],
            "endpoints": [endpoint],
        }
        yield document("ServiceEntry", name, spec)


@contextlib.asynccontextmanager
async def echoing(sock, context=None):
    """An echo server on the socket while inside; it shouts, so that it is known who answered."""

    async def serve(stream):
        stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True) if context else stream
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in stream:
                await stream.send_all(data.upper())
            await stream.aclose()

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock.dup()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield
        nursery.cancel_scope.cancel()


def context(leaf, version):
    made = client_context(WEB, leaf)
    made.minimum_version = made.maximum_version = ssl.TLSVersion[version]
    return made


async def passes(world, name, leaf, version):
    try:
        answer = await secure(world.address, world.secure, context(leaf, version), f"{name}.example.com")
    except (trio.BrokenResourceError, OSError):
        return False
    return answer.body == b"here"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_who_is_let_in(world, version):
    """Hosts of one port: each looks at clients in its own way."""
    stranger = certs.self_signed("alice.example.com")
    expected = {
        "open": {None: True, ALICE: True, BOB: True},
        "optional": {None: True, ALICE: True, BOB: True, stranger: False},
        "revoked": {None: False, ALICE: True, BOB: False},
        "pinned": {None: False, ALICE: True, BOB: False},
    }
    for name, clients in expected.items():
        for leaf, good in clients.items():
            assert await passes(world, name, leaf, version) is good, (name, leaf and leaf.name)


async def test_the_clients_algorithms_choose_the_certificate(world):
    for kind, bits in (("RSA", 2048), ("ECDSA", 256)):
        made = context(None, "TLSv1_2")
        made.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        async with tls(world.address, world.secure, made, "open.example.com") as stream:
            shown = certs.x509.load_der_x509_certificate(stream.getpeercert(binary_form=True))
        assert shown.public_key().key_size == bits


async def test_tcp_and_tls_that_ends_here_are_relayed(world):
    async with echoing(world.plain):
        async with await trio.open_tcp_stream(world.address, world.ingress) as stream:
            await stream.send_all(b"hello")
            await stream.send_eof()
            assert await rest_of(stream) == b"HELLO"
        async with tls(world.address, world.secure, client_context(WEB, alpn=()), "ends.example.com") as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some(100) == b"HELLO"


async def test_tls_passes_through_to_who_has_the_certificate(world):
    own = OWN.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    async with (
        echoing(world.own, own),
        tls(world.address, world.secure, client_context(WEB, alpn=()), "through.example.com") as stream,
    ):
        shown = certs.x509.load_der_x509_certificate(stream.getpeercert(binary_form=True))
        assert shown == OWN.certificate
        await stream.send_all(b"hello")
        assert await stream.receive_some(100) == b"HELLO"


async def test_a_name_that_nobody_has_is_closed_without_a_byte(world):
    incoming, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(WEB).wrap_bio(incoming, hello, server_hostname="nobody.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert await raw(world.address, world.secure, hello.read()) == b""


async def test_a_unix_socket_is_a_port_like_others(world):
    async with await trio.open_unix_socket(world.socket) as stream:
        await stream.send_all(wire("/", host="any.example.com"))
        assert (await read_answer(stream))[0].body == b"here"
