"""Publications as Consul's entries."""

import pytest

from discovery.model import Port, Protocol
from federation.publish.consul_entries import (
    Entry,
    Standing,
    check_id,
    node_name,
    node_operation,
    operations,
    removal,
    service_name,
    standing,
    wished,
)
from federation.publish.publication import Publication

OWNER = "east/gw-1"


def offered(service="web", namespace="shop", **more):
    usual = {
        "ports": (Port(80, "http", Protocol.HTTP),),
        "addresses": ("240.240.0.1",),
        "healthy": 1,
        "total": 2,
        "clusters": ("east",),
    }
    return Publication(f"{service}.{namespace}.svc.cluster.local", service, namespace, **(usual | more))


def wish(*publications, sources=(), taken=()):
    return wished(publications, prefix="fed-", owner=OWNER, sources=frozenset(sources), taken=frozenset(taken))


def entry(**more):
    (made,) = wish(offered(**more)).entries.values()
    return made


@pytest.mark.parametrize(
    ("service", "namespace", "name"),
    [("web", "shop", "fed-web-shop"), ("web", "default", "fed-web"), ("web", "", "fed-web"), ("Web", "Shop", "fed-web-shop")],
)
def test_the_name_there(service, namespace, name):
    assert service_name(offered(service, namespace), "fed-") == name


def test_the_node_is_named_after_the_gateway():
    assert node_name("fed-", "east/gw_1") == "fed-east-gw-1"


def test_an_entry_for_each_address():
    made = wish(offered(addresses=("240.240.0.1", "2001:2::1"), ports=(Port(80), Port(90, "Admin UI"), Port(91))))
    assert [(each.ident, each.service, each.address, each.port) for each in made.entries.values()] == [
        ("fed-web-shop:240.240.0.1", "fed-web-shop", "240.240.0.1", 80),
        ("fed-web-shop:2001:2::1", "fed-web-shop", "2001:2::1", 80),
    ]
    assert dict(made.entries["fed-web-shop:2001:2::1"].meta) == {
        "fedgate-published-by": OWNER,
        "fedgate-hostname": "web.shop.svc.cluster.local",
        "fedgate-clusters": "east",
        "port-admin-ui": "90",
        "port-91": "91",
    }
    assert dict(entry().meta)["protocol"] == "http"


def test_what_comes_from_there_or_has_no_address_is_not_written():
    assert not wish(offered(sources=frozenset({"c", "k8s"})), sources=["c"]).entries
    assert wish(offered(sources=frozenset({"k8s"})), sources=["c"]).entries
    assert not wish(offered(addresses=())).entries


def test_names_that_cannot_be_had_are_conflicts():
    assert wish(offered(), taken=["fed-web-shop"]).conflicts == {"fed-web-shop": "somebody else registers a service of that name"}
    assert not wish(offered(), taken=["fed-web-shop"]).entries
    assert "no name that" in wish(offered("a.b")).conflicts["fed-a.b-shop"]
    assert "no name that" in wish(offered("x" * 60)).conflicts[f"fed-{'x' * 60}-shop"]


def test_of_two_services_of_one_name_the_first_by_hostname_has_it_whole():
    one, two = offered("a-b", "default"), offered("a", "b", addresses=("240.240.0.9",))
    for order in ([one, two], [two, one]):
        made = wish(*order)
        assert [dict(each.meta)["fedgate-hostname"] for each in made.entries.values()] == ["a-b.default.svc.cluster.local"]
        assert "a.b.svc.cluster.local does not get it" in made.conflicts["fed-a-b"]


def there(made, *, index=7, owner=OWNER, status="passing"):
    """(service, check) as Consul tells of them."""
    meta = dict(made.meta) | {"fedgate-published-by": owner}
    service = {
        "ID": made.ident,
        "Service": made.service,
        "Address": made.address,
        "Port": made.port,
        "Meta": meta,
        "ModifyIndex": index,
    }
    return service, {"CheckID": check_id(made.ident), "ServiceID": made.ident, "Status": status, "ModifyIndex": index + 1}


def test_what_stands_there_is_read_back_as_it_was_written():
    made = entry()
    service, check = there(made)
    foreign, _ = there(Entry("x", "x", "", 0, (), True), owner="west/gw")
    ours, others = standing(
        [service, foreign, {"ID": "y", "Service": "y", "ModifyIndex": 1}], [check, {"CheckID": "serfHealth"}], OWNER
    )
    assert ours == {made.ident: Standing(made, 7, 8)}
    assert others == {"x", "y"}


def test_only_what_differs_is_written_and_always_by_check_and_set():
    made, sick = entry(), entry(healthy=0)
    new = operations(made, None, "node")
    assert [next(iter(each)) for each in new] == ["Service", "Check"]
    assert new[0]["Service"]["Verb"] == new[1]["Check"]["Verb"] == "cas"
    assert "ModifyIndex" not in new[0]["Service"]["Service"]
    assert new[0]["Service"]["Service"]["Tags"] == ["fedgate-published"]
    old = Standing(made, 7, 8)
    assert operations(made, old, "node") == []
    (check,) = operations(sick, old, "node")
    assert (check["Check"]["Check"]["Status"], check["Check"]["Check"]["ModifyIndex"]) == ("critical", 8)
    (service,) = operations(entry(ports=(Port(81, "http", Protocol.HTTP),)), old, "node")
    assert (service["Service"]["Service"]["Port"], service["Service"]["Service"]["ModifyIndex"]) == (81, 7)
    (check,) = operations(made, Standing(made, 7, 0), "node")  # somebody took the check away
    assert "ModifyIndex" not in check["Check"]["Check"]
    gone = removal(old, "node")["Service"]
    assert (gone["Verb"], gone["Service"]) == ("delete-cas", {"ID": made.ident, "Service": made.service, "ModifyIndex": 7})
    node = node_operation("node", OWNER)["Node"]
    assert (node["Verb"], node["Node"]["Meta"]["fedgate-published-by"]) == ("cas", OWNER)
