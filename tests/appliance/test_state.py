"""The state directory: whole files, private keys apart and private, and what cannot be used costs a cold start only."""

import json
import stat

import pytest
import trio
from conformance_engine import plain_snapshot

from appliance.state import StateDirectory
from discovery.document import Origin, RawDocument
from discovery.model import Endpoint, Service, ShardKey
from discovery.watch import Watchable
from federation.remembered import Remembered, Shard
from gateway.secret import Secret

KEY = Secret(b"-----BEGIN PRIVATE KEY-----")
KEYS = {KEY.digest: KEY}


@pytest.fixture
def state(tmp_path):
    return StateDirectory(tmp_path / "state")


def test_what_was_saved_is_loaded(state):
    assert state.load() is None
    state.save(plain_snapshot(1), KEYS)
    snapshot, keys = state.load()
    assert snapshot == plain_snapshot(1)
    assert keys == KEYS


def test_keys_are_private_and_not_in_the_snapshot(state):
    state.save(plain_snapshot(1), KEYS)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    for name in ("keys.json", "snapshot.json"):
        assert stat.S_IMODE((state.path / name).stat().st_mode) == 0o600
    assert b"PRIVATE" not in (state.path / "snapshot.json").read_bytes()
    assert sorted(path.name for path in state.path.iterdir()) == ["keys.json", "snapshot.json"]


@pytest.mark.parametrize("name", ["keys.json", "snapshot.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "0", "parts": {"x": {"type": "?"}}}'])
def test_a_broken_file_is_as_none(state, name, content):
    state.save(plain_snapshot(1), KEYS)
    (state.path / name).write_bytes(content)
    assert state.load() is None


def test_a_snapshot_that_is_not_what_its_version_says_is_not_used(state):
    state.save(plain_snapshot(1), KEYS)
    path = state.path / "snapshot.json"
    stored = json.loads(path.read_bytes())
    stored["parts"]["node"]["cluster"] = "elsewhere"
    path.write_text(json.dumps(stored))
    assert state.load() is None


async def saved(state, expected):
    seen = -1
    with trio.fail_after(5):
        while not expected(state.saved.value):
            seen, _ = await state.saved.newer_than(seen)


async def test_each_snapshot_is_saved(tmp_path):
    state = StateDirectory(tmp_path / "state", every_s=0.001)
    snapshots, secrets = Watchable(plain_snapshot(1)), Watchable(KEYS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(state.follow, snapshots, secrets)
        await saved(state, lambda value: value == plain_snapshot(1).version)
        snapshots.set(plain_snapshot(2))
        snapshots.set(plain_snapshot(3))
        await saved(state, lambda value: value == plain_snapshot(3).version)
        nursery.cancel_scope.cancel()
    assert state.load()[0] == plain_snapshot(3)


async def test_a_disk_that_cannot_be_written_is_tried_again(tmp_path):
    state = StateDirectory(tmp_path / "state", every_s=0.001, again_s=0.001)
    state.path.write_text("a file where the directory should be")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(state.follow, Watchable(plain_snapshot(1)), Watchable(KEYS))
        await saved(state, lambda value: "exists" in value)
        state.path.unlink()
        await saved(state, lambda value: value == plain_snapshot(1).version)
        nursery.cancel_scope.cancel()


RAW = RawDocument(Origin("a.yaml", 3), {"kind": "Node", "spec": {"n": 1, "x": None, "l": [True, 1.5]}}, {"spec": 5})
SHARD = Shard(ShardKey("west", "peer"), (Service("a.shop", endpoints=(Endpoint("10.0.0.1"),)), Service("b.shop")))
REMEMBERED = Remembered((RAW, RAW), (SHARD, Shard(ShardKey("east", "dns"), ())))


def test_what_the_plane_remembers_is_kept_as_it_was(state):
    assert state.load_remembered() == Remembered()
    state.save_remembered(REMEMBERED)
    assert state.load_remembered() == REMEMBERED
    assert stat.S_IMODE((state.path / "remembered.json").stat().st_mode) == 0o600
    (state.path / "remembered.json").write_text("[{]")
    assert state.load_remembered() == Remembered()


async def test_what_the_plane_remembers_is_saved_after_a_round(tmp_path):
    state = StateDirectory(tmp_path / "state", every_s=0.001)
    rounds, known = Watchable(0), [Remembered()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(state.follow_remembered, rounds, lambda: known[-1])
        known.append(REMEMBERED)
        rounds.set(1)
        with trio.fail_after(5):
            while state.load_remembered() != REMEMBERED:  # noqa: ASYNC110 (nothing says that a file was written)
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
