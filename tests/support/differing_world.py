"""fedgate and Envoy side by side, configured from the same documents, each with recording backends of its own.

Both listen on the same port numbers at loopback addresses of their own, so that what names a port is equal too. Services whose
endpoints' addresses decide something (rings) are on `ring`, one recorder that both share.
"""

from __future__ import annotations

import contextlib
import ssl

import certs
import trio
from differing import Row, differences, fields, one_bytes, two_fields
from envoy_intent import Intent
from envoys import Envoy, T
from recorder import Recorder
from running import Fedgate, document, fresh_address, listening, routes, running, server
from running_gateway import free_ports, until
from wire_clients import ask_frames, ask_one, ask_two, connected

NAMES = ("a", "b", "v1", "v2", "v3")
RINGS = ("r1", "r2", "r3", "r4", "r5")
CA = certs.Authority("differing")
CLIENT = certs.spiffe("differing.example.com")
LEAF = CLIENT.leaf("spiffe://differing.example.com/ns/shop/sa/client", "client.test")


class Server(Envoy):
    """An Envoy with a configuration of somebody else's making."""

    def __init__(self, folder, intent):
        super().__init__(folder, "oracle", direct="-")
        self.configuration = intent.configuration(self.address, self.admin)


def entry(host, endpoints, protocol="HTTP"):
    port = {"number": 80, "name": "http", "protocol": protocol}
    spec = {"hosts": [host], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": [port], "endpoints": list(endpoints)}
    return document("ServiceEntry", host.replace(".", "-"), spec)


def services(recorder, ring):
    """The services that every site may name."""
    refused = {"address": recorder.address, "ports": {"http": 1}}
    one = [recorder.endpoint("a")]
    return [
        entry("one.shop", one),
        entry("fresh.shop", one),  # a new connection for every request
        entry("two.shop", [recorder.endpoint("b")]),
        entry("pair.shop", [recorder.endpoint("a"), recorder.endpoint("b")]),
        entry("app.shop", [recorder.endpoint(name, labels={"version": name}) for name in ("v1", "v2", "v3")]),
        entry("refused.shop", [refused]),
        entry("half.shop", [refused, recorder.endpoint("a")]),
        entry("nobody.shop", []),
        entry("two-h.shop", one, "HTTP2"),
        entry("grpc.shop", one, "GRPC"),
        *(entry(f"{name}.shop", [ring.endpoint(one) for one in RINGS]) for name in HASHING),
        subsets("app.shop", "v1", "v2", "v3"),
        *(entry(f"{name}.shop", one, protocol) for name, protocol in LIMITED.items()),
        *(
            document("ServicePolicy", name, {"hosts": [f"{name}.shop"], "rateLimits": [{"requests": 3, "per": "60s"}]})
            for name in LIMITED
        ),
        document("DestinationRule", "fresh", {"host": "fresh.shop", "trafficPolicy": ONCE}),
        *(
            document("DestinationRule", name, {"host": f"{name}.shop", "trafficPolicy": {"loadBalancer": balancing}})
            for name, balancing in HASHING.items()
        ),
    ]


LIMITED = {"limited": "HTTP", "limited-two": "HTTP", "limited-grpc": "GRPC"}
ONCE = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
HASHING = {
    "ring-header": {"consistentHash": {"httpHeaderName": "x-user", "ringHash": {"minimumRingSize": 1024}}},
    "ring-query": {"consistentHash": {"httpQueryParameterName": "user"}},
    "ring-source": {"consistentHash": {"useSourceIp": True}},
    "ring-cookie": {"consistentHash": {"httpCookie": {"name": "user", "ttl": "0s"}}},
    "ring-session": {"consistentHash": {"httpCookie": {"name": "session", "path": "/x", "ttl": "60s"}}},
    "maglev-header": {"consistentHash": {"httpHeaderName": "x-user", "maglev": {"tableSize": 65537}}},
}


def subsets(host, *names):
    written = [{"name": name, "labels": {"version": name}} for name in names]
    return document("DestinationRule", host.replace(".", "-"), {"host": host, "subsets": written})


class World:
    """sites: name → (hosts or None for NAME.test, http rules); one of them is `echo`. proxies: how
    many before the gateways are trusted.

    loopback: what Envoy calls a client that came over the loopback interface: in x-forwarded-for it writes the machine's own address
    for those, which `compare` puts right."""

    def __init__(self, folder, sites, *, proxies=0):
        self.names = sites
        self.stack = contextlib.ExitStack()
        self.ring = Recorder(*RINGS, address=fresh_address())
        self.sides = {}
        ours = Fedgate(folder, defaults="istio")
        theirs = fresh_address()
        self.ports = dict(zip(("http", "https", "mtls", "moved"), free_ports(4, ours.address), strict=True))
        self.contexts = contexts(folder)
        recorders = [Recorder(*NAMES, address=fresh_address()) for _ in range(2)]
        for recorder, address in zip(recorders, (ours.address, theirs), strict=True):
            self.sides[address] = recorder
        written = [self.documents(sites, recorder, address, folder) for address, recorder in self.sides.items()]
        for each in written[0]:
            ours.write(f"{each['kind']}-{each['metadata']['name']}".lower(), each)
        ours.write("node", ours.node(gatewayTopology={"numTrustedProxies": proxies}))
        self.fedgate = ours
        intent = Intent(written[1], {"https": downstream(folder), "mtls": downstream(folder, mutual=True)}, proxies=proxies)
        self.envoy = Server(folder, intent)
        self.envoy.configuration = intent.configuration(theirs, self.envoy.admin)
        self.envoy.configuration["admin"]["address"]["socket_address"]["address"] = self.envoy.address
        self.addresses = ours.address, theirs

    def documents(self, sites, recorder, address, folder):
        made = [*services(recorder, self.ring), self.gateway(address, folder)]
        for name, (hosts, rules) in sites.items():
            made.append(routes(name, hosts or [f"{name}.test"], *rules, gateways=["web"]))
        return made

    def gateway(self, address, folder):
        class Place:
            pass

        place = Place()
        place.address = address
        simple = {"mode": "SIMPLE", "serverCertificate": str(folder / "server.pem"), "privateKey": str(folder / "server.key")}
        mutual = simple | {"mode": "MUTUAL", "caCertificates": str(folder / "clients.pem")}
        return listening(
            "web",
            server(place, ["*"], port=self.ports["http"], name="http"),
            server(place, ["*"], port=self.ports["https"], tls=simple, name="https"),
            server(place, ["*"], port=self.ports["mtls"], tls=mutual, name="mtls"),
            {
                "port": {"number": self.ports["moved"], "name": "moved", "protocol": "HTTP"},
                "bind": address,
                "hosts": ["*"],
                "tls": {"httpsRedirect": True},
            },
        )

    @contextlib.contextmanager
    def running(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.ring)
            for recorder in self.sides.values():
                stack.enter_context(recorder)
            stack.enter_context(running(self.fedgate, self.envoy))
            _, (asked,) = trio.run(self.ask, Row("who am I?"), self.addresses[1])
            self.loopback = dict(asked.headers)["x-forwarded-for"]
            yield self

    async def ask(self, row, address):
        """Send it; (outcome, what reached the backend)."""
        recorder = self.sides[address]
        recorder.play(*row.replies)
        context = None if row.over in ("http", "moved") else self.contexts[row.over]
        alpn = ("h2",) if row.protocol in ("h2", "grpc", "frames") else ("http/1.1",)
        async with connected(address, self.ports[row.over], context, row.authority.partition(":")[0], alpn) as stream:
            outcome = await exchange(stream, row)
        if row.half_close:
            await trio.sleep(0.1)  # what was sent on all the same would else be taken for the next row's
        if row.seen is not None:
            with contextlib.suppress(AssertionError):  # a mirrored copy comes when it comes; or it does not
                await until(lambda: ready(recorder), lambda seen: len(seen) >= row.seen, within=2.0)
        return outcome, recorder.seen

    async def compare(self, row):
        """(Envoy's fields, fedgate's, Envoy's outcome, what it sent on, fedgate's outcome)."""
        results = {}

        async def side(address):
            results[address] = await self.ask(row, address)

        async with trio.open_nursery() as nursery:
            for address in self.addresses:
                nursery.start_soon(side, address)
        ours, theirs = (results[address] for address in self.addresses)
        for one in theirs[1]:
            one.headers = [(name, value.replace(self.loopback, "127.0.0.1")) for name, value in one.headers]
        return fields(row, *theirs), fields(row, *ours), theirs, ours


async def ready(recorder):
    return recorder.seen


async def exchange(stream, row):
    if row.protocol == "frames":
        return await ask_frames(stream, row.raw, row.streams)
    if row.protocol in ("h2", "grpc"):
        fields = two_fields(row)
        probe = [(":method", "GET"), (":scheme", fields[0][1][1]), (":authority", row.authority), (":path", "/probe")]
        return await ask_two(stream, [fields] * row.times, probe=probe if row.probe else ())
    pieces, methods = one_bytes(row)
    probe = b"GET /probe HTTP/1.1\r\nhost: echo.test\r\n\r\n" if row.probe else b""
    return await ask_one(stream, pieces, methods, probe=probe, tunnel=row.tunnel, half_close=row.half_close)


def judge(row, envoy, fedgate):
    """What is wrong with the row; "" if nothing."""
    found = differences(envoy, fedgate)
    unlisted = {name: pair for name, pair in found.items() if name not in row.differs}
    gone = [name for name in row.differs if name not in found]
    said = [f"  {name}: Envoy {theirs!r}, fedgate {ours!r}" for name, (theirs, ours) in unlisted.items()]
    said += [f"  {name} is listed as differing and does not: take it out ({row.differs[name]})" for name in gone]
    return "\n".join(said)


# ----------------------------------------------------------------------------------------------------------------- TLS


def contexts(folder):
    """Client contexts by server; also writes the servers' certificate files."""
    folder.mkdir(parents=True, exist_ok=True)
    leaf = CA.leaf("*.test", "x.test")
    (folder / "server.pem").write_text(leaf.chain)
    (folder / "server.key").write_bytes(leaf.key.reveal())
    (folder / "clients.pem").write_text(CLIENT.bundle)
    made = {name: ssl.create_default_context(cadata=CA.bundle) for name in ("https", "mtls")}
    for context in made.values():
        context.check_hostname = False  # hosts of many shapes are asked here; who the server is, other tests ask
    LEAF.load_into(made["mtls"])
    return made


def downstream(folder, *, mutual=False):
    files = {"certificate_chain": {"filename": str(folder / "server.pem")}, "private_key": {"filename": str(folder / "server.key")}}
    common = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [files]}
    if mutual:
        common["validation_context"] = {"trusted_ca": {"filename": str(folder / "clients.pem")}}
    kind = T + "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    typed = {"@type": kind, "common_tls_context": common, "require_client_certificate": mutual}
    return {"name": "tls", "typed_config": typed}
