"""Who is registered: claims, leases, tokens, bounds."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_groups import group_document

from discovery.document import RawDocument
from federation.resources.read import judge
from federation.workloads import desk as module
from federation.workloads.desk import Claim, Desk, Refused

TOKEN = "fgw_secret"


def made(**how):
    desk = Desk()
    desk.agree([group_document(**how)])
    return desk


def test_a_claim_and_its_group_are_a_workload_entry_that_reads_well():
    desk = made(
        template="{ports: {http: 80, grpc: 90}, labels: {a: t}, locality: eu/eu-1, weight: 3, serviceAccount: sa, network: n}"
    )
    key = desk.register("shop", "reviews", "10.0.0.7", Claim(ports={"http": 8080}, labels={"version": "v2"}), 100.0).key
    raw = desk.document(key)
    judged = judge(raw)
    assert not judged.errors
    assert not judged.warnings
    entry = judged.document
    assert (entry.name, entry.namespace) == ("reviews-10-0-0-7", "shop")
    assert entry.spec.ports == {"http": 8080, "grpc": 90}
    assert entry.spec.labels == {"app": "reviews", "a": "t", "version": "v2"}
    assert (entry.spec.weight, entry.spec.service_account, entry.spec.network, str(entry.spec.locality)) == (
        3,
        "sa",
        "n",
        "eu/eu-1",
    )


def test_an_ipv6_address_has_one_spelling_and_a_name():
    desk = made()
    first = desk.register("shop", "reviews", "fd00:0::1", Claim(), 0.0)
    assert desk.register("shop", "reviews", "fd00::1", Claim(), 1.0).key == first.key
    assert desk.document(first.key).content["metadata"]["name"] == "reviews-fd00--1"
    assert not judge(desk.document(desk.register("shop", "reviews", "::1", Claim(), 0.0).key)).errors


def test_registering_again_renews_and_a_lease_ends():
    desk = made()
    first = desk.register("shop", "reviews", "10.0.0.7", Claim(lease=30), 100.0)
    again = desk.register("shop", "reviews", "10.0.0.7", Claim(lease=30), 120.0)
    assert (again.since, again.expires, desk.next_expiry) == (100.0, 150.0, 150.0)
    assert desk.expire(149.9) == []
    assert desk.expire(150.0) == [again]
    assert desk.next_expiry is None
    changed = desk.register("shop", "reviews", "10.0.0.7", Claim(lease=60), 200.0)
    assert (changed.since, first.since) == (200.0, 100.0)


def test_leaving():
    desk = made()
    key = desk.register("shop", "reviews", "10.0.0.7", Claim(), 0.0).key
    assert desk.deregister(key)
    assert not desk.deregister(key)


@pytest.mark.parametrize(
    ("group", "address", "claim", "status", "words"),
    [
        ("other", "10.0.0.1", Claim(), 404, "no WorkloadGroup shop/other"),
        ("reviews", "vm.example", Claim(), 400, "is no IP"),
        ("reviews", "10.0.0.1", Claim(lease=1), 400, "lease"),
        ("reviews", "10.0.0.1", Claim(lease=float("nan")), 400, "lease"),
        ("reviews", "10.0.0.1", Claim(ports={"http": 70000}), 400, "ports.http"),
        ("reviews", "10.0.0.1", Claim(labels={"a b": "c"}), 400, "labels"),
        ("reviews", "10.0.0.1", Claim(locality="a//b"), 400, "locality"),
        ("reviews", "10.0.0.1", Claim(weight=-1), 400, "weight"),
    ],
)
def test_refusals(group, address, claim, status, words):
    desk = made()
    with pytest.raises(Refused, match=words) as refused:
        desk.register("shop", group, address, claim, 0.0)
    assert refused.value.status == status
    assert not desk.registered


def test_there_is_a_most(monkeypatch):
    monkeypatch.setattr(module, "MOST_IN_GROUP", 2)
    desk = made()
    for number in (1, 2):
        desk.register("shop", "reviews", f"10.0.0.{number}", Claim(), 0.0)
    with pytest.raises(Refused, match="most") as refused:
        desk.register("shop", "reviews", "10.0.0.3", Claim(), 0.0)
    assert refused.value.status == 429
    desk.register("shop", "reviews", "10.0.0.1", Claim(), 0.0)


def test_tokens_open_their_own_group_only():
    sums = [hashlib.sha256(each.encode()).hexdigest() for each in ("old", TOKEN)]
    desk = Desk()
    desk.agree([group_document(sums=sums), group_document("closed")])
    assert desk.admits("shop", "reviews", TOKEN)
    assert desk.admits("shop", "reviews", "old")
    assert not desk.admits("shop", "reviews", "other")
    assert not desk.admits("shop", "closed", TOKEN)
    assert not desk.admits("shop", "closed", "")
    assert not desk.admits("shop", "missing", TOKEN)


def test_a_group_that_goes_takes_its_documents_not_its_registrations():
    desk = made()
    key = desk.register("shop", "reviews", "10.0.0.7", Claim(), 0.0).key
    desk.agree([])
    assert desk.document(key) is None
    assert key in desk.registered


@given(
    st.dictionaries(st.text(max_size=8), st.integers(-10, 70000), max_size=3),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    st.text(max_size=8),
)
def test_what_is_taken_is_always_a_good_document(ports, labels, locality):
    desk = made()
    try:
        key = desk.register("shop", "reviews", "10.0.0.7", Claim(ports=ports, labels=labels, locality=locality), 0.0).key
    except Refused:
        return
    raw = desk.document(key)
    assert isinstance(raw, RawDocument)
    assert not judge(raw).errors
