"""The gateway's own certificate over time, on a clock that jumps."""

from datetime import UTC, datetime, timedelta

import pytest
import trio

from federation.trust.authority import init
from federation.trust.certificate import read_certificates
from federation.trust.keeper import Keeper
from federation.trust.operations import issue

START = datetime(2026, 3, 1, tzinfo=UTC)
GATEWAY = "spiffe://td/ns/fedgate/sa/gateway"


@pytest.fixture
def keep(tmp_path, nursery):
    async def begin(**options):
        start = trio.current_time()
        keeper = Keeper(tmp_path, "td", wall=lambda: START + timedelta(seconds=trio.current_time() - start), **options)
        await nursery.start(keeper.run)
        return keeper

    return begin


def write_identity(tmp_path, authority_of, **options):
    issue(authority_of, GATEWAY, out=tmp_path, overwrite=True, **options)


async def test_first_start_makes_a_ca_and_a_leaf(autojump_clock, tmp_path, keep):
    keeper = await keep(cluster="east", dns_names=["gw.example.com"])
    assert keeper.credential.value.identity == GATEWAY
    assert keeper.bundle.value == (tmp_path / "ca" / "root.pem").read_text()
    assert keeper.problem.value == ""


async def test_next_start_uses_the_same_ca(autojump_clock, tmp_path, keep):
    first = await keep()
    second = await keep()
    assert first.bundle.value == second.bundle.value
    assert first.credential.value.chain != second.credential.value.chain


@pytest.mark.parametrize(("rng", "hours"), [(0.0, 24 * 0.49), (0.5, 12.0), (0.999999, 24 * 0.51)])
async def test_reissues_at_half_life(autojump_clock, keep, rng, hours):
    keeper = await keep(rng=lambda: rng)
    version, began = keeper.credential.version, trio.current_time()
    _, second = await keeper.credential.newer_than(version)
    assert trio.current_time() - began == pytest.approx(hours * 3600, abs=60)
    assert second.not_after > START + timedelta(hours=24)


async def test_the_intermediate_is_renewed_while_the_roots_key_is_there(autojump_clock, tmp_path, keep):
    init(tmp_path / "ca", "td", now=START - timedelta(days=600))
    keeper = await keep()
    [_, intermediate] = read_certificates(keeper.credential.value.chain, "chain")
    assert intermediate.not_valid_after_utc == START + timedelta(days=730)


async def test_without_the_roots_key_it_says_so_and_goes_on(autojump_clock, tmp_path, keep):
    init(tmp_path / "ca", "td", now=START - timedelta(days=600))
    (tmp_path / "ca" / "root.key").unlink()
    keeper = await keep()
    assert keeper.credential.value is not None
    assert "expires 2026-07-09 and cannot be renewed" in keeper.problem.value


async def test_another_trust_domains_ca(autojump_clock, tmp_path, keep):
    init(tmp_path / "ca", "other", now=START)
    keeper = await keep()
    assert keeper.credential.value is None
    assert "is of trust domain other, but the Node document says td" in keeper.problem.value


async def test_a_ca_without_its_key_is_not_replaced(autojump_clock, tmp_path, keep):
    init(tmp_path / "ca", "td", now=START)
    (tmp_path / "ca" / "intermediate.key").unlink()
    keeper = await keep()
    assert "no intermediate.key" in keeper.problem.value
    assert sorted(p.name for p in (tmp_path / "ca").iterdir()) == ["intermediate.pem", "root.key", "root.pem"]


async def test_files_of_another_machine_are_used_and_watched(autojump_clock, tmp_path, keep):
    elsewhere = tmp_path / "elsewhere"
    init(elsewhere / "ca", "td", now=START)
    write_identity(tmp_path, elsewhere, now=START)
    keeper = await keep()
    assert not (tmp_path / "ca").exists()
    assert keeper.bundle.value == (elsewhere / "ca" / "root.pem").read_text()
    version = keeper.credential.version
    write_identity(tmp_path, elsewhere, now=START + timedelta(seconds=5))
    _, second = await keeper.credential.newer_than(version)
    assert second.chain == (tmp_path / "identity.pem").read_text()
    assert keeper.problem.value == ""


async def test_an_expired_file_is_a_sentence_and_a_new_one_heals_it(autojump_clock, tmp_path, keep):
    elsewhere = tmp_path / "elsewhere"
    init(elsewhere / "ca", "td", now=START - timedelta(days=3))
    write_identity(tmp_path, elsewhere, now=START - timedelta(days=2))
    keeper = await keep()
    assert keeper.credential.value is None
    assert "identity.pem: expired 2026-02-28 00:00 UTC; run `fedgate ca issue` again" in keeper.problem.value
    write_identity(tmp_path, elsewhere, now=START)
    await keeper.credential.newer_than(0)
    assert keeper.problem.value == ""


async def test_warns_before_a_file_expires_and_when_it_has(autojump_clock, tmp_path, keep):
    elsewhere = tmp_path / "elsewhere"
    init(elsewhere / "ca", "td", now=START)
    write_identity(tmp_path, elsewhere, now=START, ttl=timedelta(minutes=10))
    keeper = await keep()
    version, problem = await keeper.problem.newer_than(0)
    assert "expires 2026-03-01 00:10" in problem
    assert trio.current_time() == pytest.approx(458, abs=3)  # a fifth of twelve minutes before the tenth
    _, problem = await keeper.problem.newer_than(version)
    assert "expired 2026-03-01 00:10" in problem
    assert keeper.credential.value is not None


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: (p / "identity.key").unlink(), "identity.key: no such file"),
        (lambda p: (p / "identity.pem").unlink(), "identity.pem: no such file"),
        (lambda p: (p / "identity.pem").write_text("x"), "no certificate in it"),
        (lambda p: (p / "identity.key").write_text("x"), "does not load"),
        (
            lambda p: issue(p / "other", "spiffe://td/ns/shop/sa/web", out=p, overwrite=True, now=START),
            "is the certificate of spiffe://td/ns/shop",
        ),
    ],
)
async def test_damaged_files(autojump_clock, tmp_path, keep, damage, says):
    init(tmp_path / "other" / "ca", "td", now=START)
    write_identity(tmp_path, tmp_path / "other", now=START)
    damage(tmp_path)
    keeper = await keep()
    assert keeper.credential.value is None
    assert says in keeper.problem.value
    assert not (tmp_path / "ca").exists()


async def test_a_good_certificate_is_never_replaced_by_nothing(autojump_clock, tmp_path, keep):
    init(tmp_path / "other" / "ca", "td", now=START)
    write_identity(tmp_path, tmp_path / "other", now=START)
    keeper = await keep()
    before = keeper.credential.value
    (tmp_path / "identity.pem").write_text("half a fi")
    await keeper.problem.newer_than(0)
    assert keeper.credential.value is before
