"""The publisher against a scripted Consul that keeps what is written to it, check-and-set included."""

import json

import pytest
import trio
from scripted_consul import LIST, Scripted, ScriptedConsul

from discovery.clients.consul import ConsulConnection, Refused
from discovery.model import Port, Protocol
from discovery.watch import Watchable
from federation.publish import consul as module
from federation.publish.consul import ConsulPublisher, ConsulPublishOptions
from federation.publish.publication import Publication

NODE = "fed-east-gw-1"


class Catalog(ScriptedConsul):
    """With nodes, services and checks that transactions change."""

    def __init__(self):
        super().__init__()
        self.things = {"Node": {}, "Service": {}, "Check": {}}
        self.handler = self.transact
        self.transactions = []

    def show(self):
        nodes, services, checks = self.things["Node"], self.things["Service"], self.things["Check"]
        if NODE in nodes:
            self.answers[f"/v1/catalog/node/{NODE}"] = (self.index, {"Node": nodes[NODE], "Services": services})
        else:
            self.answers[f"/v1/catalog/node/{NODE}"] = (self.index, None)
        self.answers[f"/v1/health/node/{NODE}"] = (self.index, [*checks.values()])
        tags = {each["Service"]: each.get("Tags", []) for each in services.values()}
        others = {name: of for name, of in self.answers.get(LIST, (0, {}))[1].items() if "fedgate-published" not in of}
        self.say(LIST, others | tags)

    def transact(self, asked):
        operations = json.loads(asked.body)
        self.transactions.append(operations)
        self.index += 1
        errors = [
            {"OpIndex": number, "What": "index is stale"}
            for number, operation in enumerate(operations)
            for kind, written in operation.items()
            if self._known(kind, written).get("ModifyIndex") != written[kind].get("ModifyIndex")
        ]
        if errors:
            return Scripted({"Results": None, "Errors": errors}, status=409)
        results = [self._do(kind, written) for operation in operations for kind, written in operation.items()]
        self.show()
        return Scripted({"Results": [each for each in results if each], "Errors": None})

    def _key(self, kind, thing):
        return thing[{"Node": "Node", "Service": "ID", "Check": "CheckID"}[kind]]

    def _known(self, kind, written):
        return self.things[kind].get(self._key(kind, written[kind]), {})

    def _do(self, kind, written):
        key = self._key(kind, written[kind])
        if written["Verb"] == "delete-cas":
            del self.things[kind][key]
            self.things["Check"] = {i: check for i, check in self.things["Check"].items() if check.get("ServiceID") != key}
            return None
        self.things[kind][key] = written[kind] | {"ModifyIndex": self.index}
        return {kind: self.things[kind][key]}

    def statuses(self):
        return {check["ServiceID"]: check["Status"] for check in self.things["Check"].values()}


@pytest.fixture
async def consul(nursery):
    made = Catalog()
    await nursery.start(made.serve)
    made.show()
    with trio.fail_after(10):
        yield made


def offered(*names, healthy=1, address="240.240.0.1"):
    ports = (Port(80, "http", Protocol.HTTP),)
    made = [Publication(f"{n}.default.svc.cluster.local", n, "default", ports, (address,), healthy, 1) for n in names]
    return {each.hostname: each for each in made}


def publisher_of(consul, **more):
    more = {"writes_per_second": 10_000} | more
    return ConsulPublisher("consul 0", ConsulPublishOptions("east/gw-1", ConsulConnection(consul.address), **more), rng=lambda: 0.0)


async def settled(publisher, good):
    seen = -1
    while True:
        seen, now = await publisher.status.newer_than(seen)
        if now.connected and not now.pending and good(now):
            return now


async def test_what_is_offered_stands_there_and_only_changes_are_written(consul, nursery):
    publisher, wanted = publisher_of(consul), Watchable(offered("a", "b"))
    await nursery.start(publisher.run, wanted)
    await settled(publisher, lambda now: now.published == 2)
    assert consul.statuses() == {"fed-a:240.240.0.1": "passing", "fed-b:240.240.0.1": "passing"}
    assert [next(iter(each)) for each in consul.transactions[0]] == ["Node", "Service", "Check", "Service", "Check"]
    wanted.set(offered("b", "a") | offered("a", healthy=0))
    await consul.wait_asked(lambda asked: len(consul.transactions) == 2)
    assert [next(iter(each)) for each in consul.transactions[1]] == ["Check"]
    assert consul.statuses()["fed-a:240.240.0.1"] == "critical"
    wanted.set(offered("b"))
    await settled(publisher, lambda now: now.published == 1)
    assert consul.statuses() == {"fed-b:240.240.0.1": "passing"}
    nursery.cancel_scope.cancel()


async def test_a_restart_writes_nothing_anew(consul, nursery):
    for _ in range(2):
        async with trio.open_nursery() as one:
            publisher = publisher_of(consul)
            await one.start(publisher.run, Watchable(offered("a")))
            await settled(publisher, lambda now: now.published == 1)
            one.cancel_scope.cancel()
        assert len(consul.transactions) == 1
        assert set(consul.things["Service"]) == {"fed-a:240.240.0.1"}


