"""Virtual addresses: who needs one, which it is, and that it stays."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Endpoint, Port, Protocol, Resolution, Service
from federation.vips import (
    LEAST_S,
    RESERVED_S,
    Ranges,
    Row,
    Table,
    home,
    needs_address,
    segment_of,
    segments,
    written_addresses,
)

HTTP = Port(80, "http", Protocol.HTTP)
REVIEWS = Service("reviews.shop.svc.cluster.local", "shop", (HTTP,))
NOW = 1_800_000_000
names = st.integers(0, 400).map(lambda number: f"s{number}.shop.svc.cluster.local")


def free(slot: int) -> bool:
    return False


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, True),
        ({"endpoints": (Endpoint("10.0.0.1"),)}, True),
        ({"addresses": ("10.96.0.7",)}, True),  # a ClusterIP leads past the gateway
        ({"hostname": "db.example.com", "addresses": ("10.9.0.7",)}, False),
        ({"hostname": "db.example.com"}, True),
        ({"hostname": "*.example.com"}, False),
        ({"headless": True}, False),
        ({"ports": ()}, False),
        ({"resolution": Resolution.NONE}, False),
        ({"resolution": Resolution.DYNAMIC_DNS}, False),
        ({"resolution": Resolution.DNS}, True),
        ({"labels": (("networking.istio.io/enable-autoallocate-ip", "false"),)}, False),
        ({"labels": (("networking.istio.io/enable-autoallocate-ip", "true"),)}, True),
    ],
)
def test_who_needs_one(changes: dict[str, object], needed: bool) -> None:
    assert needs_address(msgspec.structs.replace(REVIEWS, **changes)) is needed


def test_written_addresses_are_those_of_services_that_no_registry_runs() -> None:
    assert written_addresses(msgspec.structs.replace(REVIEWS, addresses=("10.96.0.7",))) == ()
    assert written_addresses(Service("db.example.com", addresses=("10.9.0.7",))) == ("10.9.0.7",)


def test_a_slot_is_one_address_of_each_family() -> None:
    ranges = Ranges.parse("240.240.0.0/16", "2001:2::/48")
    assert ranges.addresses(5) == ("240.240.0.5", "2001:2::5")
    assert Ranges.parse("240.240.0.0/16").addresses(256) == ("240.240.1.0",)
    assert (ranges.size, Ranges.parse("10.0.0.0/8", "fd00::/120").size) == (65536, 256)
    assert ranges.networks == ("240.240.0.0/16", "2001:2::/48")


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("240.240.0.9", range(9, 10)),
        ("240.241.0.9", range(0)),
        ("240.240.1.0/24", range(256, 512)),
        ("240.0.0.0/4", range(65536)),
        ("10.0.0.0/8", range(0)),
        ("2001:2::9", range(9, 10)),
        ("2001:0002:0:0:0:0:0:9", range(9, 10)),
        ("2001:2:0:1::9", range(0)),
        ("2001:db8::1", range(0)),
        ("/run/a.sock", range(0)),
        ("240.240.gone", range(0)),
        ("db.example.com", range(0)),
    ],
)
def test_what_lies_in_the_range(text: str, slots: range) -> None:
    found = Ranges.parse("240.240.0.0/16", "2001:2::/48").slots(text)
    assert (len(found), found[:1]) == (len(slots), slots[:1])


@given(
    st.ip_addresses(v=4),
    st.sampled_from(["240.240.0.0/16", "10.0.0.0/8", "127.26.16.0/20", "10.1.128.0/17", "0.0.0.0/0", "192.0.2.0/24"]),
)
def test_an_address_lies_in_the_range_as_its_numbers_say(address: ipaddress.IPv4Address, network: str) -> None:
    assert bool(Ranges.parse(network).slots(str(address))) is (address in ipaddress.ip_network(network))


@given(st.sets(names), st.randoms())
def test_the_order_in_which_names_come_does_not_matter(hosts: set[str], random: object) -> None:
    one, other = Table(1024), Table(1024)
    shuffled = sorted(hosts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one.claim(sorted(hosts), NOW, free)
    other.claim(shuffled, NOW + 9, free)
    assert {row.host: row.slot for row in one.rows.values()} == {row.host: row.slot for row in other.rows.values()}


@given(st.lists(st.sets(names, max_size=20), max_size=8))
def test_a_name_keeps_its_slot_and_no_two_share_one(rounds: list[set[str]]) -> None:
    table = Table(512)
    known: dict[str, int] = {}
    for number, hosts in enumerate(rounds):
        table.claim(hosts, NOW + number, free)
        assert {host: table.rows[host].slot for host in known} == known
        known |= {host: table.rows[host].slot for host in hosts}
        assert len({row.slot for row in table.rows.values()}) == len(table)
        assert all(0 < row.slot < 511 for row in table.rows.values())


def test_a_name_has_the_slot_of_its_hash_unless_somebody_is_there() -> None:
    table = Table(65536)
    assert table.place(REVIEWS.hostname, NOW, free) == home(REVIEWS.hostname, 65536) == 24765
    table.put(Row("first.example.com", 24765, NOW))
    assert table.place(REVIEWS.hostname, NOW, free) == 24766
    assert table.place(REVIEWS.hostname, NOW, lambda slot: slot == 24766) == 24767


def test_looking_goes_round() -> None:
    table = Table(8)
    hosts = [f"h{number}" for number in range(6)]
    assert len(table.claim(hosts, NOW, free)) == 6
    assert {row.slot for row in table.rows.values()} == {1, 2, 3, 4, 5, 6}
    assert table.claim(["one-more"], NOW, free) == []


def test_who_went_keeps_his_place_for_a_day_unless_there_is_no_other() -> None:
    table = Table(8, [Row(f"h{number}", number, NOW - 100 + number) for number in range(1, 7)])
    assert table.claim(["new"], NOW, free) == []
    assert table.claim(["new"], NOW + LEAST_S - 90, free)[0].slot == 1  # the one that was longest unwanted
    assert "h1" not in table.rows
    later = NOW + RESERVED_S
    table = Table(8, [Row("new-home", home("new", 8), NOW - 1)])
    assert table.place("new", NOW + LEAST_S * 2, free) != home("new", 8)
    assert table.place("new", later, free) == home("new", 8)
    assert [row.host for row in table.forget(later)] == ["new-home"]
    assert not table.rows


def test_rows_that_do_not_fit_are_passed_over() -> None:
    rows = [Row("a", 1, 0), Row("b", 1, 0), Row("a", 2, 0), Row("c", 0, 0), Row("d", 7, 0), Row("e", 900, 0), Row("f", 6, 0)]
    assert Table(8, rows).rows.keys() == {"a", "f"}


def test_putting_a_row_takes_the_place_of_others() -> None:
    table = Table(8, [Row("a", 1, 0), Row("b", 2, 0)])
    table.put(Row("a", 2, 5))
    assert table.rows == {"a": Row("a", 2, 5)}
    assert (table.holder(1), table.holder(2)) == (None, "a")
    table.drop("a")
    table.drop("a")
    assert len(table) == 0


@pytest.mark.parametrize(("size", "count"), [(256, 1), (4096, 1), (16384, 4), (65536, 8), (1 << 24, 8)])
def test_the_table_is_cut_into_segments(size: int, count: int) -> None:
    assert segments(size) == count
    assert [segment_of(0, size), segment_of(size - 1, size)] == [0, count - 1]
