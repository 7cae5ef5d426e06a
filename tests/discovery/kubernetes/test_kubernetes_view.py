"""The view of a Kubernetes API: which names a difference concerns, and what they are then; in whatever order it comes."""

import itertools

import kube_api
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.here import Here
from discovery.kubernetes import objects as kube
from discovery.kubernetes.services import Reach
from discovery.kubernetes.view import View
from discovery.model import Health, Locality, Port, Protocol, Resolution

HERE = Here("east", locality=Locality("r1"))
WEB, DB = "web.shop.svc.cluster.local", "db.shop.svc.cluster.local"
SET = "web.shop.svc.clusterset.local"
KINDS = {
    "service": kube.Service,
    "slice": kube.EndpointSlice,
    "pod": kube.Pod,
    "node": kube.Node,
    "export": kube.ServiceExport,
    "import": kube.ServiceImport,
}


class Told:
    """A view that is told of objects by what they are."""

    def __init__(self, reach=Reach.POD, here=HERE):
        self.view = View(here, reach)
        self.known = {}

    def tell(self, what, content):
        made = msgspec.convert(content, KINDS[what])
        key = made.metadata.key
        getattr(self.view, f"take_{what}")(key, self.known.get((what, key)), made)
        self.known[what, key] = made
        return self

    def drop(self, what, key):
        getattr(self.view, f"take_{what}")(key, self.known.pop((what, key)), None)

    def stale(self):
        found = set(self.view.stale)
        self.view.stale.clear()
        return found

    def built(self):
        return {host: self.view.build(host) for host in sorted(self.view.hosts()) if self.view.build(host) is not None}


def addresses(service):
    return [endpoint.address for endpoint in service.endpoints]


SHOP = [
    ("service", kube_api.service("web", labels={"tier": "front"})),
    ("service", kube_api.service("db", ports=[{"name": "tcp-db", "port": 5432}])),
    ("slice", kube_api.slice_of("web", ("10.0.0.1", {"pod": "web-1", "nodeName": "n1"}))),
    ("slice", kube_api.slice_of("web", "10.0.0.2", name="web-2")),
    ("slice", kube_api.slice_of("db", "10.0.0.3", ports=[{"name": "tcp-db", "port": 5432}])),
    ("pod", kube_api.pod("web-1", version="v1")),
    ("node", kube_api.node("n1", zone="z1", region="r1")),
    ("export", {"metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-03-03T00:00:00Z"}}),
]


def test_a_service_is_what_its_objects_say():
    told = Told()
    for what, content in SHOP:
        told.tell(what, content)
    found = told.built()
    assert sorted(found) == [DB, WEB, SET]
    web = found[WEB]
    assert (web.ports, web.addresses, web.labels) == ((Port(80, "http", Protocol.HTTP),), ("10.96.0.1",), (("tier", "front"),))
    assert (web.namespace, web.created, web.resolution, web.external) == ("shop", "2026-01-01T00:00:00Z", Resolution.STATIC, False)
    assert [(each.address, dict(each.labels), str(each.locality)) for each in web.endpoints] == [
        ("10.0.0.1", {"version": "v1"}, "r1/z1"),
        ("10.0.0.2", {}, "r1"),
    ]
    assert found[DB].ports[0].protocol is Protocol.TCP
    assert (found[SET].created, found[SET].addresses, addresses(found[SET])) == ("2026-03-03T00:00:00Z", (), addresses(web))


def test_the_api_server_of_a_cluster_is_no_service_of_the_federation():
    told = Told().tell("service", kube_api.service("kubernetes", namespace="default"))
    told.tell("service", kube_api.service("kubernetes", namespace="shop"))
    assert sorted(told.built()) == ["kubernetes.shop.svc.cluster.local"]


@given(st.permutations(SHOP))
def test_the_order_in_which_it_is_told_changes_nothing(order):
    told, again = Told(), Told()
    for what, content in SHOP:
        told.tell(what, content)
    for what, content in order:
        again.tell(what, content)
        again.built()  # what is kept of slices must not outlive what it was made of
    assert again.built() == told.built()


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, len(SHOP) - 1), st.booleans()), max_size=30))
def test_what_is_stale_is_all_that_changed(steps):
    told = Told()
    known = {}
    for number, there in steps:
        what, content = SHOP[number]
        key = (what, msgspec.convert(content, KINDS[what]).metadata.key)
        if there:
            told.tell(what, content)
        elif key in told.known and what != "pod":  # a Pod that is gone is left to its slice
            told.drop(*key)
        for host in told.stale():
            known[host] = told.view.build(host)
        fresh = Told()
        for (kind, _), made in told.known.items():
            fresh.tell(kind, msgspec.to_builtins(made))
        assert {host: service for host, service in known.items() if service} == fresh.built()


