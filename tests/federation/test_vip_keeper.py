"""Virtual addresses as they are claimed, kept, agreed on and lost sight of."""

from __future__ import annotations

import json

import msgspec
import pytest
import trio
from memory_store import MemoryStore
from trio.testing import wait_all_tasks_blocked

from discovery.model import Endpoint, Port, Protocol, Service
from federation.vip_file import FILE
from federation.vip_keeper import REFRESH_S, VipKeeper
from federation.vips import RESERVED_S, Ranges, home

RANGES = Ranges.parse("240.240.0.0/16", "2001:2::/48")
SMALL = Ranges.parse("192.0.2.0/24")
HTTP = Port(80, "http", Protocol.HTTP)


def services(*names, **changes):
    made = (Service(f"{name}.shop.svc.cluster.local", "shop", (HTTP,)) for name in names)
    return {each.hostname: msgspec.structs.replace(each, **changes) for each in made}


def host(name):
    return f"{name}.shop.svc.cluster.local"


def slot(keeper, name):
    return next(iter(keeper.ranges.slots(keeper.assigned.value.addresses[host(name)][0])))


class Here:
    """All of these are this machine's own."""

    def __init__(self, *local):
        self.local = set(local)

    def claim(self, network, *, add_route):
        if add_route:
            self.local.add(network)
        return network in self.local

    def has(self, address):
        return address in self.local


def test_a_service_has_an_address_at_once_and_who_asks_is_told_what_changed():
    keeper = VipKeeper(RANGES)
    known = services("a", "b")
    assert keeper.want(known, known) == known.keys()
    a = keeper.assigned.value.addresses[host("a")]
    assert a == RANGES.addresses(home(host("a"), 65536))
    assert keeper.want(known, known) == set()
    before = keeper.assigned.value
    assert keeper.want(known, [host("a")]) == set()
    assert keeper.assigned.value is before
    assert keeper.want({}, [host("a")]) == {host("a")}
    assert keeper.assigned.value.addresses.keys() == {host("b")}
    keeper.want(known, known)
    assert keeper.assigned.value.addresses[host("a")] == a


def test_who_needs_none_has_none():
    keeper = VipKeeper(RANGES)
    known = services("a")
    keeper.want(known, known)
    headless = services("a", headless=True)
    assert keeper.want(headless, headless) == {host("a")}
    assert not keeper.assigned.value.addresses
    assert not keeper.assigned.value.lacking


def test_two_gateways_without_a_word_find_the_same_whatever_comes_first():
    one, other = VipKeeper(RANGES), VipKeeper(RANGES)
    names = [f"s{number}" for number in range(300)]
    known = services(*names)
    one.want(known, known)
    for part in (names[200:], names[:100], names[100:200]):
        other.want(services(*part), services(*part))
    mine, others = one.assigned.value.addresses, other.assigned.value.addresses
    homes = [home(each, 65536) for each in known]
    alone = [each for each in known if homes.count(home(each, 65536)) == 1]
    assert len(alone) > 290
    assert [mine[each] for each in alone] == [others[each] for each in alone]


def test_an_address_that_somebody_brings_is_his():
    keeper = VipKeeper(SMALL)
    known = services("a")
    keeper.want(known, known)
    (address,) = keeper.assigned.value.addresses[host("a")]
    mine = {"db.example.com": Service("db.example.com", ports=(HTTP,), addresses=(address,))}
    assert keeper.want(known | mine, mine) == {host("a")}
    assert keeper.assigned.value.addresses[host("a")] != (address,)
    assert "db.example.com" not in keeper.assigned.value.addresses
    moved = keeper.assigned.value.addresses[host("a")]
    keeper.want(known, mine)
    assert keeper.assigned.value.addresses[host("a")] == moved  # it stays where it is


def test_endpoints_and_the_nodes_own_addresses_in_the_range_are_given_to_nobody():
    keeper = VipKeeper(SMALL)
    other = services("z", headless=True, endpoints=tuple(Endpoint(f"192.0.2.{number}") for number in range(1, 128)))
    keeper.configure(SMALL, ["192.0.2.200"])
    every = {f"192.0.2.{number}" for number in range(128, 255)} - {"192.0.2.200"}
    known = services(*(f"s{number}" for number in range(126))) | other
    keeper.want(known, known)
    assert {address for (address,) in keeper.assigned.value.addresses.values()} == every


def test_a_block_in_the_range_is_given_to_nobody():
    keeper = VipKeeper(SMALL)
    block = {"net.example.com": Service("net.example.com", ports=(HTTP,), addresses=("192.0.2.0/25",))}
    known = services(*(f"s{number}" for number in range(130))) | block
    keeper.want(known, known)
    assert len(keeper.assigned.value.addresses) == 127
    assert all(int(address.rpartition(".")[2]) > 127 for (address,) in keeper.assigned.value.addresses.values())


