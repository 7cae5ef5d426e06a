"""What Octavia says, as services."""

import msgspec
import pytest

from discovery.draft import Drafts
from discovery.here import Here
from discovery.model import Health, Locality, Port, Protocol
from discovery.octavia import Balancing, Listener, LoadBalancer, Member, Pool, Reference, Zones, add_balancers, rfc3339

HERE = Here("east", "net", Locality("r1"))


def balancer(identity="lb", **more):
    return LoadBalancer(**{"id": identity, "name": "reviews", **more})


def listener(identity="l", *, port=80, pool="p", of="lb", protocol="HTTP", **more):
    return Listener(
        id=identity, protocol=protocol, protocol_port=port, default_pool_id=pool, loadbalancers=(Reference(of),), **more
    )


def pool(identity="p", protocol="HTTP", **more):
    return Pool(id=identity, protocol=protocol, **more)


def member(address="10.0.0.1", port=8080, **more):
    return Member(id=f"{address}:{port}", address=address, protocol_port=port, **{"operating_status": "ONLINE", **more})


def said(*, balancers=None, listeners=None, pools=None, members=None, zones=None):
    balancing = Balancing(
        tuple(balancers or [balancer()]),
        tuple(listeners if listeners is not None else [listener()]),
        tuple(pools if pools is not None else [pool()]),
        members if members is not None else {"p": (member(),)},
    )
    drafts = Drafts()
    unsure = add_balancers(drafts, balancing, here=HERE, project="shop", zones=zones or Zones())
    return drafts.built(), unsure, drafts.passed_over


def one(**view):
    (service,) = said(**view)[0].values()
    return service


@pytest.mark.parametrize(
    ("fields", "health"),
    [
        ({"operating_status": "ONLINE"}, Health.HEALTHY),
        ({"operating_status": "NO_MONITOR"}, Health.UNKNOWN),
        ({"operating_status": ""}, Health.UNKNOWN),
        ({"operating_status": None}, Health.UNKNOWN),
        ({"operating_status": "ERROR"}, Health.UNHEALTHY),
        ({"operating_status": "OFFLINE"}, Health.UNHEALTHY),
        ({"operating_status": "DRAINING"}, Health.DRAINING),
        ({"operating_status": "DEGRADED"}, Health.DEGRADED),
        ({"weight": 0}, Health.DRAINING),
        ({"weight": 0, "operating_status": "ERROR"}, Health.DRAINING),
    ],
)
def test_a_member_s_health(fields, health):
    (endpoint,) = one(members={"p": (member(**fields),)}).endpoints
    assert endpoint.health is health
    assert endpoint.health.usable == (health in (Health.HEALTHY, Health.UNKNOWN, Health.DEGRADED))


def test_weight_backup_labels_and_zone():
    zones = Zones({("s", "10.0.0.1"): "az1"}, {"10.0.0.2": "az2"})
    first = member(weight=7, backup=True, tags=("version=v2", "plain"), subnet_id="s")
    other = member("10.0.0.2", weight=None, tags=("istio-locality=r9.z9",))
    last = member("10.0.0.3")
    endpoints = one(members={"p": (first, other, last)}, zones=zones).endpoints
    assert [(each.weight, each.tier, each.locality) for each in endpoints] == [
        (7, 1, Locality("r1", "az1")),
        (1, 0, Locality("r9", "z9")),
        (1, 0, Locality("r1")),
    ]
    assert endpoints[0].labels == (("version", "v2"),)


@pytest.mark.parametrize(
    "off",
    [
        {"balancers": [balancer(admin_state_up=False)]},
        {"listeners": [listener(admin_state_up=False)]},
        {"pools": [pool(admin_state_up=False)]},
        {"members": {"p": (member(admin_state_up=False),)}},
        {"members": {"p": (member(provisioning_status="PENDING_DELETE"),)}},
    ],
)
def test_what_is_switched_off_serves_nothing_but_is_a_service_still(off):
    service = one(**off)
    assert service.ports == (Port(80, "http-80", Protocol.HTTP),)
    assert service.endpoints == ()


@pytest.mark.parametrize(
    ("named", "spoken", "more", "protocol"),
    [
        ("", "HTTP", {}, Protocol.HTTP),
        ("grpc-api", "HTTP", {}, Protocol.GRPC),
        ("tcp", "HTTP", {}, Protocol.HTTP),
        ("", "HTTP", {"tls_enabled": True}, Protocol.HTTPS),
        ("", "HTTPS", {}, Protocol.HTTPS),
        ("", "TCP", {}, Protocol.TCP),
        ("http-web", "TCP", {}, Protocol.HTTP),
        ("", "UDP", {}, Protocol.UDP),
    ],
)
def test_what_the_members_speak(named, spoken, more, protocol):
    assert one(listeners=[listener(name=named)], pools=[pool(protocol=spoken, **more)]).ports[0].protocol is protocol


