"""One table of requests through fedgate and through a real Envoy that is configured for the same intent: equal answers, equal requests.

The table is in rows_*.py, by topic; what a row says is in support/differing.py. Both gateways are started once, with one virtual host
for every site of the table.
"""

from __future__ import annotations

import re

import pytest
import trio
from differing import LATER, Row, differences
from differing_world import HASHING, World, judge
from running_gateway import until
from table import PROXIED, PROXIED_SITES, ROWS, SITES, TOPICS

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.xdist_group("differential")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("differential"), SITES).running() as world:
        trio.run(hashed, world)
        yield world


async def hashed(world):
    """Maglev tables are made in slices: wait until this one is whole, which is when all these users go where Envoy sends them."""
    rows = [Row("hashed", "maglev-header", headers=(("x-user", str(n)),)) for n in range(20)]

    async def chosen():
        found = {address: [(await world.ask(row, address))[0].answers[0].body for row in rows] for address in world.addresses}
        return list(found.values())

    await until(chosen, lambda found: found[0] == found[1])


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """The same, with a trusted proxy before them."""
    with World(tmp_path_factory.mktemp("proxied"), PROXIED_SITES, proxies=1).running() as world:
        yield world


def test_the_table_is_whole():
    names = [row.name for row in (*ROWS, *PROXIED)]
    assert len(names) >= 300
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    assert len(SITES) == sum(len(topic.SITES) for topic in TOPICS), "a site is in two topics"
    assert {row.site for row in ROWS} <= SITES.keys()
    assert {row.needs for row in (*ROWS, *PROXIED)} - {""} == LATER.keys(), "take off what is there now"


async def test_fedgate_takes_every_document(world):
    rows = await world.fedgate.rows("config")
    bad = {row["name"]: (row["errors"], row["warnings"]) for row in rows if not row["good"]}
    later = {row.site for row in ROWS if row.needs in LATER} | (HASHING.keys() if "hashing" in LATER else set())
    assert bad.keys() - later - {"nowhere", "splits"} == set(), bad  # whose destination nobody knows: that is what it is about


def cases(rows):
    for row in rows:
        marks = [pytest.mark.skip(reason=f"not there yet: {row.needs}: {LATER[row.needs]}")] if row.needs in LATER else []
        yield pytest.param(row, id=row.name, marks=marks)


@pytest.mark.parametrize("row", list(cases(ROWS)))
async def test_row(world, row):
    await compare(world, row)


@pytest.mark.parametrize("row", list(cases(PROXIED)))
async def test_row_behind_a_proxy(proxied, row):
    await compare(proxied, row)


async def compare(world, row):
    envoy, fedgate, (outcome, seen), (ours, _) = await world.compare(row)
    status = tuple(answer.status for answer in outcome.answers)
    expected = row.status if isinstance(row.status, tuple) else (row.status,) * (row.times if row.times > 1 else 1)
    assert row.status is None or status == expected, f"Envoy's own answer is not what the row says: {outcome}"
    if row.served is not None:
        assert tuple(one.name for one in seen) == row.served, f"Envoy went elsewhere: {seen}"
    wrong = judge(row, envoy, fedgate)
    assert not wrong, f"\n{wrong}\n\n{outcome}\n{ours}"
    for each in (outcome, ours):
        assert row.took[0] <= each.took <= row.took[1], each.took


@pytest.mark.parametrize(("path", "shares"), [("/even", {"v1": 50, "v2": 50}), ("/three", {"v1": 10, "v2": 30, "v3": 60})])
async def test_splits(world, path, shares):
    """600 requests to each: every share within 7 points, which is 3.5 standard deviations of the widest."""
    row = Row("split", "splits", path, times=600)
    for address in world.addresses:
        outcome, _ = await world.ask(row, address)
        found = [answer.body.decode() for answer in outcome.answers]
        assert len(found) == 600
        for name, share in shares.items():
            assert abs(found.count(name) / 6 - share) <= 7, (address, name, found.count(name))


async def test_a_cookie_that_is_made_leads_to_the_same_endpoint_again(world):
    """Its value is the gateway's own; its attributes are Envoy's, and either gateway takes the other's value to the same endpoint."""
    made = {}
    for address in world.addresses:
        outcome, _ = await world.ask(Row("first", "ring-session"), address)
        (answer,) = outcome.answers
        (cookie,) = answer.values("set-cookie")
        made[address] = cookie.partition(";")[0], answer.body
        ours = re.sub(r'="?[^";]*"?', "=VALUE", cookie, count=1)
        made.setdefault("attributes", ours)
        assert ours == made["attributes"]
    for cookie, body in (made[address] for address in world.addresses):
        for address in world.addresses:
            outcome, _ = await world.ask(Row("again", "ring-session", headers=(("Cookie", cookie),)), address)
            assert outcome.answers[0].body == body, (cookie, address)
            assert not outcome.answers[0].values("set-cookie")


async def test_rings_use_every_endpoint(world):
    """So that equal choices are no accident of one."""
    for site in ("ring-header", "maglev-header"):
        found = set()
        for n in range(60):
            outcome, _ = await world.ask(Row("spread", site, headers=(("x-user", f"u{n}"),)), world.addresses[1])
            found.add(outcome.answers[0].body)
        assert len(found) == 5


def test_nothing_crashed(world):
    """After all of that."""
    said = [line for line in world.fedgate.text().splitlines() if "crashed" in line or '"exception"' in line]
    assert not said, said[:3]
    assert world.fedgate.process.poll() is None
    assert world.envoy.process.poll() is None


def test_differences_have_reasons():
    for row in (*ROWS, *PROXIED):
        assert all(reason.strip() for reason in row.differs.values()), row


def test_a_difference_that_is_not_listed_is_found():
    """And one that is listed and is none any more."""
    assert differences({"status": [200], "x": [1]}, {"status": [404], "x": [1]}) == {"status": ([200], [404])}
    assert "status" in judge(Row("a"), {"status": [200]}, {"status": [404]})
    assert not judge(Row("a", differs={"status": "why"}), {"status": [200]}, {"status": [404]})
    assert "take it out" in judge(Row("a", differs={"status": "why"}), {"status": [200]}, {"status": [200]})