def test_a_range_that_is_used_up_is_said():
    keeper = VipKeeper(SMALL)
    known = services(*(f"s{number}" for number in range(260)))
    assert len(keeper.want(known, known)) == 260
    assert len(keeper.assigned.value.addresses) == 254
    lacking = keeper.assigned.value.lacking
    assert len(lacking) == 6
    assert set(lacking.values()) == {
        "the range 192.0.2.0/24 is used up: all of its 254 addresses are given away, or kept for services that went within the last "
        "hour; write a larger vips.range in the Node"
    }


def test_another_range_gives_everybody_another_address():
    keeper = VipKeeper(SMALL)
    known = services("a")
    keeper.want(known, known)
    keeper.configure(SMALL)
    assert keeper.want(known, ()) == set()
    keeper.configure(RANGES)
    assert keeper.want(known, ()) == {host("a")}
    assert keeper.assigned.value.addresses[host("a")] == RANGES.addresses(home(host("a"), 65536))


def test_where_it_is_worth_listening_is_known():
    mine = Service("db.example.com", ports=(HTTP,), addresses=("10.9.0.7", "10.9.1.0/24", "10.9.2.0"))
    keeper = VipKeeper(RANGES, reach=Here("240.240.0.0/16", "10.9.0.7", "10.9.1.0"))
    keeper.want({mine.hostname: mine}, [mine.hostname])
    assert keeper.assigned.value.local == {"240.240.0.0/16", "10.9.0.7", "10.9.1.0/24"}
    assert VipKeeper(RANGES).assigned.value.local == set()


def test_a_route_that_is_asked_for_later_is_added_then_and_stays():
    here = Here()
    keeper = VipKeeper(RANGES, reach=here)
    known = services("a")
    keeper.want(known, known)
    assert keeper.assigned.value.local == set()
    keeper.configure(RANGES, add_route=True)
    assert keeper.assigned.value.local == set(RANGES.networks)
    keeper.configure(RANGES)
    assert keeper.assigned.value.local == set(RANGES.networks)
    assert VipKeeper(RANGES, reach=Here(), add_route=True).want(known, known) == known.keys()


# ---------------------------------------------------------------------------------------------------------------- kept


