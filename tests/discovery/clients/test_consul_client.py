"""Consul's API: which reads are believed."""

import json

import pytest
from scripted_consul import HEALTH, LIST, Scripted, ScriptedConsul, pair

from discovery.clients.consul import ConsulClient, ConsulConnection, Refused

WEB = HEALTH + "web"


@pytest.fixture
async def consul(nursery):
    made = ScriptedConsul()
    await nursery.start(made.serve)
    made.say(LIST, {"web": ["v1"]})
    made.say(WEB, [{"Node": {}}])
    return made


@pytest.fixture
async def client(consul):
    async with ConsulClient(ConsulConnection(consul.address)) as made:
        yield made


def asked(consul, path):
    return [(each.index, each.mode) for each in consul.requests if each.path == path]


async def test_the_first_read_is_consistent_and_the_next_may_be_stale(consul, client, nursery):
    first = await client.names()
    assert (first.index, first.data, first.restarted) == (11, {"web": ["v1"]}, False)
    consul.say(LIST, {"web": ["v1"], "new": []})
    second = await client.names(first.index)
    assert (second.index, set(second.data)) == (13, {"web", "new"})
    assert asked(consul, LIST) == [(0, "consistent"), (11, "stale")]
    assert consul.requests[-1].params["wait"] == "60s"


async def test_without_stale_reads_the_leader_answers(consul):
    async with ConsulClient(ConsulConnection(consul.address), stale=False) as client:
        consul.say(WEB, [])
        await client.instances("web", index=5)
    assert asked(consul, WEB) == [(5, "")]


async def test_an_index_that_goes_backwards_begins_anew(consul, client):
    consul.say(WEB, [{"Node": {}}], index=3)
    answer = await client.instances("web", index=11)
    assert (answer.index, answer.restarted) == (3, True)
    assert asked(consul, WEB) == [(11, "stale"), (0, "consistent")]


async def test_an_index_of_nothing_would_not_block_and_is_taken_as_one(consul, client):
    consul.scripted[WEB] = [Scripted([], headers={"X-Consul-Index": 0})]
    assert (await client.instances("web")).index == 1


@pytest.mark.parametrize("headers", [{"X-Consul-KnownLeader": "false"}, {"X-Consul-LastContact": 10_001}])
async def test_a_stale_answer_of_a_server_that_lost_its_leader_is_not_believed(consul, client, headers):
    consul.scripted[WEB] = [Scripted([], index=99, headers=headers)]
    consul.say(WEB, [{"Node": {}}], index=12)
    assert (await client.instances("web", index=5)).data == [{"Node": {}}]
    assert asked(consul, WEB) == [(5, "stale"), (5, "")]


async def test_what_is_hidden_from_the_token_is_a_refusal_not_an_empty_answer(consul, client):
    hidden = {"X-Consul-Results-Filtered-By-ACLs": "true"}
    consul.scripted[LIST] = [Scripted({}, headers=hidden), Scripted({"web": []}, headers=hidden)]
    with pytest.raises(Refused, match="hidden from this token"):
        await client.names()
    assert (await client.names()).data == {"web": []}


@pytest.mark.parametrize("said", ["<html>hello</html>", [1, 2], "[", 7])
async def test_what_is_no_answer_of_consul_is_refused(consul, client, said):
    consul.scripted[LIST] = [Scripted(said)]
    with pytest.raises(Refused, match="not an answer of Consul"):
        await client.names()


async def test_an_answer_without_an_index_is_refused(consul, client):
    consul.scripted[LIST] = [Scripted({}, headers={"X-Consul-Index": ""})]
    with pytest.raises(Refused, match="not an answer of Consul"):
        await client.names()


async def test_names_need_quoting(consul, client):
    consul.say(HEALTH + "a b?c#d", [])
    await client.instances("a b?c#d")
    assert consul.requests[-1].path == HEALTH + "a b?c#d"


async def test_keys_have_their_values_as_bytes(consul, client):
    consul.say("/v1/kv/conf/", [pair("conf/a", b"\x00x", 5), pair("conf/b", b"", 6)])
    assert [(each["Key"], each["Value"]) for each in (await client.keys("conf/")).data] == [("conf/a", b"\x00x"), ("conf/b", None)]
    assert (await client.key("none")).data == {}
    consul.say("/v1/kv/one", [pair("one", b"1", 7)])
    assert (await client.key("one")).data["Value"] == b"1"


async def test_a_key_is_written_if_it_was_not_changed(consul, client):
    answers = [True, False]
    consul.handler = lambda asked: Scripted(answers.pop(0))
    assert await client.put("vips", b"\x01", index=7)
    assert not await client.put("vips", b"\x02", index=0)
    assert [(each.method, each.path, each.params["cas"], each.body) for each in consul.requests] == [
        ("PUT", "/v1/kv/vips", "7", b"\x01"),
        ("PUT", "/v1/kv/vips", "0", b"\x02"),
    ]


async def test_a_transaction_says_what_it_left_or_what_kept_it(consul, client):
    answers = [
        Scripted({"Results": [{"Service": {"ID": "a", "ModifyIndex": 4}}], "Errors": None}),
        Scripted({"Results": None, "Errors": [{"OpIndex": 0, "What": "index is stale"}]}, status=409),
    ]
    consul.handler = lambda asked: answers.pop(0)
    done = await client.transact([{"Service": {"Verb": "cas"}}])
    assert (done.results[0]["Service"]["ModifyIndex"], done.errors) == (4, ())
    assert (await client.transact([])).errors[0]["What"] == "index is stale"
    assert json.loads(consul.requests[0].body) == [{"Service": {"Verb": "cas"}}]


async def test_what_a_peer_exports(consul, client):
    consul.say("/v1/internal/ui/services?peer=two", [{"Name": "web", "PeerName": "two", "Tags": None}, {"Name": "own", "Tags": []}])
    assert await client.imported("two") == {"web": []}


async def test_the_agents_datacenter_or_nothing_if_the_token_may_not_ask(consul, client):
    consul.scripted["/v1/agent/self"] = [
        Scripted({"Config": {"Datacenter": "dc1"}}),
        Scripted("no", status=403),
        Scripted("no", status=500),
    ]
    assert await client.own_datacenter() == "dc1"
    assert await client.own_datacenter() == ""
    with pytest.raises(Refused):
        await client.own_datacenter()


async def test_a_node_with_its_services_and_checks(consul, client):
    assert await client.node("fed") == (None, (), ())
    consul.say("/v1/catalog/node/fed", {"Node": {"Node": "fed"}, "Services": {"a": {"ID": "a"}}})
    consul.say("/v1/health/node/fed", [{"CheckID": "c"}])
    assert await client.node("fed") == ({"Node": "fed"}, ({"ID": "a"},), ({"CheckID": "c"},))


@pytest.mark.parametrize("said", [[1], 5, {"Config": [1], "Node": [1]}, {"Node": {"Node": "n"}, "Services": [1]}])
async def test_objects_that_are_none_are_refused(consul, client, said):
    consul.say("/v1/agent/self", said)
    consul.say("/v1/catalog/node/n", said)
    consul.say("/v1/health/node/n", [])
    if not (isinstance(said, dict) and "Config" not in said):
        with pytest.raises(Refused, match="not an answer of Consul"):
            await client.own_datacenter()
    with pytest.raises(Refused, match="not an answer of Consul"):
        await client.node("n")
    consul.handler = lambda asked: Scripted(said)
    if not isinstance(said, dict):
        with pytest.raises(Refused, match="not an answer of Consul"):
            await client.transact([])
