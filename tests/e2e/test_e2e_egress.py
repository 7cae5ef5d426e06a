"""Services outside, by `fedgate run` with two workers: found by a real nameserver, over real TLS, by who may, and from where."""

import http.server
import ssl
import threading
from collections import Counter

import certs
import pytest
import trio
from running import Fedgate, document, fresh_address, listening, running, server
from running_gateway import request, until
from traffic import secure
from zone import Zone

from federation.trust.operations import issue

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-egress")]

OUTSIDE = certs.Authority("outside")
LEAF = OUTSIDE.leaf("api.payments.example", "a.cdn.example", "own.tls.example")


class Nameserver:
    """A Zone in a thread of its own, so that it answers while this one waits."""

    def __init__(self, records):
        self.zone = Zone(records, ttl=1)
        self.port = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)

    async def _run(self):
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                self.port = await nursery.start(self.zone.serve)
                self._started.set()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *exc):
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(10)


class Outside:
    """HTTP, over TLS where a context is given, on an address of its own. seen: (path, host, client's address) of each request.
    failing: paths that answer 503."""

    def __init__(self, *, secured=False, address="", port=0):
        self.address, self.seen, self.failing = address or fresh_address(), [], set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.seen.append((self.path, self.headers["host"], self.client_address[0]))
                self.send_response(503 if self.path in outer.failing else 200)
                self.send_header("content-length", "2")
                if self.path == "/rotating":
                    self.send_header("connection", "close")  # connections that stand would go on
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *words):
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer((self.address, port), Handler)
        self._server.daemon_threads = True
        self.names = []
        if secured:
            context = LEAF.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            context.sni_callback = lambda tls, name, _: self.names.append(name)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def requests(self, path="/"):
        return [each for each in self.seen if each[0] == path]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._server.server_close()


def external(name, **spec):
    return document("ExternalService", name, spec)


def entry(name, resolution, port, **spec):
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": port}]
    return document("ServiceEntry", name, {"hosts": [f"{name}.example"], "ports": ports, "resolution": resolution, **spec})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("egress")
    (folder / "outside.pem").write_text(OUTSIDE.pem)
    records = {}
    with Nameserver(records) as names, Outside(secured=True) as safe, Outside() as one, Outside(port=one.port) as two:
        records |= {
            ("api.payments.example", "A"): [safe.address],
            ("a.cdn.example", "A"): [safe.address],
            ("a.inside.example", "A"): [one.address],
            ("rotating.example", "A"): [one.address, two.address],
            ("both.example", "A"): [one.address, two.address],
            ("unknown.example", "A"): [one.address],
            ("reserved.example", "A"): [one.address],
            ("meant.example", "A"): [one.address],
            ("checked.example", "A"): [one.address],
            ("aliased.example", "A"): [one.address],
        }
        gateway = Fedgate(folder, workers=2)
        gateway.found_ca()
        tls = {"mode": "SIMPLE", "caCertificates": str(folder / "outside.pem")}
        source, local = fresh_address(), ["127.0.0.0/8"]
        upstreams = {"upstreams": [f"127.0.0.1:{names.port}"]}
        gateway.write("node", gateway.node(outboundTrafficPolicy="ALLOW_ANY", dns=upstreams))
        secured = [{"number": safe.port, "protocol": "HTTPS"}]
        plain = [{"number": 80, "protocol": "HTTP", "targetPort": one.port}]
        gateway.write(
            "egress",
            external(
                "payments",
                hosts=["api.payments.example"],
                ports=secured,
                tls=tls,
                sourceAddress=source,
                **{"from": [{"ipBlocks": ["127.0.0.1"]}, {"principals": ["*/ns/shop/sa/cart"]}]},
            ),
            external("cdn", hosts=["*.cdn.example"], ports=secured, tls=tls, privateAddresses=local),
            external("inside", hosts=["*.inside.example"], ports=plain, privateAddresses=[]),
            external(
                "reserved",
                hosts=["reserved.example"],
                ports=plain,
                **{"from": [{"principals": ["east.example.com/ns/shop/sa/cart"]}]},
            ),
            external(
                "checked",
                hosts=["checked.example"],
                ports=plain,
                healthCheck={"http": {"path": "/healthz"}, "interval": "200ms", "unhealthyThreshold": 1, "healthyThreshold": 1},
            ),
            external(
                "passed",
                hosts=["own.tls.example"],
                ports=[{"number": safe.port, "protocol": "TLS"}],
                endpoints=[{"address": safe.address}],
                gateway={"selector": {"istio": "ingressgateway"}, "tlsPort": gateway.secure, "bind": gateway.address},
            ),
            entry("rotating", "DNS_ROUND_ROBIN", one.port),
            entry("both", "DNS", one.port),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "aliased", "namespace": "shop"},
                "spec": {
                    "type": "ExternalName",
                    "externalName": "aliased.example",
                    "ports": [{"name": "http", "port": 80, "targetPort": one.port}],
                },
            },
            external("meant", hosts=["meant.example"], resolution="NONE", ports=plain, privateAddresses=[f"{one.address}/32"]),
            document("ServicePolicy", "anywhere", {"hosts": ["*"], "privateAddresses": local}),
            listening("clients", server(gateway, ["*"], port=gateway.ingress, tls={"mode": "ISTIO_MUTUAL"})),
            document(
                "VirtualService",
                "reserved",
                {
                    "hosts": ["reserved.example"],
                    "gateways": ["clients"],
                    "http": [{"route": [{"destination": {"host": "reserved.example"}}]}],
                },
            ),
        )
        with running(gateway):
            gateway.names, gateway.safe, gateway.one, gateway.two, gateway.source = names.zone, safe, one, two, source
            yield gateway