async def test_what_was_assigned_outlives_the_process(tmp_path, nursery, autojump_clock):
    keeper = VipKeeper(SMALL, tmp_path / "state")
    await nursery.start(keeper.run)
    known = services(*(f"s{number}" for number in range(100)))
    for each in reversed(known):  # one by one, so that who comes later has to go elsewhere
        keeper.want(known, [each])
    await keeper.saved.newer_than(0)
    stored = json.loads((tmp_path / "state" / FILE).read_bytes())
    assert len(stored["rows"]) == 100
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600
    again = VipKeeper(SMALL, tmp_path / "state")
    again.want(known, known)
    assert again.assigned.value.addresses == keeper.assigned.value.addresses
    fresh = VipKeeper(SMALL)
    fresh.want(known, known)
    assert fresh.assigned.value.addresses != keeper.assigned.value.addresses


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"range": 1}', b'{"range": "10.0.0.0/8", "rows": [["a.shop.svc.cluster.local", 7, 0]]}']
)
def test_a_file_that_cannot_be_used_is_passed_over(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    keeper = VipKeeper(SMALL, tmp_path)
    known = services("a")
    keeper.want(known, known)
    assert slot(keeper, "a") == home(host("a"), 256)


async def test_a_directory_that_cannot_be_written_to_is_tried_again(tmp_path, nursery, autojump_clock):
    (tmp_path / "state").write_text("a file")
    keeper = VipKeeper(SMALL, tmp_path / "state")
    await nursery.start(keeper.run)
    keeper.want(services("a"), services("a"))
    await wait_all_tasks_blocked(0.1)
    (tmp_path / "state").unlink()
    await keeper.saved.newer_than(0)
    assert (tmp_path / "state" / FILE).exists()


async def kept(keeper, path, good, clock=None):
    """The file's rows, name → seen, once they are good. clock: is moved on as often as needed, and only when the file has been written: a
    clock that jumps by itself does so while a thread writes."""
    while True:
        seen = keeper.saved.version
        rows = {name: when for name, _, when in json.loads((path / FILE).read_bytes())["rows"]} if seen else {}
        if good(rows):
            return rows
        if clock is not None:
            clock.jump(2 * REFRESH_S)
        await keeper.saved.newer_than(seen)


async def test_who_is_in_use_stays_and_who_went_is_forgotten_after_a_day(tmp_path, nursery, mock_clock):
    start, began = 1_800_000_000, trio.current_time()
    keeper = VipKeeper(SMALL, tmp_path, clock=lambda: start + trio.current_time() - began)
    await nursery.start(keeper.run)
    both = services("a", "b")
    keeper.want(both, both)
    keeper.want(services("a"), [host("b")])
    rows = await kept(keeper, tmp_path, lambda rows: rows.get(host("a"), 0) > start + 7200, mock_clock)
    assert rows[host("b")] == start
    rows = await kept(keeper, tmp_path, lambda rows: host("b") not in rows, mock_clock)
    assert rows[host("a")] > start + RESERVED_S - 2 * REFRESH_S


async def test_a_gateway_that_was_down_for_days_gives_nobodys_address_away(tmp_path, nursery, autojump_clock):
    names = (f"s{number}" for number in range(10_000))
    slots = {}
    late, early = next((slots[at], name) for name in names if slots.setdefault(at := home(host(name), 256), name) != name)
    keeper = VipKeeper(SMALL, tmp_path, clock=lambda: 1_800_000_000)
    await nursery.start(keeper.run)
    keeper.want(services(late), services(late))
    before = keeper.assigned.value.addresses[host(late)]
    await keeper.saved.newer_than(0)
    for together in (True, False):
        again = VipKeeper(SMALL, tmp_path, clock=lambda: 1_800_000_000 + 3 * RESERVED_S)
        await nursery.start(again.run)
        both = services(early, late)
        again.want(both, both if together else [host(early)])
        again.want(both, both)
        assert again.assigned.value.addresses[host(late)] == before
        assert again.assigned.value.addresses[host(early)] != before


# -------------------------------------------------------------------------------------------------------------- shared


async def settled():
    for _ in range(3):
        await wait_all_tasks_blocked()


async def test_two_gateways_that_share_a_store_agree_on_names_that_meet(nursery, autojump_clock):
    store = MemoryStore()
    one, other = VipKeeper(SMALL, store=store), VipKeeper(SMALL, store=store)
    await nursery.start(one.run)
    await nursery.start(other.run)
    names = [f"s{number}" for number in range(200)]
    for number in range(0, 200, 10):
        part, opposite = services(*names[number : number + 10]), services(*names[190 - number : 200 - number])
        one.want(part, part)
        other.want(opposite, opposite)
        await settled()
    assert len(one.assigned.value.addresses) == 200
    assert one.assigned.value.addresses == other.assigned.value.addresses
    assert len(set(one.assigned.value.addresses.values())) == 200
    writes = store.writes
    await trio.sleep(500)
    assert store.writes == writes  # nothing changed, nothing is written


async def test_a_new_name_has_no_address_before_it_is_agreed_and_then_is_told(nursery, autojump_clock):
    keeper = VipKeeper(SMALL, store=MemoryStore())
    known = services("a")
    assert keeper.want(known, known) == {host("a")}  # it lacks one, and why
    assert keeper.assigned.value.lacking == {host("a"): "the gateways of this cluster have not agreed on its address yet"}
    version = keeper.assigned.version
    await nursery.start(keeper.run)
    await keeper.assigned.newer_than(version)
    assert keeper.want(known, ()) == {host("a")}
    assert slot(keeper, "a") == home(host("a"), 256)
    assert not keeper.assigned.value.lacking


async def test_while_the_store_is_lost_what_is_known_stands(tmp_path, nursery, autojump_clock):
    store = MemoryStore()
    keeper = VipKeeper(SMALL, tmp_path, store=store)
    await nursery.start(keeper.run)
    keeper.want(services("a"), services("a"))
    await settled()
    a = keeper.assigned.value.addresses
    await kept(keeper, tmp_path, lambda rows: host("a") in rows)
    store.lose()
    await settled()
    known = services("a", "b")
    keeper.want(known, [host("b")])
    await settled()
    assert keeper.assigned.value.addresses == a
    assert "the shared store is lost: the store is gone" in keeper.assigned.value.lacking[host("b")]
    after = VipKeeper(SMALL, tmp_path, store=store)  # a restart meanwhile
    await nursery.start(after.run)
    after.want(known, known)
    await settled()
    assert after.assigned.value.addresses == a
    store.find()
    await trio.sleep(60)
    assert keeper.assigned.value.addresses.keys() == {host("a"), host("b")}
    assert keeper.assigned.value == after.assigned.value
    assert keeper.fault == ""


async def test_a_store_that_forgot_everything_is_told_again(nursery, autojump_clock):
    store = MemoryStore()
    keeper = VipKeeper(SMALL, store=store)
    await nursery.start(keeper.run)
    known = services("a", "b")
    keeper.want(known, known)
    await settled()
    before = keeper.assigned.value.addresses
    store.lose()
    await settled()
    store.values.clear()
    store.find()
    await trio.sleep(60)
    assert keeper.assigned.value.addresses == before
    (value,) = store.values.values()
    assert {row[0] for row in json.loads(value.value)} == known.keys()


async def test_another_range_is_agreed_on_by_itself(nursery, autojump_clock):
    store = MemoryStore()
    keeper = VipKeeper(SMALL, store=store, prefix="vips/east")
    await nursery.start(keeper.run)
    known = services("a")
    keeper.want(known, known)
    await settled()
    keeper.configure(RANGES)
    keeper.want(known, ())
    await settled()
    assert keeper.assigned.value.addresses[host("a")] == RANGES.addresses(home(host("a"), 65536))
    assert {key.rpartition("/")[0] for key in store.values} == {
        "vips/east/192.0.2.0-24",
        "vips/east/240.240.0.0-16+2001.2..-48",
    }
