"""Documents in a Consul prefix, against a scripted Consul on a real socket."""

import pytest
import trio
from scripted_consul import Scripted, ScriptedConsul, pair

from discovery.clients.consul import ConsulConnection
from discovery.document import Documents
from discovery.documents import consul as module
from discovery.documents.consul import ConsulDocuments

CONF = "/v1/kv/conf/"


@pytest.fixture
async def consul(nursery, monkeypatch):
    monkeypatch.setattr(module, "_EVERY", 0.01)
    made = ScriptedConsul()
    await nursery.start(made.serve)
    with trio.fail_after(10):
        yield made


async def become(documents, good):
    seen = -1
    while True:
        seen, now = await documents.documents.newer_than(seen)
        if good(now):
            return now


def kinds(found):
    return [document.content["kind"] for document in found.documents]


async def test_every_key_is_a_file_and_a_change_is_published_at_once(consul, nursery):
    keys = [pair("conf/b", b"kind: B\n", 3), pair("conf/a", b"kind: A\n---\nkind: C\n", 2), pair("conf/sub/", b"", 1)]
    consul.say(CONF, keys)
    documents = ConsulDocuments(ConsulConnection(consul.address), "/conf/")
    await nursery.start(documents.run)
    now = documents.documents.value
    assert kinds(now) == ["A", "C", "B"]
    assert [str(document.origin) for document in now.documents] == ["consul:conf/a:1", "consul:conf/a:3", "consul:conf/b:1"]
    untouched = now.documents[2]
    consul.say(CONF, [pair("conf/a", b"kind: D\n", 9), keys[0]])
    now = await become(documents, lambda now: kinds(now) == ["D", "B"])
    assert now.documents[1] is untouched
    consul.say(CONF, None)
    await become(documents, lambda now: now == Documents())


@pytest.mark.parametrize("bad", [b"kind: [\n", b"\xff\xfe"])
async def test_what_cannot_be_read_keeps_the_last_good_documents_of_its_key(consul, nursery, bad):
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2)])
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    consul.say(CONF, [pair("conf/a", bad, 3), pair("conf/b", b"kind: B\n", 4)])
    now = await become(documents, lambda now: now.errors)
    assert kinds(now) == ["A", "B"]
    assert now.errors[0].origin.file == "consul:conf/a"
    consul.say(CONF, [pair("conf/a", b"kind: Z\n", 5), pair("conf/b", b"kind: B\n", 4)])
    now = await become(documents, lambda now: not now.errors)
    assert kinds(now) == ["Z", "B"]


async def test_a_consul_that_cannot_be_read_is_an_error_that_is_mended(consul, nursery):
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2)])
    consul.scripted[CONF] = [Scripted("No cluster leader", status=500)]
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    (error,) = documents.documents.value.errors
    assert "No cluster leader" in error.message
    assert kinds(await become(documents, lambda now: not now.errors)) == ["A"]
    await consul.wait_asked(lambda asked: asked.index)
    consul.scripted[CONF] = [Scripted(status=-1)]
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2), pair("conf/b", b"kind: B\n", 4)])
    await become(documents, lambda now: kinds(now) == ["A", "B"] and not now.errors)


async def test_silence_does_not_hold_the_start_for_ever(consul, nursery, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WITHIN", 0.05)
    consul.scripted[CONF] = [Scripted(status=0)]
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    assert "did not answer within" in documents.documents.value.errors[0].message


async def test_an_empty_prefix_is_not_believed_when_the_index_went_back(consul, nursery):
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2)], index=50)
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    await consul.wait_asked(lambda asked: asked.index == 50)
    consul.say(CONF, None, index=3)
    now = await become(documents, lambda now: now.errors)
    assert kinds(now) == ["A"]
    assert "index went back" in now.errors[0].message
    consul.say(CONF, [pair("conf/a", b"kind: B\n", 5)])
    assert kinds(await become(documents, lambda now: not now.errors)) == ["B"]


async def test_reload_reads_anew_at_once(consul, nursery):
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2)])
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    await consul.wait_asked(lambda asked: asked.index)
    first = consul.requests[0]
    documents.reload()
    await consul.wait_asked(lambda asked: asked.index == 0 and asked is not first)


async def test_too_many_keys_are_said(consul, nursery, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEYS", 2)
    consul.say(CONF, [pair(f"conf/{name}", b"kind: A\n", 2) for name in "abc"])
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    assert len(documents.documents.value.documents) == 2
    assert "has 3 keys, of which 2 are read" in documents.documents.value.errors[0].message


@pytest.mark.slow
async def test_reading_yaml_does_not_hold_up_the_loop(consul, nursery):
    many = b"kind: A\nspec:\n" + b"".join(b"  k%d: {a: 1, b: [x, y], c: {d: e}}\n" % number for number in range(4_000))
    consul.say(CONF, [pair("conf/a", many, 2)])
    longest, ended = 0.0, trio.Event()

    async def watch():
        nonlocal longest
        while not ended.is_set():
            before = trio.current_time()
            await trio.sleep(0.001)
            longest = max(longest, trio.current_time() - before)

    nursery.start_soon(watch)
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    began = trio.current_time()
    await nursery.start(documents.run)
    took = trio.current_time() - began
    ended.set()
    assert kinds(documents.documents.value) == ["A"]
    assert longest < took / 3


async def test_an_empty_prefix_is_not_believed_after_consul_was_away(consul, nursery):
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2)], index=50)
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    await consul.wait_asked(lambda asked: asked.index == 50)
    consul.scripted[CONF] = [Scripted(status=-1)] * 3
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2)], index=55)
    await become(documents, lambda now: now.errors)
    consul.say(CONF, None, index=60)  # a new Consul, whose index is as high already
    now = await become(documents, lambda now: any("is empty since" in error.message for error in now.errors))
    assert kinds(now) == ["A"]
    consul.say(CONF, [pair("conf/b", b"kind: B\n", 61)], index=61)
    await become(documents, lambda now: kinds(now) == ["B"] and not now.errors)
    consul.say(CONF, None, index=62)  # deleted while it was there
    await become(documents, lambda now: not kinds(now) and not now.errors)


@pytest.mark.parametrize("said", [[{"Value": None}], [{"Key": "conf/a", "ModifyIndex": "x", "Value": None}], [{"Key": 5}]])
async def test_keys_that_are_none_are_an_error_and_the_next_answer_is_read(consul, nursery, said):
    consul.say(CONF, [pair("conf/a", b"kind: A\n", 2)])
    documents = ConsulDocuments(ConsulConnection(consul.address), "conf")
    await nursery.start(documents.run)
    consul.say(CONF, said)
    now = await become(documents, lambda now: now.errors)
    assert kinds(now) == ["A"]
    assert "not what Consul's keys are" in now.errors[0].message
    consul.say(CONF, [pair("conf/a", b"kind: B\n", 9)])
    await become(documents, lambda now: kinds(now) == ["B"] and not now.errors)