async def test_a_new_address_stands_there_before_the_old_one_goes(consul, nursery):
    publisher, wanted = publisher_of(consul), Watchable(offered("a"))
    await nursery.start(publisher.run, wanted)
    await settled(publisher, lambda now: now.published == 1)
    wanted.set(offered("a", address="240.240.0.2"))
    await settled(publisher, lambda now: now.published == 1 and len(consul.transactions) > 1)
    verbs = [written["Verb"] for each in consul.transactions[1] for written in each.values()]
    assert verbs == ["cas", "cas", "delete-cas"]
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_many_go_in_several_transactions_spaced(consul, nursery):
    publisher = publisher_of(consul, writes_per_second=200)
    await nursery.start(publisher.run, Watchable(offered(*(f"s{number}" for number in range(70)))))
    began = trio.current_time()
    await settled(publisher, lambda now: now.published == 70)
    assert trio.current_time() - began > 60 / 200
    assert [len(each) for each in consul.transactions] == [63, 62, 16]
    nursery.cancel_scope.cancel()


async def test_what_somebody_else_owns_is_left_alone_and_named(consul, nursery):
    consul.answers[LIST] = (consul.index, {"fed-a": ["theirs"]})
    meta = {"fedgate-published-by": "east/gw-1"}
    consul.things["Node"][NODE] = {"Node": NODE, "Meta": meta, "ModifyIndex": 3}
    consul.things["Service"]["fed-b:240.240.0.1"] = {
        "ID": "fed-b:240.240.0.1",
        "Service": "fed-b",
        "Tags": ["fedgate-published"],
        "ModifyIndex": 4,
    }
    consul.show()
    publisher = publisher_of(consul)
    await nursery.start(publisher.run, Watchable(offered("a", "b", "c")))
    now = await settled(publisher, lambda now: now.published == 1)
    assert now.conflicts == ("fed-a", "fed-b:240.240.0.1")
    assert set(consul.statuses()) == {"fed-c:240.240.0.1"}
    nursery.cancel_scope.cancel()


async def test_a_node_of_somebody_else_is_an_error_that_says_what_to_do(consul, nursery):
    consul.things["Node"][NODE] = {"Node": NODE, "Meta": {}, "ModifyIndex": 3}
    consul.show()
    publisher = publisher_of(consul)
    await nursery.start(publisher.run, Watchable(offered("a")))
    seen = -1
    while not publisher.status.value.error:
        seen, _ = await publisher.status.newer_than(seen)
    assert "publish with another prefix" in publisher.status.value.error
    assert not consul.transactions
    with pytest.raises(Refused):
        await publisher.leave()
    nursery.cancel_scope.cancel()


async def test_a_change_by_somebody_else_is_read_and_not_overwritten_unseen(consul, nursery):
    publisher, wanted = publisher_of(consul), Watchable(offered("a"))
    await nursery.start(publisher.run, wanted)
    await settled(publisher, lambda now: now.published == 1)
    service = consul.things["Service"]["fed-a:240.240.0.1"]
    consul.things["Service"]["fed-a:240.240.0.1"] = service | {"Meta": {}, "ModifyIndex": 999}  # it is theirs now
    consul.show()
    wanted.set(offered("b"))
    now = await settled(publisher, lambda now: now.published == 1 and "fed-b:240.240.0.1" in consul.things["Service"])
    assert consul.things["Service"]["fed-a:240.240.0.1"]["ModifyIndex"] == 999
    assert not now.conflicts  # nobody wants the name any more
    nursery.cancel_scope.cancel()


async def test_what_was_taken_away_is_put_right_at_the_next_reading(consul, nursery, monkeypatch):
    monkeypatch.setattr(module, "RESYNC", 0.1)
    publisher = publisher_of(consul)
    await nursery.start(publisher.run, Watchable(offered("a")))
    await settled(publisher, lambda now: now.published == 1)
    consul.things["Service"].clear()
    consul.things["Check"].clear()
    consul.show()
    await consul.wait_asked(lambda asked: len(consul.transactions) == 2 and consul.things["Service"])
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_consul_that_fails_is_tried_again(consul, nursery):
    consul.scripted["/v1/txn"] = [Scripted("No cluster leader", status=500), Scripted(status=-1)]
    publisher = publisher_of(consul)
    said = []

    async def listen():
        seen = -1
        while True:
            seen, now = await publisher.status.newer_than(seen)
            said.append(now.error)

    nursery.start_soon(listen)
    await nursery.start(publisher.run, Watchable(offered("a")))
    await settled(publisher, lambda now: now.published == 1)
    assert any("No cluster leader" in error for error in said)
    nursery.cancel_scope.cancel()


async def test_leave_takes_back_what_is_ours_and_the_node(consul):
    publisher = publisher_of(consul)
    async with trio.open_nursery() as one:
        await one.start(publisher.run, Watchable(offered(*(f"s{number}" for number in range(70)))))
        await settled(publisher, lambda now: now.published == 70)
        one.cancel_scope.cancel()
    await publisher.leave()
    assert consul.things == {"Node": {}, "Service": {}, "Check": {}}
    assert publisher.status.value.published == 0


async def test_leave_keeps_a_node_that_others_use(consul):
    publisher = publisher_of(consul)
    async with trio.open_nursery() as one:
        await one.start(publisher.run, Watchable(offered("a")))
        await settled(publisher, lambda now: now.published == 1)
        one.cancel_scope.cancel()
    consul.things["Service"]["x"] = {"ID": "x", "Service": "x", "ModifyIndex": 1}
    consul.show()
    await publisher.leave()
    assert set(consul.things["Service"]) == {"x"}
    assert NODE in consul.things["Node"]