@pytest.mark.parametrize("spoken", ["PROXY", "PROXYV2", "SCTP"])
def test_what_cannot_be_spoken_is_left_out_with_a_note(spoken):
    service = one(pools=[pool(protocol=spoken)])
    assert service.ports == service.endpoints == ()
    assert spoken in service.notes[0]


def test_two_listeners_are_two_ports_of_one_endpoint_unless_its_members_differ():
    listeners = [listener(name="web"), listener("l2", port=9090, pool="q", name="admin")]
    pools = [pool(), pool("q")]
    same = one(listeners=listeners, pools=pools, members={"p": (member(),), "q": (member(port=9),)})
    assert [each.ports for each in same.endpoints] == [(("admin", 9), ("web", 8080))]
    differ = one(listeners=listeners, pools=pools, members={"p": (member(),), "q": (member(port=9, weight=0),)})
    assert [(each.ports, each.health) for each in differ.endpoints] == [
        ((("admin", 9),), Health.DRAINING),
        ((("web", 8080),), Health.HEALTHY),
    ]


def test_two_ports_of_one_address_are_two_endpoints():
    endpoints = one(members={"p": (member(port=8080), member(port=8081))}).endpoints
    assert [each.ports for each in endpoints] == [(("http-80", 8080),), (("http-80", 8081),)]


def test_load_balancers_of_one_name_are_one_service_and_tags_name_it():
    balancers = [
        balancer(
            "a",
            name="blue",
            tags=("fedgate-service=web", "fedgate-namespace=front", "color=blue"),
            created_at="2026-02-01T00:00:00",
        ),
        balancer("b", name="green", tags=("fedgate-service=web", "fedgate-namespace=front"), created_at="2026-01-01T00:00:00"),
    ]
    listeners = [listener("l1", of="a"), listener("l2", of="b", pool="q")]
    members = {"p": (member(),), "q": (member("10.0.0.2"),)}
    services, _, _ = said(balancers=balancers, listeners=listeners, pools=[pool(), pool("q")], members=members)
    service = services["web.front.svc.cluster.local"]
    assert [each.address for each in service.endpoints] == ["10.0.0.1", "10.0.0.2"]
    assert service.created == "2026-01-01T00:00:00Z"
    assert service.labels == (("color", "blue"),)
    turned = said(balancers=balancers[::-1], listeners=listeners[::-1], pools=[pool("q"), pool()], members=members)[0]
    assert turned == services


@pytest.mark.parametrize("name", ["", None, "no name", "-", "a..b"])
def test_what_no_client_could_ask_for_is_passed_over_with_a_word(name):
    services, _, passed_over = said(balancers=[balancer(name=name)])
    assert not services
    assert "fedgate-service" in next(iter(passed_over))


def test_a_pool_that_is_not_known_makes_the_service_unsure():
    assert said(members={})[1] == {"reviews.shop.svc.cluster.local"}
    assert said(pools=[])[1] == {"reviews.shop.svc.cluster.local"}
    assert said(listeners=[listener(pool=None)])[1] == set()
    assert said(listeners=[listener(protocol="PROMETHEUS", pool=None)])[:2] == ({}, set())


def test_policies_and_tls_to_members_are_noted():
    service = one(listeners=[listener(l7policies=(Reference("x"),))], pools=[pool(tls_enabled=True)])
    assert "VirtualService" in " ".join(service.notes)
    assert "DestinationRule" in " ".join(service.notes)


def test_what_is_being_deleted_is_gone():
    assert said(balancers=[balancer(provisioning_status="PENDING_DELETE")])[0] == {}
    assert said(listeners=[listener(provisioning_status="PENDING_DELETE")])[0] == {}


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05Z",) * 2,
        ("2026-01-02T03:04:05+00:00",) * 2,
        (None, ""),
    ],
)
def test_times_are_utc(time, said):
    assert rfc3339(time) == said


def test_an_answer_is_read_whatever_it_has_besides():
    text = (
        b'{"id": "m", "address": "10.0.0.1", "protocol_port": 80, "weight": 1, "name": "", "monitor_port": null, "backup": false}'
    )
    assert msgspec.convert(msgspec.json.decode(text), Member, strict=False).weight == 1
