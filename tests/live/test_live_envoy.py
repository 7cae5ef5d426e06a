"""The real Envoy on either side of the gateway, over mutual TLS: it judges our certificates and we judge its."""

import certs
import pytest
from envoys import Envoy, client_tls, cluster, server_tls
from running import Fedgate, Workloads, document, listening, routes, running, server, service, to
from running_gateway import request, until

from federation.trust.operations import bundle, issue

pytestmark = [pytest.mark.live, pytest.mark.slow]

MESH = certs.spiffe("mesh.example.com")
HOST = "shop.example.com"


def put(folder, leaf, ca):
    """Files of a certificate; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("chain.pem", "key.pem", "ca.pem")]
    for path, data in zip(paths, (leaf.chain.encode(), leaf.key.reveal(), ca.encode()), strict=True):
        path.write_bytes(data)
    return [str(path) for path in paths]


def envoy_to(gateway, folder, name, *, sni=HOST, **options):
    """An Envoy whose one cluster is the gateway's TLS port."""
    transport = client_tls(options.pop("ca"), sni=sni, **options)
    upstream = cluster("gateway", gateway.address, gateway.secure, transport=transport)
    return Envoy(folder, name, clusters=[upstream], route={"cluster": "gateway"})


async def test_envoy_as_a_client_of_a_mutual_server(tmp_path):
    workloads, gateway = Workloads(tmp_path, "one"), Fedgate(tmp_path)
    ours = MESH.leaf("spiffe://mesh.example.com/ns/shop/sa/edge", HOST)
    chain, key, ca = put(tmp_path / "ours", ours, MESH.bundle)
    tls = {"mode": "MUTUAL", "serverCertificate": chain, "privateKey": key, "caCertificates": ca}
    allowed = "spiffe://mesh.example.com/ns/shop/sa/cart"
    gateway.write(
        "shop",
        listening("web", server(gateway, [HOST], tls=tls | {"subjectAltNames": [allowed]})),
        service("one.shop", [workloads.endpoint("one")]),
        routes("one", [HOST], {"route": [to("one.shop")]}, gateways=["web"]),
    )
    good = envoy_to(gateway, tmp_path, "good", ca=MESH.bundle, leaf=MESH.leaf(allowed), names=[HOST])
    nobody = envoy_to(gateway, tmp_path, "nobody", ca=MESH.bundle)
    other = envoy_to(gateway, tmp_path, "other", ca=MESH.bundle, leaf=MESH.leaf("spiffe://mesh.example.com/ns/shop/sa/thief"))
    choosy = envoy_to(gateway, tmp_path, "choosy", ca=MESH.bundle, leaf=MESH.leaf(allowed), names=["else.example.com"])
    with running(workloads, gateway, good, nobody, other, choosy):
        for number in range(20):
            answer = await request(good.address, good.port, f"/{number}", host=HOST)
            assert (answer.status, answer.json()["path"]) == (200, f"/{number}"), answer
        for envoy in (nobody, other, choosy):
            assert (await request(envoy.address, envoy.port, "/bad", host=HOST)).status == 503, envoy
        assert "/bad" not in [seen["path"] for seen in workloads.seen("one")]


async def test_envoy_as_a_client_of_an_istio_mutual_server(tmp_path):
    workloads, gateway = Workloads(tmp_path, "one"), Fedgate(tmp_path)
    gateway.found_ca()
    own, identity = bundle(gateway.state), certs.gateway_id(gateway.trust_domain)
    leaf = issue(gateway.state, f"spiffe://{gateway.trust_domain}/ns/shop/sa/cart")
    gateway.write(
        "shop",
        listening("web", server(gateway, [HOST], tls={"mode": "ISTIO_MUTUAL"})),
        service("one.shop", [workloads.endpoint("one")]),
        routes("one", [HOST], {"route": [to("one.shop")]}, gateways=["web"]),
    )
    good = envoy_to(gateway, tmp_path, "good", ca=own, leaf=leaf, names=[identity])
    stranger = envoy_to(gateway, tmp_path, "stranger", ca=own, leaf=MESH.leaf("spiffe://mesh.example.com/ns/shop/sa/cart"))
    with running(workloads, gateway, good, stranger):
        answer = await request(good.address, good.port, "/", host=HOST)
        assert (answer.status, answer.json()["served_by"]) == (200, "one"), answer
        assert (await request(stranger.address, stranger.port, "/", host=HOST)).status == 503


async def test_envoy_as_an_upstream_over_mutual_tls(tmp_path):
    gateway = Fedgate(tmp_path)
    client, name = MESH.leaf("spiffe://mesh.example.com/ns/edge/sa/gateway"), "spiffe://mesh.example.com/ns/shop/sa/reviews"
    transport = server_tls(MESH.bundle, MESH.leaf(name, "reviews.shop"), names=[client.name])
    envoy = Envoy(tmp_path, "upstream", direct="from envoy", transport=transport)
    chain, key, ca = put(tmp_path / "client", client, MESH.bundle)
    thief_chain, thief_key, _ = put(tmp_path / "thief", MESH.leaf("spiffe://mesh.example.com/ns/edge/sa/thief"), MESH.bundle)
    _, _, wrong_ca = put(tmp_path / "wrong", client, certs.Authority("others").pem)
    good = {"mode": "MUTUAL", "clientCertificate": chain, "privateKey": key, "caCertificates": ca, "sni": "reviews.shop"}
    cases = {
        "good": good | {"subjectAltNames": [name]},
        "dns": good | {"subjectAltNames": ["reviews.shop"]},
        "wrong-name": good | {"subjectAltNames": ["spiffe://mesh.example.com/ns/shop/sa/other"]},
        "wrong-ca": good | {"caCertificates": wrong_ca},
        "thief": good | {"subjectAltNames": [name], "clientCertificate": thief_chain, "privateKey": thief_key},
        "no-certificate": {"mode": "SIMPLE", "caCertificates": ca, "sni": "reviews.shop", "subjectAltNames": [name]},
    }
    endpoint = {"address": envoy.address, "ports": {"http": envoy.port}}
    gateway.write(
        "shop",
        *(service(f"{case}.shop", [endpoint]) for case in cases),
        *(
            document("DestinationRule", case, {"host": f"{case}.shop", "trafficPolicy": {"tls": tls}})
            for case, tls in cases.items()
        ),
    )
    with running(envoy, gateway):
        for case in ("good", "dns"):
            answer = await until(lambda case=case: gateway.get(host=f"{case}.shop"), lambda answer: answer.status == 200, within=10)
            assert (answer.body, answer.headers["x-envoy-saw"]) == (b"from envoy", client.name)
        for case in ("wrong-name", "wrong-ca", "thief", "no-certificate"):
            answer = await gateway.get(f"/{case}", host=f"{case}.shop")
            assert (answer.status, answer.headers.get("x-envoy-saw")) == (503, None), case
            line = await gateway.wait_logged(lambda line, case=case: line["path"] == f"/{case}")
            assert line["response_flags"].split(",")[0] in ("UF", "UC"), line
