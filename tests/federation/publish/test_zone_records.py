"""Records wished for, and what is written so that they stand."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.publish.publication import Publication
from federation.publish.zone_records import RecordSet, ZoneOptions, ZonePlanner, wished

OPTIONS = ZoneOptions("fed.example.com", owner="east")
WEB = "web.shop.fed.example.com."


def publication(service="web", namespace="shop", *, addresses=("240.240.0.1",), **more):
    hostname = f"{service}.{namespace}.svc.cluster.local"
    return Publication(hostname, service, namespace, addresses=tuple(addresses), **{"healthy": 1, "total": 1, **more})


def wishes(*publications, options=OPTIONS):
    return wished({each.hostname: each for each in publications}, options)[0]


def standing(name=WEB, kind="A", records=("240.240.0.1",), *, owner="east", ttl=30, description=None):
    mark = msgspec.structs.replace(OPTIONS, owner=owner).description if description is None else description
    return RecordSet(f"{name}/{kind}", name, kind, tuple(records), ttl, mark)


def keyed(*sets):
    return {each.key: each for each in sets}


def test_a_service_has_its_addresses_by_family_and_says_how_ready_it_is():
    assert wishes(publication(addresses=("240.240.0.2", "2001:2:0:0::1", "240.240.0.1", "gw.example.com"))) == {
        (WEB, "A"): ("240.240.0.1", "240.240.0.2"),
        (WEB, "AAAA"): ("2001:2::1",),
        (f"_fedgate.{WEB}", "TXT"): ('"ready=yes"',),
    }


@pytest.mark.parametrize(("healthy", "total", "word"), [(0, 3, "no"), (0, 0, "no"), (1, 3, "partly"), (3, 3, "yes")])
def test_readiness_is_one_of_three_words_and_addresses_stand_whatever_it_is(healthy, total, word):
    found = wishes(publication(healthy=healthy, total=total))
    assert found[f"_fedgate.{WEB}", "TXT"] == (f'"ready={word}"',)
    assert found[WEB, "A"] == ("240.240.0.1",)


def test_what_has_no_place_in_the_zone_is_not_written():
    back = Publication("web.shop.fed.example.com", "web", "shop", addresses=("240.240.0.1",))
    assert not wishes(back)
    assert not wishes(publication("*.wild"))
    assert not wishes(publication("no_name"))
    assert not wishes(publication("a" * 63, ".".join(["b" * 60] * 3)))
    options = msgspec.structs.replace(OPTIONS, except_sources=frozenset({"zone-reader"}))
    assert not wishes(publication(sources=frozenset({"zone-reader", "k8s"})), options=options)
    assert wishes(publication(sources=frozenset({"k8s"})), options=options)


def test_of_two_services_with_one_name_there_the_first_has_it():
    other = msgspec.structs.replace(publication(addresses=("240.240.0.9",)), hostname="web.shop.svc.other")
    found, clashes = wished({each.hostname: each for each in (other, publication())}, OPTIONS)
    assert found[WEB, "A"] == ("240.240.0.1",)
    assert clashes == {"web.shop.svc.other"}


def test_a_prefix_and_the_most_records_of_a_set():
    many = publication(addresses=[f"10.0.0.{number}" for number in range(1, 60)])
    found = wishes(many, options=msgspec.structs.replace(OPTIONS, prefix="fed-"))
    assert len(found[f"fed-{WEB}", "A"]) == 20


def test_only_what_differs_is_written():
    planner = ZonePlanner(OPTIONS)
    wish = {(WEB, "A"): ("240.240.0.1",), (WEB, "AAAA"): ("2001:2::1",), ("new.fed.example.com.", "A"): ("240.240.0.3",)}
    there = keyed(
        standing(), standing(kind="AAAA", records=("2001:2::9",)), standing("old.fed.example.com."), standing("ns.", owner="west")
    )
    plan = planner.plan(wish, there)
    assert [(found.key, records) for found, records in plan.update] == [((WEB, "AAAA"), ("2001:2::1",))]
    assert [found.name for found in plan.delete] == ["old.fed.example.com."]
    assert plan.create == ((("new.fed.example.com.", "A"), ("240.240.0.3",)),)
    assert not plan.conflicts


@pytest.mark.parametrize("description", ["", "written by hand", "fedgate owner=west; x", "fedgate owner=eastern; x"])
def test_somebody_else_s_record_is_a_conflict_and_never_touched(description):
    planner = ZonePlanner(OPTIONS)
    plan = planner.plan({(WEB, "A"): ("240.240.0.1",)}, keyed(standing(records=("9.9.9.9",), description=description)))
    assert plan.size == 0
    assert plan.conflicts == {WEB}
    assert planner.plan({}, keyed(standing(description=description))).size == 0


def test_an_alias_of_somebody_else_is_a_conflict_too():
    plan = ZonePlanner(OPTIONS).plan({(WEB, "A"): ("240.240.0.1",)}, keyed(standing(kind="CNAME", description="")))
    assert (plan.size, plan.conflicts) == (0, {WEB})


@pytest.mark.parametrize("undone", [keyed(standing(records=("9.9.9.9",))), {}], ids=["changed", "deleted"])
def test_who_undoes_our_record_three_times_has_it(undone):
    planner = ZonePlanner(OPTIONS)
    wish = {(WEB, "A"): ("240.240.0.1",)}
    for _ in range(3):
        assert planner.plan(wish, undone).size == 1
        planner.wrote((WEB, "A"), ("240.240.0.1",))
        planner.listed(undone)
    plan = planner.plan(wish, undone)
    assert (plan.size, plan.conflicts) == (0, {WEB})


def test_an_equal_gateway_that_leaves_now_and_then_is_nobody_who_fights_us():
    planner = ZonePlanner(OPTIONS)
    key, records = (WEB, "A"), ("240.240.0.1",)
    there = keyed(standing(records=records))
    for _ in range(6):
        assert planner.plan({key: records}, {}).size == 1
        planner.wrote(key, records)
        planner.listed(there)
        planner.listed({})  # it took the record along, as all gateways of a cluster have one mark


ADDRESSES = st.lists(st.sampled_from(["240.240.0.1", "240.240.0.2", "2001:2::1"]), max_size=3, unique=True)


@given(
    st.dictionaries(st.sampled_from("abc"), ADDRESSES, max_size=3),
    st.dictionaries(st.sampled_from("abcd"), st.tuples(ADDRESSES, st.sampled_from(["east", "west"])), max_size=4),
)
def test_a_plan_carried_out_leaves_nothing_to_do_and_nobody_else_s_record_changed(wanted, there):
    wish = wishes(*(publication(name, addresses=addresses) for name, addresses in wanted.items()))
    zone = keyed(
        *(standing(f"{name}.shop.fed.example.com.", "A", records, owner=owner) for name, (records, owner) in there.items())
    )
    planner = ZonePlanner(OPTIONS)
    plan = planner.plan(wish, zone)
    after = dict(zone)
    for found, records in plan.update:
        after[found.key] = msgspec.structs.replace(found, records=records, ttl=30)
    for found in plan.delete:
        del after[found.key]
    for (name, kind), records in plan.create:
        after[name, kind] = standing(name, kind, records)
    assert planner.plan(wish, after).size == 0
    theirs = [found for found in zone.values() if not planner.ours(found)]
    assert all(after[found.key] is found for found in theirs)
    ours = {key: set(found.records) for key, found in after.items() if planner.ours(found)}
    assert ours == {key: set(records) for key, records in wish.items() if key[0] not in plan.conflicts}
