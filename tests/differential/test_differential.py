"""One table of requests through fedgate and through a real Envoy that is configured for the same intent: equal answers, equal requests.

The table is in rows_*.py, by topic; what a row says is in support/differing.py. Both gateways are started once, with one virtual host
for every site of the table.
"""

from __future__ import annotations

import pytest
import rows_frames
import rows_headers
import rows_malformed
import rows_protocol
import rows_redirects
import rows_resilience
import rows_rewriting
import rows_routing
from differing import LATER, told
from differing_world import HASHING, World, judge

TOPICS = (rows_routing, rows_rewriting, rows_redirects, rows_headers, rows_resilience, rows_protocol, rows_malformed, rows_frames)
ROWS = [row for topic in TOPICS for row in topic.ROWS]
SITES = {name: site for topic in TOPICS for name, site in topic.SITES.items()}

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.xdist_group("differential")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("differential"), SITES).running() as world:
        yield world


def test_the_table_is_whole():
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    assert len(SITES) == sum(len(topic.SITES) for topic in TOPICS), "a site is in two topics"
    assert {row.site for row in ROWS} <= SITES.keys()


async def test_fedgate_takes_every_document(world):
    rows = await world.fedgate.rows("config")
    bad = {row["name"]: (row["errors"], row["warnings"]) for row in rows if not row["good"]}
    later = {row.site for row in ROWS if row.needs in LATER} | (HASHING.keys() if "hashing" in LATER else set())
    assert bad.keys() - later - {"nowhere"} == set(), bad  # whose destination nobody knows: that is what it is about


def cases():
    for row in ROWS:
        marks = [pytest.mark.skip(reason=f"not there yet: {row.needs}: {LATER[row.needs]}")] if row.needs in LATER else []
        yield pytest.param(row, id=row.name, marks=marks)


@pytest.mark.parametrize("row", list(cases()))
async def test_row(world, row):
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


def test_nothing_crashed(world):
    """After all of that."""
    said = [line for line in world.fedgate.text().splitlines() if "crashed" in line or '"exception"' in line]
    assert not said, said[:3]
    assert world.fedgate.process.poll() is None
    assert world.envoy.process.poll() is None


def test_differences_have_reasons():
    for row in ROWS:
        assert all(reason.strip() for reason in row.differs.values()), row
    assert told({"x": (1, 2)}).strip()
