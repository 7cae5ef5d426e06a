"""The real Envoy with the same hash settings sends every key to the endpoint that we choose, and makes the same cookie."""

import contextlib
import http.client
import http.server
import threading

import pytest
from envoys import Envoy, where
from running import running

from discovery.model import Health, Locality
from gateway.native.host import Host
from gateway.native.spread import gather, spread
from gateway.policy.hashing import HashKey, Peer
from gateway.snapshot import Backend, Balance, HashPolicy, LbEndpoint
from gateway.verdicts import Verdict

pytestmark = [pytest.mark.live, pytest.mark.slow]

KEYS = 600
HEADER = HashPolicy("header", "x-key")


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = 65_536  # head and body in one packet: two would wait for an acknowledgement in between
    disable_nagle_algorithm = True

    def do_GET(self):
        body = "{}:{}".format(*self.server.server_address).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def workloads():
    """Five endpoints that answer with their own address."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) for _ in range(5)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield [server.server_address[1] for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


class Case:
    """endpoints: (index of the workload, weight, priority, locality, healthy)."""

    def __init__(self, name, balance, *, size, policy, endpoints, weights=(), target="/{key}", headers=("x-key: {key}",)):
        self.name, self.balance, self.size, self.policy = name, balance, size, policy
        self.endpoints, self.weights, self.target, self.headers = endpoints, weights, target, headers

    def cluster(self, ports):
        groups = {}
        for index, weight, priority, locality, healthy in self.endpoints:
            endpoint = {
                "endpoint": {"address": where("127.0.0.1", ports[index])},
                "load_balancing_weight": weight,
                "health_status": "HEALTHY" if healthy else "UNHEALTHY",
            }
            groups.setdefault((priority, locality), []).append(endpoint)
        weights = dict(self.weights)
        loads = [
            {"priority": priority, "locality": {"region": locality}, "lb_endpoints": endpoints}
            | ({"load_balancing_weight": weights[locality]} if locality in weights else {})
            for (priority, locality), endpoints in groups.items()
        ]
        ring = {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": self.size}}
        maglev = {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": self.size}}
        common = {"healthy_panic_threshold": {"value": 0}} | ({"locality_weighted_lb_config": {}} if weights else {})
        return {
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "common_lb_config": common,
            "load_assignment": {"cluster_name": self.name, "endpoints": loads},
            **(ring if self.balance is Balance.RING_HASH else maglev),
        }

    def route(self):
        kind, name = self.policy.kind, self.policy.name
        written = {
            "header": {"header": {"header_name": name}},
            "query": {"query_parameter": {"name": name}},
            "source-ip": {"connection_properties": {"source_ip": True}},
            "cookie": {"cookie": {"name": name}},
        }[kind]
        if kind == "cookie" and self.policy.ttl_ms is not None:
            attributes = [{"name": key, "value": value} for key, value in self.policy.attributes]
            written["cookie"] |= {"ttl": f"{self.policy.ttl_ms // 1000}s", "path": self.policy.path, "attributes": attributes}
        match = {"prefix": "/", "headers": [{"name": "x-case", "string_match": {"exact": self.name}}]}
        return {"match": match, "route": {"cluster": self.name, "hash_policy": [written]}}

    def chooser(self, ports):
        """What we choose for 64 bits."""
        hosts = []
        for index, weight, priority, locality, healthy in self.endpoints:
            endpoint = LbEndpoint(
                f"{index}", "127.0.0.1", ports[index], locality=Locality(locality), priority=priority, weight=weight
            )
            host = Host("b", endpoint, 0.0)
            host.verdict = None if healthy else Verdict(Health.UNHEALTHY)
            hosts.append(host)
        backend = Backend(
            "b", "b", 80, balance=self.balance, hash=HashPolicy("header", size=self.size), locality_weights=self.weights
        )
        table = spread(backend, gather(hosts, {}), None, lambda: 0.5)
        while not table.build():
            pass
        return lambda key: table.hashed(key).key


EVEN = [(index, 1, 0, "", True) for index in range(5)]
WEIGHTED = [(0, 1, 0, "", True), (1, 2, 0, "", True), (2, 7, 0, "", True)]
PRIORITIES = [(0, 1, 0, "", True), (1, 1, 0, "", False), (2, 1, 1, "", True), (3, 3, 1, "", True)]
LOCALITIES = [(0, 1, 0, "a", True), (1, 3, 0, "a", True), (2, 1, 0, "b", True), (3, 1, 0, "b", False), (4, 1, 0, "c", True)]
LOST_LOCALITY = [(0, 1, 0, "a", True), (1, 3, 0, "a", True), (2, 1, 0, "b", False), (3, 1, 0, "b", False)]

CASES = [
    Case("ring", Balance.RING_HASH, size=1024, policy=HEADER, endpoints=EVEN),
    Case("small-ring", Balance.RING_HASH, size=7, policy=HEADER, endpoints=EVEN),
    Case("big-ring", Balance.RING_HASH, size=20_000, policy=HEADER, endpoints=WEIGHTED),
    Case("weighted-ring", Balance.RING_HASH, size=1024, policy=HEADER, endpoints=WEIGHTED),
    Case("ring-of-priorities", Balance.RING_HASH, size=1024, policy=HEADER, endpoints=PRIORITIES),
    Case("ring-of-localities", Balance.RING_HASH, size=1024, policy=HEADER, endpoints=LOCALITIES, weights=(("a", 80), ("b", 20))),
    Case(
        "ring-of-a-lost-locality",
        Balance.RING_HASH,
        size=1024,
        policy=HEADER,
        endpoints=LOST_LOCALITY,
        weights=(("a", 80), ("b", 20)),
    ),
    Case("maglev-of-localities", Balance.MAGLEV, size=1021, policy=HEADER, endpoints=LOCALITIES, weights=(("a", 80), ("b", 20))),
    Case("maglev", Balance.MAGLEV, size=65_537, policy=HEADER, endpoints=EVEN),
    Case("small-maglev", Balance.MAGLEV, size=13, policy=HEADER, endpoints=EVEN),
    Case("weighted-maglev", Balance.MAGLEV, size=1021, policy=HEADER, endpoints=WEIGHTED),
    Case("maglev-of-priorities", Balance.MAGLEV, size=1021, policy=HEADER, endpoints=PRIORITIES),
    Case("query", Balance.RING_HASH, size=64, policy=HashPolicy("query", "k"), endpoints=EVEN, target="/?a=1&k={key}%20x&k=2"),
    Case(
        "cookie",
        Balance.RING_HASH,
        size=64,
        policy=HashPolicy("cookie", "k"),
        endpoints=EVEN,
        headers=('cookie: a=1; k="{key}"; k=2',),
    ),
    Case(
        "two-headers",
        Balance.RING_HASH,
        size=64,
        policy=HEADER,
        endpoints=EVEN,
        headers=("x-key: z{key}", "X-Key: {key}, b", "x-key: "),
    ),
    Case("source-ip", Balance.RING_HASH, size=64, policy=HashPolicy("source-ip"), endpoints=EVEN),
    Case(
        "made-cookie",
        Balance.RING_HASH,
        size=64,
        policy=HashPolicy("cookie", "sticky", path="/p", ttl_ms=90_000, attributes=(("SameSite", "Lax"), ("Secure", ""))),
        endpoints=EVEN,
        headers=(),
    ),
    Case("session-cookie", Balance.RING_HASH, size=64, policy=HashPolicy("cookie", "s", ttl_ms=0), endpoints=EVEN, headers=()),
]


@pytest.fixture(scope="module")
def envoy(workloads, tmp_path_factory):
    made = Envoy(
        tmp_path_factory.mktemp("hashing"),
        "hashing",
        clusters=[case.cluster(workloads) for case in CASES],
        route={"cluster": "ring"},
    )
    manager = made.configuration["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [case.route() for case in CASES]
    with running(made):
        yield made


def asked(envoy, case, number, connection):
    """Sends one request; who answered, the Set-Cookie that came, and what our own HashKey makes of the request."""
    key = f"user-{number}"
    target = case.target.format(key=key)
    fields = [("x-case", case.name), *(line.format(key=key).split(": ", 1) for line in case.headers)]
    connection.putrequest("GET", target)
    for name, value in fields:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    theirs = answer.read().decode()
    client, server = connection.sock.getsockname(), connection.sock.getpeername()
    peer = Peer(client[0], "{}:{}{}:{}".format(*client, *server))
    lowered = [(name.lower().encode(), value.strip().encode()) for name, value in fields]
    return theirs, answer.getheader("set-cookie"), HashKey.of(case.policy).key_and_cookie(lowered, target, peer)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_endpoint_for_every_key(case, envoy, workloads):
    choose, different = case.chooser(workloads), []
    for start in range(0, KEYS, 50):
        # A connection each: the cookies that are made depend on its ports.
        with contextlib.closing(http.client.HTTPConnection(envoy.address, envoy.port, timeout=10)) as connection:
            connection.connect()
            for number in range(start, start + 50):
                theirs, set_cookie, (bits, cookie) = asked(envoy, case, number, connection)
                assert set_cookie == (cookie.decode() if cookie else None)
                if choose(bits) != theirs:
                    different.append((number, choose(bits), theirs))
    assert different == []