def test_one_change_touches_what_it_concerns():
    told = Told()
    for what, content in SHOP:
        told.tell(what, content)
    told.stale()
    told.tell("pod", kube_api.pod("web-1", version="v2"))
    assert told.stale() == {WEB, SET}
    told.tell("pod", kube_api.pod("alone"))
    assert told.stale() == set()
    told.tell("node", kube_api.node("n1", zone="z2", region="r1"))
    assert told.stale() == {WEB, SET}
    assert str(told.built()[WEB].endpoints[0].locality) == "r1/z2"
    told.tell("slice", kube_api.slice_of("db", "10.0.0.9"))
    assert told.stale() == {DB}
    told.drop("service", "shop/db")
    assert told.stale() == {DB}
    assert told.view.build(DB) is None


def test_a_slice_that_changes_its_owner_leaves_the_first():
    told = Told()
    for what, content in SHOP:
        told.tell(what, content)
    told.stale()
    told.tell("slice", kube_api.slice_of("web", "10.0.0.2", name="web-2", labels={kube.SERVICE_NAME: "db"}))
    assert told.stale() == {WEB, SET, DB}
    assert addresses(told.built()[WEB]) == ["10.0.0.1"]
    assert addresses(told.built()[DB]) == ["10.0.0.2", "10.0.0.3"]


@pytest.mark.parametrize(
    ("families", "expected"), [([], ["10.0.0.1"]), (["IPv6", "IPv4"], ["fd00::1"]), (["IPv4", "IPv6"], ["10.0.0.1"])]
)
def test_of_two_families_one_is_used(families, expected):
    told = Told().tell("service", kube_api.service("web", ipFamilies=families))
    told.tell("slice", kube_api.slice_of("web", "10.0.0.1"))
    told.tell("slice", kube_api.slice_of("web", "fd00::1", name="six", family="IPv6"))
    assert addresses(told.built()[WEB]) == expected


def test_a_headless_service_has_no_address_and_one_with_two_has_both():
    told = Told().tell("service", kube_api.service("web", clusterIP="None"))
    assert (told.built()[WEB].headless, told.built()[WEB].addresses) == (True, ())
    told.tell("service", kube_api.service("web", clusterIPs=["10.96.0.1", "fd00::1"]))
    assert told.built()[WEB].addresses == ("10.96.0.1", "fd00::1")


def test_publish_not_ready_addresses_counts_from_when_it_is_set():
    told = Told().tell("service", kube_api.service("web"))
    told.tell("slice", kube_api.slice_of("web", ("10.0.0.1", {"conditions": {"ready": False}})))
    assert told.built()[WEB].endpoints[0].health is Health.UNHEALTHY
    told.tell("service", kube_api.service("web", publishNotReadyAddresses=True))
    assert told.built()[WEB].endpoints[0].health is Health.HEALTHY


# ----------------------------------------------------------------------------------------------------------- other addresses


def balanced(*ingress):
    return kube_api.service("web", type="LoadBalancer", status={"loadBalancer": {"ingress": list(ingress)}})


def test_by_load_balancer():
    told = Told(Reach.LOAD_BALANCER).tell("service", balanced({"ip": "192.0.2.1"}, {"hostname": "LB.test"}))
    assert told.view.names() == {"lb.test"}
    assert addresses(told.built()[WEB]) == ["192.0.2.1"]
    told.stale()
    told.view.take_name("lb.test", ("192.0.2.9", "192.0.2.8"))
    assert told.stale() == {WEB}
    assert addresses(told.built()[WEB]) == ["192.0.2.1", "192.0.2.8", "192.0.2.9"]
    told.view.take_name("lb.test", ("192.0.2.9", "192.0.2.8"))
    assert told.stale() == set()
    told.tell("slice", kube_api.slice_of("web", ("10.0.0.1", {"conditions": {"ready": False}})))
    assert {each.health for each in told.built()[WEB].endpoints} == {Health.UNHEALTHY}
    told.tell("service", kube_api.service("web"))
    assert "LoadBalancer" in told.built()[WEB].notes[0]
    assert told.view.names() == frozenset()


def test_by_node():
    told = Told(Reach.NODE).tell("service", kube_api.service("web", ports=[{"name": "http", "port": 80, "nodePort": 30001}]))
    told.tell("slice", kube_api.slice_of("web", ("10.0.0.1", {"nodeName": "n1"})))
    told.stale()
    told.tell("node", kube_api.node("n9", address="10.1.0.9"))
    assert told.stale() == {WEB}
    assert [(each.address, each.port("http")) for each in told.built()[WEB].endpoints] == [("10.1.0.9", 30001)]
    told.tell("service", kube_api.service("web"))
    assert "node port" in told.built()[WEB].notes[0]


