"""Whatever is wrong, with documents, files, ports, peers or bytes, has a clear word, and everything else runs on."""

import signal
import socket
import ssl

import certs
import pytest
import trio
from running import Fedgate, Workloads, document, listening, routes, running, server, service, to
from running_gateway import until
from traffic import client_context, raw, secure, wire

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-bad-input")]

HOST = "shop.example.com"


def shop(gateway, workloads):
    """Everything at shop.example.com goes to the workload `one`."""
    return (
        listening("web", server(gateway, ["*"])),
        service("one.shop", [workloads.endpoint("one")]),
        routes("one", [HOST], {"route": [to("one.shop")]}, gateways=["web"]),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(gateway, workloads), running."""
    folder = tmp_path_factory.mktemp("bad-input")
    workloads, gateway = Workloads(folder, "one"), Fedgate(folder)
    gateway.write("shop", *shop(gateway, workloads))
    with running(workloads, gateway):
        yield gateway, workloads


def said(row):
    """Everything that a row of `config` says is wrong."""
    conditions = [condition["message"] for condition in row["conditions"] if not condition["status"]]
    return "\n".join([*row["errors"], *conditions, *row["warnings"]])


async def served(gateway):
    answer = await gateway.get(host=HOST, port=gateway.ingress)
    return answer.status == 200


async def problem(gateway, file, *, name=""):
    """The row of `config` about a file that is not good, and what it says."""

    async def bad():
        return [row for row in await gateway.rows("config") if row["file"].endswith(file) and (not name or row["name"] == name)]

    rows = await until(bad, lambda rows: any(said(row) for row in rows))
    return next(row for row in rows if said(row))


# -------------------------------------------------------------------------------------------------------- documents


async def test_a_malformed_file_is_named_with_its_line_and_everything_goes_on(world):
    gateway, _ = world
    gateway.write("broken", "kind: VirtualService\nmetadata: {name: [unclosed\nspec: 3\n")
    row = await problem(gateway, "broken.yaml")
    assert not row["good"]
    assert row["line"] >= 1
    assert await served(gateway)
    gateway.write("broken", document("ServiceEntry", "fine", {"hosts": ["fine.shop"], "ports": [], "resolution": "STATIC"}))

    async def mended():
        return [row for row in await gateway.rows("config") if row["file"].endswith("broken.yaml")]

    await until(mended, lambda rows: [row["good"] for row in rows] == [True])


async def test_a_file_that_breaks_keeps_its_last_good_version(world):
    gateway, _workloads = world
    gateway.write(
        "extra",
        routes("extra", ["extra.example.com"], {"directResponse": {"status": 200, "body": {"string": "good"}}}, gateways=["web"]),
    )

    async def extra():
        return await gateway.get(host="extra.example.com", port=gateway.ingress)

    await until(extra, lambda answer: answer.body == b"good")
    gateway.write("extra", "{{{ not: yaml")
    await problem(gateway, "extra.yaml")
    assert (await extra()).body == b"good"
    assert await served(gateway)


async def test_an_unknown_field_is_refused_by_its_path_and_the_rest_of_the_file_holds(world):
    gateway, _ = world
    wrong = routes("wrong", ["wrong.example.com"], {"rout": [to("one.shop")], "timeout": "ten seconds"}, gateways=["web"])
    right = routes("right", ["right.example.com"], {"directResponse": {"status": 204}}, gateways=["web"])
    gateway.write("mixed", wrong, right)
    row = await problem(gateway, "mixed.yaml", name="wrong")
    assert "spec.http[0].rout" in said(row)
    assert "spec.http[0].timeout" in said(row), "every error at once"

    async def right_answer():
        return await gateway.get(host="right.example.com", port=gateway.ingress)

    await until(right_answer, lambda answer: answer.status == 204)
    assert await served(gateway)


# --------------------------------------------------------------------------------------- certificates, ports, peers


async def test_a_missing_certificate_closes_its_host_only_and_is_taken_when_it_comes(world):
    gateway, _ = world
    authority, folder = certs.Authority("web"), gateway.folder
    present, late = authority.leaf("present.example.com"), authority.leaf("late.example.com")
    paths = {}
    for leaf in (present, late):
        paths[leaf.name] = {"serverCertificate": str(folder / f"{leaf.name}.pem"), "privateKey": str(folder / f"{leaf.name}.key")}

    def put(leaf):
        (folder / f"{leaf.name}.pem").write_text(leaf.chain)
        (folder / f"{leaf.name}.key").write_bytes(leaf.key.reveal())

    put(present)
    servers = [server(gateway, [name], tls={"mode": "SIMPLE", **paths[name]}, name=f"https-{i}") for i, name in enumerate(paths)]
    gateway.write(
        "certificates",
        listening("secure", *servers),
        routes("secure", list(paths), {"directResponse": {"status": 200, "body": {"string": "secure"}}}, gateways=["secure"]),
    )
    row = await problem(gateway, "certificates.yaml", name="secure")
    assert "late.example.com.pem" in said(row)

    async def ask(name):
        return await secure(gateway.address, gateway.secure, client_context(authority), name)

    async def ask_late():
        return await ask(late.name)

    answer = await until(lambda: ask(present.name), lambda answer: answer.status == 200)
    assert answer.body == b"secure"
    with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
        await ask(late.name)
    assert await served(gateway)
    put(late)
    await until(ask_late, lambda answer: answer.status == 200)


async def test_an_expired_certificate_is_said_and_served(world):
    gateway, _ = world
    authority = certs.Authority("web")
    leaf = authority.expired("expired.example.com")
    (gateway.folder / "expired.pem").write_text(leaf.chain)
    (gateway.folder / "expired.key").write_bytes(leaf.key.reveal())
    tls = {
        "mode": "SIMPLE",
        "serverCertificate": str(gateway.folder / "expired.pem"),
        "privateKey": str(gateway.folder / "expired.key"),
    }
    gateway.write("expired", listening("old", server(gateway, ["expired.example.com"], tls=tls, name="https-old")))
    row = await problem(gateway, "expired.yaml", name="old")
    assert "expired at" in said(row)
    assert "expired.pem" in said(row)
    rows = await until(
        lambda: gateway.rows("certificates"), lambda rows: any("expired.example.com" in row["subjectAltNames"] for row in rows)
    )
    assert [row["valid"] for row in rows if "expired.example.com" in row["subjectAltNames"]] == [False]
    assert await served(gateway)


async def test_a_port_in_use_is_named_and_taken_when_it_is_free(world):
    gateway, _ = world
    with socket.create_server((gateway.address, 0)) as holder:
        port = holder.getsockname()[1]
        gateway.write(
            "taken",
            listening("taken", server(gateway, ["*"], port=port)),
            routes("taken", ["*"], {"directResponse": {"status": 204}}, gateways=["taken"]),
        )

        async def row():
            return next((row for row in await gateway.rows("listeners") if row["port"] == port), {"error": ""})

        found = await until(row, lambda row: row["error"])
        assert "in use" in found["error"]
        assert not found["bound"]
        assert await served(gateway)
    answer = await until(lambda: gateway.get(host="any.example.com", port=port), lambda answer: answer.status == 204)
    assert answer.status == 204


async def test_a_gateway_with_an_unreachable_peer_and_a_broken_file_starts_within_seconds(tmp_path):
    workloads, gateway = Workloads(tmp_path, "one"), Fedgate(tmp_path, "lonely")
    other = Fedgate(tmp_path, "absent")  # never started: its addresses are refused
    gateway.write("shop", *shop(gateway, workloads))
    gateway.write("broken", "kind: [")
    gateway.know(other)
    began = trio.current_time()
    with running(workloads, gateway):
        # The sources of the own cluster may take 5 s at most before the first Snapshot; three processes start besides.
        assert trio.current_time() - began < 15
        assert await served(gateway)
        (peer,) = await until(lambda: gateway.rows("peers"), lambda rows: rows and rows[0]["problem"])
        assert peer["state"] != "connected"
        gateway.process.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(gateway.process.wait) == 0


async def test_a_node_document_that_is_broken_ends_it_at_once_with_a_word(tmp_path):
    gateway = Fedgate(tmp_path)
    gateway.write("node", gateway.node(cluster="not a name!", wokers=3))
    try:
        gateway.start()
        with trio.fail_after(30):
            assert await trio.to_thread.run_sync(gateway.process.wait) == 1
    finally:
        gateway.kill()
    text = gateway.text()
    assert "spec.wokers" in text
    assert "spec.cluster" in text
    assert "Traceback" not in text


# ------------------------------------------------------------------------------------------------------ wrong bytes

START = f"POST /smuggled HTTP/1.1\r\nhost: {HOST}\r\n"
INNER = f"GET /inner HTTP/1.1\r\nhost: {HOST}\r\n\r\n"

NOT_HTTP = {
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a client hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "zeros": bytes(32),
    "no version": b"GET /\r\n\r\n",
    "version 3": f"GET / HTTP/3.0\r\nhost: {HOST}\r\n\r\n".encode(),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": f"GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\nhost: other.example.com\r\n\r\n".encode(),
}
SMUGGLED = {
    "length and chunked": f"{START}content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{INNER}",
    "chunked and length": f"{START}transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n{INNER}",
    "two lengths": f"{START}content-length: 0\r\ncontent-length: {len(INNER)}\r\n\r\n{INNER}",
    "a list of lengths": f"{START}content-length: 0, {len(INNER)}\r\n\r\n{INNER}",
    "a signed length": f"{START}content-length: +0\r\n\r\n{INNER}",
    "space before the colon": f"{START}content-length : {len(INNER)}\r\n\r\n{INNER}",
    "a folded line": f"{START}x-a: b\r\n content-length: {len(INNER)}\r\n\r\n{INNER}",
    "bare line feeds": f"{START}content-length: 0\n\n{INNER}",
    "chunked twice": f"{START}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{INNER}",
    "an unknown coding": f"{START}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{INNER}",
    "chunked, not last": f"{START}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{INNER}",
    "a carriage return in a name": f"{START}x\r-a: b\r\n\r\n{INNER}",
    "a null in a value": f"{START}x-a: b\0c\r\n\r\n{INNER}",
    "an underscored length": f"{START}content-length: 1_0\r\n\r\n{INNER}",
    "chunked in HTTP/1.0": f"POST /smuggled HTTP/1.0\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{INNER}",
}


@pytest.mark.parametrize("name", NOT_HTTP)
async def test_what_is_no_http_is_answered_400_and_closed(world, name):
    gateway, _workloads = world
    answer = await raw(gateway.address, gateway.ingress, NOT_HTTP[name])
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1") == 1
    assert await served(gateway)


@pytest.mark.parametrize("name", SMUGGLED)
async def test_a_request_that_two_parsers_could_read_differently_is_refused_and_reaches_nobody(world, name):
    gateway, workloads = world
    answer = await raw(gateway.address, gateway.ingress, SMUGGLED[name].encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1") == 1, "the connection must be closed after the refusal"
    assert b"connection: close" in answer.lower()
    assert [request["path"] for request in workloads.seen("one") if request["path"] in ("/smuggled", "/inner")] == []


async def test_a_bad_chunk_ends_the_request_and_what_follows_is_not_read_as_one(world):
    gateway, workloads = world
    head = f"POST /chunks HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = await raw(gateway.address, gateway.ingress, (head + "5;x\nhello\r\n0\r\n\r\n" + INNER).encode())
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert answer.count(b"HTTP/1.1") == 1
    assert "/inner" not in [request["path"] for request in workloads.seen("one")]


async def test_huge_heads_are_refused_and_others_served(world):
    gateway, _ = world
    answer = await raw(gateway.address, gateway.ingress, wire(host=HOST, headers=[("x-large", "y" * 200_000)]))
    assert answer.startswith(b"HTTP/1.1 431 "), answer[:100]
    assert await served(gateway)


async def test_the_peers_connections_of_silent_clients_do_not_hold_the_port(world):
    gateway, _ = world
    streams = [await trio.open_tcp_stream(gateway.address, gateway.ingress) for _ in range(100)]
    try:
        for stream in streams:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: shop")
        assert await served(gateway)
    finally:
        for stream in streams:
            await stream.aclose()
