"""The catalog: what an update touches, what stays the same object, and independence of the order of updates."""

from hypothesis import given
from hypothesis import strategies as st

from discovery.catalog import Catalog
from discovery.model import Endpoint, Port, Protocol, Service, ShardKey
from discovery.update import Absent, Remove, Reset, Upsert

EAST, WEST, WEST2 = ShardKey("east", "k8s"), ShardKey("west", "k8s"), ShardKey("west", "consul")


def service(hostname, address="10.0.0.1", **fields):
    return Service(hostname, endpoints=(Endpoint(address),), **fields)


def after(*updates):
    catalog = Catalog("east")
    for key, update in updates:
        catalog = catalog.apply(key, update).catalog
    return catalog


def test_a_name_in_two_clusters_is_one_service_with_all_endpoints():
    catalog = after((WEST, Upsert(service("a", "10.1.0.1"))), (EAST, Upsert(service("a"))))
    assert [(endpoint.cluster, endpoint.address) for endpoint in catalog.services["a"].endpoints] == [
        ("east", "10.0.0.1"),
        ("west", "10.1.0.1"),
    ]
    assert {entry.winner for entry in catalog.provenance("a") if entry.field == "headless"} == {EAST}
    assert catalog.provenance("b") == ()


def test_an_update_names_what_it_touched_and_leaves_the_rest_the_same_object():
    before = after((EAST, Reset((service("a"), service("b")))))
    change = before.apply(EAST, Upsert(service("a", "10.0.0.2")))
    assert change.touched == {"a"}
    assert change.catalog.services["b"] is before.services["b"]
    assert before.services["a"].endpoints[0].address == "10.0.0.1"


def test_a_reset_touches_only_what_differs():
    before = after((EAST, Reset((service("a"), service("b"), service("c")))))
    change = before.apply(EAST, Reset((service("a"), service("b", "10.0.0.2"), service("d"))))
    assert change.touched == {"b", "c", "d"}
    assert change.catalog.services["a"] is before.services["a"]
    assert change.catalog.shards[EAST]["a"] is before.shards[EAST]["a"]


def test_saying_the_same_again_changes_nothing():
    before = after((EAST, Reset((service("a"),))))
    for update in (Reset((service("a"),)), Upsert(service("a")), Remove("b"), Absent("b")):
        change = before.apply(EAST, update)
        assert change.touched == frozenset()
        assert change.catalog is before


def test_a_claim_that_loses_touches_nothing_until_it_wins():
    before = after((EAST, Reset((service("a"),))))
    change = before.apply(WEST, Upsert(Service("a")))
    assert change.touched == frozenset()
    assert change.catalog.services["a"] is before.services["a"]
    assert change.catalog.apply(EAST, Remove("a")).catalog.services["a"] == Service("a")


def test_removing_the_last_claim_removes_the_service_and_no_endpoints_does_not():
    catalog = after((EAST, Reset((service("a"), service("b")))), (EAST, Upsert(Service("b"))), (EAST, Absent("A")))
    assert dict(catalog.services) == {"b": Service("b")}


def test_an_empty_reset_leaves_a_shard_and_a_drop_leaves_none():
    catalog = after((EAST, Reset(())), (WEST, Reset((service("a"),))))
    assert list(catalog.shards) == [EAST, WEST]
    change = catalog.drop(WEST)
    assert change.touched == {"a"}
    assert list(change.catalog.shards) == [EAST]
    assert not change.catalog.services
    assert change.catalog.drop(WEST).catalog is change.catalog


def test_endpoints_are_stamped_with_their_cluster_and_names_are_lower_case():
    catalog = after((WEST, Upsert(Service("A.Example", endpoints=(Endpoint("10.0.0.1"), Endpoint("10.0.0.2", cluster="else"))))))
    assert [endpoint.cluster for endpoint in catalog.services["a.example"].endpoints] == ["west", "else"]


def test_contradictions_are_kept_with_the_service_and_go_with_it():
    port, other = Port(80, "http", Protocol.HTTP), Port(80, "http", Protocol.TCP)
    catalog = after((EAST, Upsert(service("a", ports=(port,)))))
    change = catalog.apply(WEST, Upsert(Service("a", ports=(other,))))
    assert change.touched == {"a"}
    assert [finding.field for finding in change.catalog.findings["a"]] == ["ports[80].protocol"]
    assert not change.catalog.apply(WEST, Remove("a")).catalog.findings


services = st.builds(
    Service,
    hostname=st.sampled_from(["a", "b", "c"]),
    ports=st.lists(
        st.builds(Port, st.sampled_from([80, 90]), st.sampled_from(["", "http", "web"]), st.sampled_from(list(Protocol)[:3])),
        max_size=2,
    ).map(tuple),
    endpoints=st.lists(st.builds(Endpoint, st.sampled_from(["1", "2"]), weight=st.integers(1, 2)), max_size=2).map(tuple),
    addresses=st.lists(st.sampled_from(["v1", "v2"]), max_size=1).map(tuple),
    created=st.sampled_from(["", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]),
)
resets = st.lists(services, max_size=3, unique_by=lambda item: item.hostname).map(lambda items: Reset(tuple(items)))


@given(
    st.fixed_dictionaries({EAST: resets, WEST: resets, WEST2: resets}),
    st.permutations([EAST, WEST, WEST2]),
    st.lists(st.tuples(st.sampled_from([EAST, WEST, WEST2]), resets), max_size=4),
)
def test_what_is_merged_depends_on_the_shards_alone(last, order, history):
    one = after(*((key, last[key]) for key in sorted(last)))
    two = after(*history, *((key, last[key]) for key in order))
    assert one.services == two.services
    assert list(one.services) == list(two.services)
    assert one.findings == two.findings
    assert all(one.provenance(name) == two.provenance(name) for name in one.services)


@given(
    st.lists(
        st.tuples(st.sampled_from([EAST, WEST]), resets | services.map(Upsert) | st.sampled_from("abc").map(Remove)), max_size=8
    )
)
def test_touched_is_exactly_what_changed_and_the_rest_is_the_same_object(updates):
    catalog = Catalog("east")
    for key, update in updates:
        change = catalog.apply(key, update)
        for name in "abc":
            same = change.catalog.services.get(name) is catalog.services.get(name) and change.catalog.findings.get(
                name
            ) == catalog.findings.get(name)
            assert same == (name not in change.touched)
        catalog = change.catalog
