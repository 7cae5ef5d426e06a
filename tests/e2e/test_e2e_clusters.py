"""Clusters joined by Peer documents and Exports: a plain client here reaches a plain workload there, over mutual TLS between gateways,
and nobody reaches what is not theirs."""

import contextlib
import ssl

import certs
import pytest
import trio
from running import Fedgate, Workloads, document, established, running, service
from running_gateway import until
from traffic import raw, read_answer, tls, wire

from federation.trust.operations import issue

EAST = certs.gateway_id("east.example.com")
DOMAIN = "shop.svc.cluster.local"
REVIEWS, DETAILS, PRIVATE = (f"{name}.{DOMAIN}" for name in ("reviews", "details", "private"))

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-pair")]


def sni(host):
    return f"outbound_.80_._.{host}"


# ------------------------------------------------------------------------------------------------------ who may what

ROGUE = certs.spiffe("rogue.example.com")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(east, west, west's workloads): west offers reviews and details to east and rogue, and keeps `private`."""
    folder = tmp_path_factory.mktemp("pair")
    east, west = Fedgate(folder, "east"), Fedgate(folder, "west", locality="r2/z1")
    workloads = Workloads(folder, "reviews", "details", "private")
    east.know(west, exports=())
    west.know(east, exports=[REVIEWS, DETAILS])
    (folder / "rogue.pem").write_text(ROGUE.bundle)
    rogue = {"trustDomain": "rogue.example.com", "addresses": ["127.0.0.1:9"], "bundle": {"path": str(folder / "rogue.pem")}}
    west.write("rogue", document("Peer", "rogue", rogue), document("Export", "rogue", {"services": [REVIEWS], "peers": ["rogue"]}))
    west.write("shop", *(service(f"{name}.{DOMAIN}", [workloads.endpoint(name)]) for name in workloads.names))
    with running(workloads, east, west):
        yield east, west, workloads


def east_context(east, identity=EAST):
    """What the gateway of east shows to others."""
    leaf = issue(east.state, identity)
    return context_of(certs.Leaf(None, leaf.chain, leaf.key))


def context_of(leaf):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whom west is, is not what these tests are about
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return leaf.load_into(context) if leaf else context


async def through(gateway, context, name, *, host):
    """What a TLS client with this SNI gets for one request: an Answer, or None when it was closed without HTTP."""
    try:
        async with tls(gateway.address, gateway.east_west, context, name) as stream:
            await stream.send_all(wire(host=host))
            return (await read_answer(stream))[0]
    except (trio.BrokenResourceError, OSError):
        return None


async def test_a_plain_client_reaches_a_plain_workload_in_the_other_cluster(pair):
    east, _, _workloads = pair
    await established(east)
    answer = await until(lambda: east.get("/hello?x=1", host=REVIEWS), lambda answer: answer.status == 200)
    seen = answer.json()
    assert (seen["served_by"], seen["path"]) == ("reviews", "/hello?x=1")
    assert dict(seen["headers"])["host"] == REVIEWS
    answer = await east.get("/post", host=DETAILS, method="POST", headers=[("content-length", "0")])
    assert answer.json()["served_by"] == "details"
    (row,) = [row for row in await east.rows("services") if row["hostname"] == REVIEWS]
    assert row["clusters"] == {"west": "1/1"}


async def test_what_is_not_exported_is_not_there(pair):
    east, west, workloads = pair
    await established(east)
    assert (await east.get(host=PRIVATE)).status == 502, "as Istio answers under REGISTRY_ONLY"
    assert (await west.get(host=PRIVATE)).status == 200, "its own cluster reaches it"
    context = east_context(east)
    assert (await through(west, context, sni(REVIEWS), host=REVIEWS)).status == 200, "the same client with a name that is offered"
    before = len(workloads.seen("private"))
    assert await through(west, context, sni(PRIVATE), host=PRIVATE) is None
    assert await through(west, context, sni("nobody.example.com"), host=PRIVATE) is None
    assert await through(west, context, "", host=PRIVATE) is None
    assert len(workloads.seen("private")) == before


async def test_the_connections_name_decides_and_not_a_streams_host(pair):
    east, west, _workloads = pair
    context = east_context(east)
    for host in (PRIVATE, DETAILS, "nobody.example.com"):
        answer = await through(west, context, sni(REVIEWS), host=host)
        assert answer.json()["served_by"] == "reviews", host


async def test_a_service_offered_to_another_peer_is_not_offered_to_this_one(pair):
    _, west, _ = pair
    rogue = context_of(certs.gateway_leaf(ROGUE, "rogue.example.com"))
    assert (await through(west, rogue, sni(REVIEWS), host=REVIEWS)).status == 200
    assert await through(west, rogue, sni(DETAILS), host=DETAILS) is None


async def test_a_peers_ca_may_not_sign_anothers_identity(pair):
    _, west, _ = pair
    for leaf in (
        ROGUE.leaf(certs.gateway_id("east.example.com")),
        ROGUE.leaf(certs.gateway_id("west.example.com")),
        ROGUE.leaf("spiffe://rogue.example.com/ns/shop/sa/cart"),
        ROGUE.expired(certs.gateway_id("rogue.example.com")),
        certs.gateway_leaf(certs.spiffe("stranger.example.com"), "stranger.example.com"),
        certs.self_signed(certs.gateway_id("rogue.example.com")),
        None,
    ):
        context = context_of(leaf)
        assert await through(west, context, sni(REVIEWS), host=REVIEWS) is None, leaf and leaf.name
        assert await through(west, context, "peering.west.example.com", host=REVIEWS) is None, leaf and leaf.name


async def test_only_the_gateways_identity_opens_the_east_west_port(pair):
    east, west, _ = pair
    context = east_context(east, "spiffe://east.example.com/ns/shop/sa/cart")
    assert await through(west, context, sni(REVIEWS), host=REVIEWS) is None


async def test_plain_bytes_on_the_east_west_port_get_no_byte(pair):
    _, west, _ = pair
    assert await raw(west.address, west.east_west, wire(host=REVIEWS)) == b""


async def test_an_export_that_is_withdrawn_ends_on_standing_connections_too(pair):
    east, west, workloads = pair
    await established(east)
    async with tls(west.address, west.east_west, east_context(east), sni(DETAILS), within=60) as stream:
        await stream.send_all(wire(host=DETAILS))
        answer, rest = await read_answer(stream)
        assert (answer.status, rest) == (200, b"")
        west.know(east, exports=[REVIEWS])
        try:
            await until(lambda: east.rows("services"), lambda rows: DETAILS not in [row["hostname"] for row in rows])
            assert (await east.get(host=DETAILS)).status == 502, "as Istio answers under REGISTRY_ONLY"
            assert (await east.get(host=REVIEWS)).status == 200
            before = len(workloads.seen("details"))
            await stream.send_all(wire(host=DETAILS))
            with contextlib.suppress(trio.BrokenResourceError):  # closed without an answer is as good
                assert (await read_answer(stream))[0].status in (403, 404)
            assert len(workloads.seen("details")) == before
        finally:
            west.know(east, exports=[REVIEWS, DETAILS])
        await until(lambda: east.get(host=DETAILS), lambda answer: answer.status == 200)
