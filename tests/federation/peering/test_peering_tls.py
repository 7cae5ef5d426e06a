"""TLS over any stream: both ends, ends and alerts."""

import ssl

import certs
import pytest
import trio
import trio.testing

from federation.peering.tls import TlsStream

AUTHORITY = certs.Authority("tls root")


def contexts(*, ca=AUTHORITY, leaf=None):
    server = (leaf or AUTHORITY.leaf("gw")).load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=ca.bundle)
    return server, client


def pair(**options):
    left, right = trio.testing.memory_stream_pair()
    server, client = contexts(**options)
    return TlsStream(left, client, server_side=False, hostname="gw"), TlsStream(right, server, server_side=True), left, right


async def joined():
    client, server, left, right = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        nursery.start_soon(server.handshake)
    return client, server, left, right


async def test_bytes_both_ways_at_once_and_more_than_a_record():
    client, server, *_ = await joined()
    data = bytes(range(256)) * 4000

    async def send(end):
        await end.send_all(data)

    async def receive(end):
        got = b""
        while len(got) < len(data):
            got += await end.receive_some()
        assert got == data

    async with trio.open_nursery() as nursery:
        for end in (client, server):
            nursery.start_soon(send, end)
            nursery.start_soon(receive, end)


@pytest.mark.parametrize("unwrap", [True, False])
async def test_an_end_reads_as_an_end(unwrap):
    client, server, _left, _ = await joined()
    if unwrap:
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        await client._flush()
    else:
        await client.aclose()
    assert await server.receive_some() == b""


async def test_a_failed_handshake_tells_the_other_side_why():
    client, server, *_ = pair(ca=certs.Authority("another root"))
    failures = {}

    async def shake(end, name):
        try:
            await end.handshake()
            await end.receive_some()
        except (ssl.SSLError, trio.BrokenResourceError) as error:
            failures[name] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, client, "client")
        nursery.start_soon(shake, server, "server")
    assert isinstance(failures["client"], ssl.SSLCertVerificationError)
    assert "UNKNOWN_CA" in failures["server"].reason


async def test_damage_is_broken_with_its_cause():
    _client, server, left, _ = await joined()
    await left.send_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    with pytest.raises(trio.BrokenResourceError) as caught:
        await server.receive_some()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x")


async def test_a_cancelled_read_loses_nothing():
    client, server, *_ = await joined()
    with trio.move_on_after(0.01):
        await server.receive_some()
    await client.send_all(b"hello")
    assert await server.receive_some() == b"hello"


async def test_no_tls_over_there():
    client, _, _, right = pair()
    await right.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await client.handshake()
