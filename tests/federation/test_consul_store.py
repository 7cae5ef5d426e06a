"""The shared store in Consul's KV."""

import pytest
import trio
from scripted_consul import Scripted, ScriptedConsul, pair

from discovery.clients.consul import ConsulConnection
from federation.consul_store import ConsulStore
from federation.store import ABSENT, Stored, StoreLost

KEY = "/v1/kv/fedgate/vips"


@pytest.fixture
async def consul(nursery):
    made = ScriptedConsul()
    await nursery.start(made.serve)
    with trio.fail_after(10):
        yield made


@pytest.fixture
async def store(consul):
    async with ConsulStore(ConsulConnection(consul.address), "/fedgate/") as made:
        yield made


async def test_what_stands_there(consul, store):
    assert await store.get("vips") == ABSENT
    consul.say(KEY, [pair("fedgate/vips", b"\x00\xff", 42)])
    assert await store.get("vips") == Stored(b"\x00\xff", 42)
    consul.say(KEY, [pair("fedgate/vips", b"", 43)])
    assert await store.get("vips") == Stored(b"", 43)
    assert {asked.mode for asked in consul.requests} == {"consistent"}


async def test_a_write_says_whether_somebody_was_faster(consul, store):
    answers = [True, False]
    consul.handler = lambda asked: Scripted(answers.pop(0))
    assert await store.put_if("vips", b"1", 0)
    assert not await store.put_if("vips", b"2", 7)
    assert [asked.params["cas"] for asked in consul.requests] == ["0", "7"]


async def test_a_wait_ends_with_the_key_and_not_with_a_neighbour(consul, store, nursery):
    consul.say(KEY, [pair("fedgate/vips", b"1", 5)])
    got, done = [], trio.Event()

    async def wait():
        got.append(await store.wait_changed("vips", 5))
        done.set()

    nursery.start_soon(wait)
    first = await consul.wait_asked(lambda asked: asked.index)
    consul.say(KEY, [pair("fedgate/vips", b"1", 5)])  # Consul's index went on, the key's did not
    await consul.wait_asked(lambda asked: asked.index > first.index)
    assert not got
    consul.say(KEY, [pair("fedgate/vips", b"2", 9)])
    await done.wait()
    assert got == [Stored(b"2", 9)]
    consul.say(KEY, None)
    assert await store.wait_changed("vips", 9) == ABSENT


@pytest.mark.parametrize("call", [lambda s: s.get("vips"), lambda s: s.put_if("vips", b"", 0), lambda s: s.wait_changed("vips", 1)])
async def test_a_store_that_fails_says_of_what(consul, store, call):
    consul.scripted[KEY] = [Scripted("Permission denied", status=403)]
    with pytest.raises(StoreLost, match=r"fedgate/vips cannot be (read|written): .*Permission denied"):
        await call(store)


async def test_it_can_be_used_after_it_was_closed(consul, store):
    await store.get("vips")
    await store.close()
    assert await store.get("vips") == ABSENT


@pytest.mark.parametrize(
    "lie",
    [[{"ModifyIndex": "x", "Value": None}], [{"Value": None}], ["x"], [[1]], {"a": 1}, 3, [pair("a", b"", 1) | {"Value": "A"}]],
)
async def test_what_is_no_key_of_consul_is_a_lost_store(consul, store, lie):
    consul.say(KEY, lie)
    with pytest.raises(StoreLost, match="check the address"):
        await store.get("vips")