# ------------------------------------------------------------------------------------------------------------- other names


def other(name, target, **fields):
    return kube_api.service(name, type="ExternalName", externalName=target, clusterIP="", **fields)


def test_an_external_name_is_resolved():
    told = Told().tell("service", other("web", "Db.Corp.", ports=[{"name": "https", "port": 443, "targetPort": 8443}]))
    assert told.view.names() == {"db.corp"}
    told.view.take_name("db.corp", ("192.0.2.1",))
    web = told.built()[WEB]
    assert [(each.address, each.ports) for each in web.endpoints] == [("192.0.2.1", (("https", 8443),))]
    assert (web.resolution, web.external, web.notes) == (Resolution.DNS, True, ())


def test_an_external_name_without_ports_says_what_to_do():
    told = Told().tell("service", other("web", "db.corp", ports=[]))
    assert "write ports" in told.built()[WEB].notes[0]


def test_another_name_of_a_service_of_this_registry_is_that_service():
    told = Told().tell("service", other("web", DB, ports=[{"name": "pg", "port": 5432}])).tell("service", SHOP[1][1])
    told.tell("slice", SHOP[4][1])
    assert told.view.names() == frozenset()
    web = told.built()[WEB]
    assert [(each.address, each.ports) for each in web.endpoints] == [("10.0.0.3", (("pg", 5432),))]
    assert not web.external
    told.stale()
    told.tell("slice", kube_api.slice_of("db", "10.0.0.4", ports=[{"name": "tcp-db", "port": 5432}]))
    assert told.stale() == {WEB, DB}
    told.drop("service", "shop/db")
    assert told.stale() == {WEB, DB}
    assert told.view.names() == {DB}


def test_names_in_a_circle_end():
    told = Told().tell("service", other("web", DB)).tell("service", other("db", WEB))
    assert sorted(told.built()) == [DB, WEB]


def test_of_two_services_with_one_name_the_first_has_it():
    here = Here("east", hostname="{service}.example")
    orders = itertools.permutations([kube_api.service("web", namespace="b"), kube_api.service("web", namespace="a")])
    for order in orders:
        told = Told(here=here)
        for each in order:
            told.tell("service", each)
        assert told.built()["web.example"].namespace == "a"
        told.stale()
        told.drop("service", "a/web")
        assert told.stale() == {"web.example"}
        assert told.built()["web.example"].namespace == "b"


# ------------------------------------------------------------------------------------------------------- the cluster set


def service_import(**spec):
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"name": "http", "port": 80}], **spec}}


FOREIGN = kube_api.slice_of(
    "web", "10.9.0.1", name="imported", labels={kube.MULTICLUSTER_SERVICE_NAME: "web", kube.SOURCE_CLUSTER: "west"}
)


def test_an_export_without_a_service_is_nothing_and_external_names_are_not_exported():
    told = Told().tell("export", SHOP[-1][1])
    assert told.built() == {}
    told.tell("service", other("web", "db.corp"))
    assert sorted(told.built()) == [WEB]
    told.tell("service", SHOP[0][1])
    assert sorted(told.built()) == [WEB, SET]
    told.drop("export", "shop/web")
    assert SET in told.stale()
    assert sorted(told.built()) == [WEB]


def test_what_another_implementation_imported_is_a_service_of_the_set():
    told = Told().tell("import", service_import(ips=["241.0.0.1"], type="ClusterSetIP")).tell("slice", FOREIGN)
    (found,) = told.built().values()
    assert (found.hostname, found.addresses, found.headless) == (SET, ("241.0.0.1",), False)
    assert [(each.address, each.cluster, each.port("http")) for each in found.endpoints] == [("10.9.0.1", "west", 8080)]
    told.stale()
    told.drop("slice", "shop/imported")
    assert SET in told.stale()
    assert told.built()[SET].endpoints == ()


def test_what_is_exported_and_imported_counts_once():
    told = Told()
    for what, content in SHOP:
        told.tell(what, content)
    told.tell("import", service_import(type="Headless"))
    told.tell("slice", FOREIGN)
    told.tell("slice", kube_api.slice_of("web", "10.0.0.1", name="again", labels={kube.MULTICLUSTER_SERVICE_NAME: "web"}))
    assert sorted(addresses(told.built()[SET])) == ["10.0.0.1", "10.0.0.2", "10.9.0.1"]
    assert not told.built()[SET].headless
