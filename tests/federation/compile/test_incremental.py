"""A chain of recompiles ends where compile_all of the same inputs does: same version, same parts, same keys."""

from __future__ import annotations

import dataclasses

import msgspec
from compiling import inputs_of
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.model import Endpoint, Locality, Port, Protocol, Service
from federation.compile.incremental import recompile
from federation.compile.whole import compile_all, finished
from federation.vip_keeper import VipKeeper
from federation.vips import Ranges
from gateway.faults import validate

DOCUMENTS = """
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: west.example.com, addresses: ['192.0.2.1:15443'], bundle: {path: west.pem}, imports: ['*.shop.svc.cluster.local']}
---
apiVersion: fedgate.io/v1
kind: Export
metadata: {name: shop}
spec: {services: ['a.shop.svc.cluster.local', 'c.example.com'], peers: ['*']}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {}
  servers:
    - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}
    - {port: {number: 5000, name: tcp, protocol: TCP}, hosts: ['*']}
    - {port: {number: 5443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: [front.example.com]
  gateways: [edge]
  http:
    - match: [{uri: {prefix: /b}}]
      route: [{destination: {host: b, subset: v1}}]
    - route: [{destination: {host: a}, weight: 1}, {destination: {host: c.example.com}, weight: 2}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inside, namespace: shop}
spec:
  hosts: [a, named.example.com, '*.example.com']
  http: [{route: [{destination: {host: b, port: {number: 8080}}, weight: 1}, {destination: {host: a, subset: v1}, weight: 1}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: relayed, namespace: shop}
spec:
  hosts: [relayed.example.com]
  gateways: [edge]
  tcp: [{route: [{destination: {host: a}, weight: 1}, {destination: {host: c.example.com}, weight: 2}]}]
  tls: [{match: [{sniHosts: [relayed.example.com]}], route: [{destination: {host: b, subset: v1}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b, namespace: shop}
spec: {host: b, subsets: [{name: v1, labels: {version: v1}}], trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: example, namespace: shop}
spec: {host: '*.example.com', trafficPolicy: {outlierDetection: {}}}
"""
KEPT = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: kept, namespace: shop}
spec:
  hosts: [c.example.com]
  tcp: [{match: [{port: 3306}], route: [{destination: {host: b}, weight: 1}, {destination: {host: a, subset: v1}, weight: 2}]}]
"""
HOSTS = ["a.shop.svc.cluster.local", "b.shop.svc.cluster.local", "c.example.com", "d.example.com", "named.example.com", "a.shop"]
BASE = dataclasses.replace(inputs_of(DOCUMENTS + KEPT), services={})

_ports = st.lists(
    st.sampled_from([Port(80, "http", Protocol.HTTP), Port(8080, "alt", Protocol.HTTP), Port(3306, "db", Protocol.TCP)]),
    unique=True,
)
_endpoints = st.lists(
    st.builds(
        Endpoint,
        st.sampled_from(["10.0.0.1", "10.0.0.2", "192.0.2.1"]),
        ports=st.just((("http", 8080), ("alt", 8081), ("db", 3306))),
        labels=st.sampled_from([(), (("version", "v1"),)]),
        cluster=st.sampled_from(["east", "west"]),
        locality=st.sampled_from([Locality("r1"), Locality("r2")]),
        peer=st.sampled_from(["", "west"]),
    ),
    max_size=4,
)
_services = st.builds(
    lambda host, ports, endpoints, headless, addresses: Service(
        host, "shop", tuple(ports), tuple(endpoints), headless=headless, addresses=addresses
    ),
    st.sampled_from(HOSTS),
    _ports,
    _endpoints,
    st.booleans(),
    st.sampled_from([(), (), ("192.0.2.9",), ("240.240.1.1",)]),
)
_change = st.one_of(_services, st.sampled_from(HOSTS))
"""a service as it is now, or the name of one that is gone"""


class Everywhere:
    """Every address comes to this machine."""

    def claim(self, network: str, *, add_route: bool) -> bool:
        return True

    def has(self, address: str) -> bool:
        return True


@settings(max_examples=150)
@given(st.lists(st.lists(_change, min_size=1, max_size=3), min_size=1, max_size=6))
def test_recompile_ends_where_compile_all_does(rounds: list[list[Service | str]]) -> None:
    made = compile_all(BASE)
    vips = VipKeeper(Ranges.parse("240.240.0.0/16", "2001:2::/48"), reach=Everywhere())
    for changes in rounds:
        services = dict(made.setting.inputs.services)
        for change in changes:
            if isinstance(change, str):
                services.pop(change, None)
            else:
                services[change.hostname] = change
        touched = {change if isinstance(change, str) else change.hostname for change in changes}
        touched |= vips.want(services, touched)
        inputs = dataclasses.replace(BASE, services=services, assigned=vips.assigned.value)
        made = recompile(made, inputs, touched)
        whole = compile_all(inputs)
        assert made.snapshot.parts == whole.snapshot.parts
        assert made.snapshot.version == whole.snapshot.version
        assert made.secrets == whole.secrets
        assert finished(made.finding()) == made.findings == whole.findings
        assert made.plans == whole.plans
        assert validate(made.snapshot) == []


def test_what_is_not_touched_stays_the_same_object() -> None:
    service = Service("d.example.com", "shop", (Port(80, "http", Protocol.HTTP),), (Endpoint("10.0.0.1", (("http", 80),)),))
    other = msgspec.structs.replace(service, hostname="e.example.org")
    first = compile_all(dataclasses.replace(BASE, services={"d.example.com": service, "e.example.org": other}))
    more = msgspec.structs.replace(service, endpoints=(*service.endpoints, Endpoint("10.0.0.2", (("http", 80),))))
    second = recompile(
        first, dataclasses.replace(BASE, services={"d.example.com": more, "e.example.org": other}), ["d.example.com"]
    )
    assert second.snapshot.version == first.snapshot.version  # nothing routes to d itself: *.example.com goes to others
    third = msgspec.structs.replace(other, endpoints=more.endpoints)
    fourth = recompile(
        second, dataclasses.replace(BASE, services={"d.example.com": more, "e.example.org": third}), ["e.example.org"]
    )
    changed = {name for name, part in fourth.snapshot.parts.items() if first.snapshot.parts.get(name) is not part}
    assert changed == {"backend/outbound|80||e.example.org", "endpoints/outbound|80||e.example.org"}


def test_a_change_that_is_none_changes_nothing() -> None:
    made = compile_all(BASE)
    assert recompile(made, BASE, HOSTS).snapshot.parts == made.snapshot.parts


def test_listeners_are_made_again_only_when_a_relayed_services_ports_change() -> None:
    name = "a.shop.svc.cluster.local"
    service = Service(name, "shop", (Port(3306, "db", Protocol.TCP),), (Endpoint("10.0.0.1", (("db", 3306),)),))
    first = compile_all(dataclasses.replace(BASE, services={name: service}))
    more = msgspec.structs.replace(service, endpoints=(*service.endpoints, Endpoint("10.0.0.2", (("db", 3306),))))
    second = recompile(first, dataclasses.replace(BASE, services={name: more}), [name])
    assert second.listening is first.listening
    assert len(second.snapshot.endpoints(f"outbound|3306||{name}")) == 2
    moved = msgspec.structs.replace(more, ports=(Port(3307, "db", Protocol.TCP),))
    third = recompile(second, dataclasses.replace(BASE, services={name: moved}), [name])
    assert third.listening is not second.listening
    assert f"backend/outbound|3307||{name}" in third.snapshot.parts
    assert f"backend/outbound|3306||{name}" not in third.snapshot.parts
