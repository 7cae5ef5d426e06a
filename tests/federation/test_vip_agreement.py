"""Agreeing on virtual addresses, segment by segment, as a dialogue with what a store has."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from federation.store import ABSENT, Stored
from federation.vip_agreement import Agreement
from federation.vips import Row, Table, home

SIZE = 256
NOW = 1_800_000_000


def agreement(*wanted: str, rows: tuple[Row, ...] = (), size: int = SIZE, taken: frozenset[int] = frozenset()) -> Agreement:
    return Agreement(Table(size, rows), set(wanted), lambda slot: slot in taken)


def stored(index: int, *rows: Row) -> Stored:
    return Stored(msgspec.json.encode(list(rows)), index)


def said(of: Agreement, number: int = 0) -> list[Row]:
    return msgspec.json.decode(of.encoded(number), type=list[Row])


def test_a_proposal_is_nobodys_address_until_it_was_read_back() -> None:
    of = agreement("a")
    assert of.load(0, ABSENT) == set()
    assert of.propose(NOW) == set()
    assert of.proposed == {"a"}
    assert of.unwritten() == [0]
    written = said(of)
    assert written == [Row("a", home("a", SIZE), NOW)]
    assert of.load(0, stored(3, *written)) == {"a"}
    assert (of.proposed, of.unwritten(), of.index(0)) == (set(), [], 3)


def test_who_was_faster_has_the_slot() -> None:
    of = agreement("a")
    of.load(0, ABSENT)
    of.propose(NOW)
    slot = home("a", SIZE)
    assert of.load(0, stored(4, Row("other", slot, NOW))) == {"a", "other"}
    assert "a" not in of.table.rows
    of.propose(NOW)
    assert of.table.rows["a"].slot == slot + 1
    assert said(of) == [Row("other", slot, NOW), Row("a", slot + 1, NOW)]


def test_whoever_proposed_the_same_name_first_decides_where() -> None:
    of = agreement("a")
    of.load(0, ABSENT)
    of.propose(NOW)
    assert of.load(0, stored(4, Row("a", 9, NOW))) == {"a"}
    assert of.table.rows["a"].slot == 9
    assert (of.proposed, of.unwritten()) == (set(), [])


def test_what_was_kept_is_offered_to_an_empty_store_if_it_is_wanted() -> None:
    of = agreement("kept", rows=(Row("kept", 7, NOW), Row("gone", 8, NOW)))
    assert of.load(0, ABSENT) == {"gone"}
    assert of.table.rows.keys() == {"kept"}
    assert (of.proposed, of.unwritten()) == (set(), [0])
    assert said(of) == [Row("kept", 7, NOW)]


def test_what_was_kept_gives_way_to_the_store() -> None:
    of = agreement("kept", rows=(Row("kept", 7, NOW),))
    assert of.load(0, stored(1, Row("other", 7, NOW))) == {"kept", "other"}
    assert of.table.rows.keys() == {"other"}
    of = agreement("kept", rows=(Row("kept", 7, NOW),))
    assert of.load(0, stored(1, Row("kept", 8, NOW))) == {"kept"}
    assert of.table.rows["kept"].slot == 8


def test_the_newer_of_two_times_stays() -> None:
    of = agreement("a", rows=(Row("a", 7, NOW),))
    assert of.load(0, stored(1, Row("a", 7, NOW - 5))) == set()
    assert (of.table.rows["a"].seen, of.unwritten()) == (NOW, [0])
    of.load(0, stored(2, Row("a", 7, NOW + 5)))
    assert (of.table.rows["a"].seen, of.unwritten()) == (NOW + 5, [])


def test_addresses_of_others_are_taken_out_of_the_store() -> None:
    of = agreement("a", taken=frozenset({7}))
    of.load(0, stored(1, Row("a", 7, NOW)))
    assert not of.table.rows
    assert of.unwritten() == [0]
    of.propose(NOW)
    assert 7 not in {row.slot for row in said(of)}


def test_what_cannot_be_read_is_written_anew() -> None:
    of = agreement("a")
    for value in (b"no json", b'{"a": 1}', b'[["a", 0, 0]]', b'[["a", 999, 0]]'):
        assert of.load(0, Stored(value, 5)) == set()
        assert not of.table.rows
    of.propose(NOW)
    assert [row.host for row in said(of)] == ["a"]


def test_a_name_in_two_segments_has_the_lower_slot() -> None:
    size = 65536
    of = agreement("a", size=size)
    assert of.segments == 8
    of.load(0, stored(1, Row("a", 5, NOW)))
    of.load(7, stored(1, Row("a", 65000, NOW)))
    assert of.table.rows["a"].slot == 5
    assert of.unwritten() == [7]
    of = agreement("a", size=size)
    of.load(7, stored(1, Row("a", 65000, NOW)))
    of.load(0, stored(1, Row("a", 5, NOW)))
    assert of.table.rows["a"].slot == 5
    assert of.unwritten() == [7]


def test_no_room_is_said_once() -> None:
    of = Agreement(Table(4, [Row("x", 1, NOW), Row("y", 2, NOW)]), {"a"}, lambda slot: False)
    assert of.propose(NOW) == {"a"}
    assert of.propose(NOW) == set()
    assert of.crowded == {"a"}
    of.table.drop("x")
    assert of.propose(NOW) == {"a"}
    assert of.crowded == set()


def test_proposals_are_withdrawn_when_nobody_knows_what_became_of_them() -> None:
    of = agreement("a", "b", rows=(Row("b", 9, NOW),))
    of.load(0, stored(1, Row("b", 9, NOW)))
    of.propose(NOW)
    of.withdraw()
    assert of.table.rows.keys() == {"b"}
    assert not of.proposed


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=40))
def test_gateways_that_write_in_turns_end_with_one_table(wants: list[tuple[int, int]]) -> None:
    """Each step one gateway learns of one service and writes by what it read last, as check-and-set lets it."""
    value = ABSENT
    gateways = [agreement() for _ in range(3)]
    wanted: list[set[str]] = [of._wanted for of in gateways]  # type: ignore[misc]  # the sets given above
    for which, number in wants:
        of = gateways[which]
        wanted[which].add(f"s{number}")
        of.propose(NOW)
        if of.unwritten() and of.index(0) == value.index:
            value = Stored(of.encoded(0), value.index + 1)
        of.load(0, value)
    for _ in range(4):
        for of in gateways:
            of.load(0, value)
            of.propose(NOW)
            if of.unwritten():
                value = Stored(of.encoded(0), value.index + 1)
            of.load(0, value)
    tables = [{host: row.slot for host, row in of.table.rows.items()} for of in gateways]
    assert tables[0] == tables[1] == tables[2]
    assert set(tables[0]) == set().union(*wanted)
    assert len(set(tables[0].values())) == len(tables[0])
    assert not any(of.proposed for of in gateways)
