"""The real Envoy in front of the gateway and behind it, over HTTP/1.1 and HTTP/2, plain and over TLS."""

import json

import certs
import pytest
import trio
from curling import HOST, WEB, World
from envoys import Envoy, client_tls, cluster, server_tls
from running import document, fetch, listening, routes, running, server, to
from running_gateway import request, until
from traffic import counted, wire
from workload import CONTENT

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.xdist_group("live-envoy-protocols")]

MESH = certs.Authority("mesh")
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}


def speaking_h2(made):
    """An Envoy cluster that speaks HTTP/2 with prior knowledge, or by ALPN where it has TLS."""
    transport = made.get("transport_socket")
    if transport:
        transport["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2"]
    return made | {"typed_extension_protocol_options": {OPTIONS: {"@type": f"type.googleapis.com/{OPTIONS}", **H2}}}


def saying_protocol(envoy):
    """The same Envoy, whose answers say in x-protocol what its client spoke."""
    (chain,) = envoy.configuration["static_resources"]["listeners"][0]["filter_chains"]
    config = chain["filters"][0]["typed_config"]["route_config"]
    config["response_headers_to_add"].append({"header": {"key": "x-protocol", "value": "%PROTOCOL%"}})
    return envoy


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("h2", [False, True], ids=["h1", "h2"])
async def test_envoy_in_front(tmp_path, secure, h2):
    world = World(tmp_path)
    gateway = world.gateway
    transport = client_tls(WEB.bundle, sni=HOST, names=[HOST]) if secure else None
    upstream = cluster("gateway", gateway.address, gateway.secure if secure else gateway.ingress, transport=transport)
    envoy = Envoy(tmp_path, "front", clusters=[speaking_h2(upstream) if h2 else upstream], route={"cluster": "gateway"})
    with world.running(), running(envoy):
        found = await counted(
            envoy.address, envoy.port, (("x", wire(f"/{number}", host=HOST)) for number in range(500)), connections=20
        )
        assert found == {("x", 200, "one"): 500}
        line = await gateway.wait_logged(lambda line: line["path"] == "/1")
        assert line["protocol"] == ("HTTP/2" if h2 else "HTTP/1.1")
        answer = await request(envoy.address, envoy.port, "/range", host=HOST)
        assert answer.body == CONTENT
        for path, status in (("/empty/204", 204), ("/status/418", 418), ("/close", 503)):
            assert (await request(envoy.address, envoy.port, path, host=HOST)).status == status
        upload = wire("/echo", host=HOST, method="POST", body=CONTENT)
        assert (await counted(envoy.address, envoy.port, [("up", upload)] * 8, connections=4)) == {("up", 200, "one"): 8}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("h2", [False, True], ids=["h1", "h2"])
async def test_envoy_behind(tmp_path, secure, h2):
    world = World(tmp_path)
    gateway = world.gateway
    client = MESH.leaf("client.example.com")
    transport = server_tls(MESH.bundle, MESH.leaf("envoy.shop"), names=["client.example.com"]) if secure else None
    if transport:
        transport["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2", "http/1.1"]
    envoy = saying_protocol(Envoy(tmp_path, "behind", direct="from envoy", transport=transport))
    files = {}
    for name, data in (
        ("clientCertificate", client.chain.encode()),
        ("privateKey", client.key.reveal()),
        ("caCertificates", MESH.bundle.encode()),
    ):
        files[name] = str(tmp_path / f"{name}.pem")
        (tmp_path / f"{name}.pem").write_bytes(data)
    spec = {
        "hosts": ["envoy.shop"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "web", "protocol": "HTTP2" if h2 else "HTTP"}],
        "endpoints": [{"address": envoy.address, "ports": {"web": envoy.port}}],
    }
    tls = {"tls": {"mode": "MUTUAL", "sni": "envoy.shop", "subjectAltNames": ["envoy.shop"], **files}} if secure else {}
    gateway.write(
        "shop",
        listening("web", server(gateway, [HOST])),
        document("ServiceEntry", "envoy", spec),
        document("DestinationRule", "envoy", {"host": "envoy.shop", "trafficPolicy": tls}),
        routes("envoy", [HOST], {"route": [to("envoy.shop")]}, gateways=["web"]),
    )
    with running(envoy, gateway):
        answer = await until(lambda: gateway.get(host=HOST, port=gateway.ingress), lambda answer: answer.status == 200, within=10)
        assert (answer.body, answer.headers["x-protocol"]) == (b"from envoy", "http/2" if h2 else "http/1.1")
        found = await counted(
            gateway.address, gateway.ingress, (("x", wire(f"/{number}", host=HOST)) for number in range(500)), connections=20
        )
        assert found == {("x", 200, ""): 500}


async def test_envoys_statistics_agree(tmp_path):
    """What Envoy counts of its connections to the gateway: none was reset, no protocol error."""
    world = World(tmp_path)
    gateway = world.gateway
    envoy = Envoy(
        tmp_path,
        "front",
        clusters=[speaking_h2(cluster("gateway", gateway.address, gateway.ingress))],
        route={"cluster": "gateway"},
    )
    with world.running(), running(envoy):
        found = await counted(envoy.address, envoy.port, (("x", wire(host=HOST)) for _ in range(1000)), connections=20)
        assert found == {("x", 200, "one"): 1000}
        said = await trio.to_thread.run_sync(
            fetch, envoy.address, envoy.admin, "/stats?format=json&usedonly&filter=cluster.gateway"
        )
    stats = {one["name"].removeprefix("cluster.gateway."): one.get("value") for one in json.loads(said)["stats"] if "name" in one}
    assert stats["upstream_rq_200"] == 1000
    assert stats["upstream_cx_http2_total"] >= 1
    bad = ("upstream_cx_protocol_error", "upstream_rq_rx_reset", "http2.rx_reset", "http2.tx_reset", "upstream_cx_destroy_remote")
    assert {name: stats.get(name, 0) for name in bad} == dict.fromkeys(bad, 0)