async def answered(gateway, host, status=200, path="/"):
    """Until it is so; the last answer."""
    return await until(lambda: gateway.get(path, host=host), lambda answer: answer.status == status)


async def metric(gateway, name, **labels):
    """The sum of its samples that have these labels."""
    text = (await gateway_metrics(gateway)).body.decode()
    lines = [
        line for line in text.splitlines() if line.startswith(f"{name}{{") and all(f'{k}="{v}"' in line for k, v in labels.items())
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def gateway_metrics(gateway):
    return await request(gateway.address, gateway.admin, "/metrics")


async def test_plain_http_goes_out_over_tls_under_its_name_and_from_the_fixed_address(world):
    await answered(world, "api.payments.example", path="/pay")
    _, host, client = world.safe.requests("/pay")[0]
    assert (host, client) == ("api.payments.example", world.source)
    assert "api.payments.example" in world.safe.names
    await until(lambda: metric(world, "fedgate_access_total", verdict="ALLOW", reason="from[0]"), bool)


async def test_who_may_not_is_told_so_and_why_is_in_log_and_metrics(world):
    answer = await answered(world, "reserved.example", 403)
    assert answer.body == b"RBAC: access denied"
    line = await world.wait_logged(lambda line: line["response_code"] == 403 and line["authority"] == "reserved.example")
    assert line["response_code_details"] == "rbac_access_denied_matched_policy[none]{no_client_certificate}"
    await until(lambda: metric(world, "fedgate_access_total", verdict="DENY", reason="no_client_certificate"), bool)
    other = await world.get(host="reserved.example:8080")  # by another port than its own: ALLOW_ANY does not let it out either
    assert other.status == 403


@pytest.mark.parametrize(("account", "status"), [("cart", 200), ("other", 403)])
async def test_an_identity_is_proven_by_a_certificate(world, account, status, tmp_path):
    issue(world.state / "ca", f"spiffe://{world.trust_domain}/ns/shop/sa/{account}", out=tmp_path)
    context = ssl.create_default_context(cafile=world.found_ca())
    context.check_hostname = False  # a SPIFFE identity has no DNS name
    context.load_cert_chain(tmp_path / "identity.pem", tmp_path / "identity.key")
    answer = await until(
        lambda: secure(world.address, world.ingress, context, "reserved.example", host="reserved.example"),
        lambda answer: answer.status == status,
    )
    assert answer.status == status


async def test_names_below_a_wildcard_are_looked_up_and_none_leads_inside_unasked(world):
    await answered(world, "a.cdn.example", path="/asset")
    assert world.safe.requests("/asset")[0][1] == "a.cdn.example"
    assert (await world.get(host="a.inside.example")).status == 403
    line = await world.wait_logged(lambda line: line["authority"] == "a.inside.example")
    assert line["response_code_details"] == "destination_not_allowed{private_address}"
    gone = await world.get(host="gone.cdn.example")
    assert gone.status == 503
    assert (await world.wait_logged(lambda line: line["authority"] == "gone.cdn.example"))["response_flags"] == "DF"


async def test_every_address_of_dns_takes_traffic_and_one_that_goes_takes_none(world):
    async def spread():
        before = len(world.one.requests("/both")), len(world.two.requests("/both"))
        for _ in range(20):
            assert (await world.get("/both", host="both.example")).status == 200
        return len(world.one.requests("/both")) - before[0], len(world.two.requests("/both")) - before[1]

    await answered(world, "both.example", path="/both")
    await until(spread, all)
    world.names.records[("both.example", "A")] = [world.two.address]
    assert await until(spread, lambda counts: counts[0] == 0) == (0, 20)


async def test_a_service_that_is_another_name_leads_there(world):
    await answered(world, "aliased.shop.svc.cluster.local", path="/aliased")
    assert len(world.one.requests("/aliased")) >= 1


async def test_of_one_address_at_a_time_the_first_is_taken(world):
    await answered(world, "rotating.example", path="/rotating")
    assert Counter(world.two.requests("/rotating")) == Counter()
    world.names.records[("rotating.example", "A")] = [world.two.address, world.one.address]

    async def asked():
        await world.get("/rotating", host="rotating.example")
        return world.two.requests("/rotating")

    await until(asked, bool)


async def test_none_goes_by_name_where_its_addresses_allow(world):
    await answered(world, "meant.example", path="/meant")
    assert world.one.requests("/meant")
    world.names.records[("meant.example", "A")] = [world.two.address]
    await answered(world, "meant.example", 403, path="/meant")
    assert not world.two.requests("/meant")


async def test_what_nobody_knows_is_let_out_under_allow_any(world):
    await answered(world, f"unknown.example:{world.one.port}", path="/any")
    assert world.one.requests("/any")[0][1] == f"unknown.example:{world.one.port}"
    line = await world.wait_logged(lambda line: line["path"] == "/any" and line["response_code"] == 200)
    assert line["upstream_cluster"] == "PassthroughCluster"


async def test_one_check_for_the_whole_gateway_decides(world):
    await answered(world, "checked.example", path="/ok")
    await until(lambda: world.rows("endpoints"), lambda rows: rows and len(world.one.requests("/healthz")) > 3)
    world.one.failing.add("/healthz")
    await answered(world, "checked.example", 503)
    assert {(await world.get(host="checked.example")).status for _ in range(10)} == {503}
    world.one.failing.clear()
    await answered(world, "checked.example", path="/ok")


async def test_clients_own_tls_passes_by_its_name(world):
    context = ssl.create_default_context(cadata=OUTSIDE.pem)
    answer = await until(
        lambda: secure(world.address, world.secure, context, "own.tls.example", "/own"), lambda answer: answer.status == 200
    )
    assert answer.status == 200
    assert world.safe.requests("/own")[0][1] == "own.tls.example"
