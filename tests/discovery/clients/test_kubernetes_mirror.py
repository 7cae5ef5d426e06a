"""A mirror of one collection: what differs is told once, whatever the connection does; nothing is forgotten but what is gone."""

import contextlib

import httpx2
import kube_api
import msgspec
import pytest
import trio
from kube_api import SERVICES, KubeApi

from discovery.clients import kubernetes_mirror as module
from discovery.clients.kubeconfig import Credentials
from discovery.clients.kubernetes import Event, Kubernetes, KubernetesError
from discovery.clients.kubernetes_mirror import Mirror


class Kept(msgspec.Struct, frozen=True):
    class Metadata(msgspec.Struct, frozen=True):
        name: str

    metadata: Metadata
    spec: dict[str, object]


class Following:
    """A mirror that runs, and what it told."""

    def __init__(self):
        self.changes = []
        self.lists = 0
        self.mirror = Mirror(SERVICES, msgspec.json.Decoder(Kept).decode, self.changed, at_once=25)
        self._moved = trio.Event()

    def changed(self, key, before, after):
        self.changes.append((key, before is not None, after is not None))
        self._notify()

    def listed(self):
        self.lists += 1
        self._notify()

    def _notify(self):
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    async def wait(self, condition):
        with trio.fail_after(10):
            while not condition():
                await self._moved.wait()

    async def run(self, client):
        await self.mirror.run(client, listed=self.listed)


@contextlib.asynccontextmanager
async def following(tmp_path, *, expected=None):
    """(api, Following); expected: what the mirror raises in the end."""
    api, it = KubeApi(), Following()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(api.serve)
        credentials = Credentials(kube_api.kubeconfig(tmp_path, server))
        async with Kubernetes(credentials) as client, trio.open_nursery() as asking:  # it outlives who asks

            async def run():
                if expected is None:
                    await it.run(client)
                else:
                    with pytest.raises(expected):
                        await it.run(client)
                    it.ended = True
                    it._notify()

            it.ended = False
            it.start = lambda: asking.start_soon(run)
            yield api, it
            asking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def test_list_then_watch(tmp_path):
    async with following(tmp_path) as (api, it):
        api.put(SERVICES, kube_api.service("a"))
        it.start()
        await it.wait(lambda: it.lists == 1)
        api.put(SERVICES, kube_api.service("b"))
        api.put(SERVICES, kube_api.service("b"))  # the same: told once
        api.drop(SERVICES, "shop/a")
        await it.wait(lambda: len(it.changes) == 3)
        assert it.changes == [("shop/a", False, True), ("shop/b", False, True), ("shop/a", True, False)]
        assert list(it.mirror.items) == ["shop/b"]


async def test_a_list_of_many_pages(tmp_path):
    async with following(tmp_path) as (api, it):
        api.page_size = 3
        for number in range(10):
            api.put(SERVICES, kube_api.service(f"s{number}"))
        it.start()
        await it.wait(lambda: it.lists == 1)
        assert len(it.mirror.items) == 10
        assert len([each for each in api.requests if "continue" in each[2]]) == 3


async def test_a_long_list_is_told_with_others_in_between_and_what_is_gone_comes_last(tmp_path):
    async with following(tmp_path) as (api, it):
        it.mirror.restore({f"shop/old{number}": Kept(Kept.Metadata(f"old{number}"), {}) for number in range(3)})
        for number in range(100):
            api.put(SERVICES, kube_api.service(f"s{number}"))
        it.changes.clear()
        seen = []

        async def beside():
            while len(it.changes) < 103:
                seen.append(len(it.mirror.items))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)
            it.start()
            await it.wait(lambda: it.lists == 1)
        assert {28, 53} & set(seen)  # who runs beside is now before it in a turn and now behind it, so it may miss one
        assert {53, 78} & set(seen)
        assert min(seen) == 3
        assert [key for key, _, after in it.changes if not after] == [key for key, _, _ in it.changes[100:]]


async def test_a_list_that_outlives_its_version_is_read_in_one_piece(tmp_path):
    async with following(tmp_path) as (api, it):
        api.page_size = 1
        for name in "ab":
            api.put(SERVICES, kube_api.service(name))
        api.oldest = api.versions + 1
        api.put(SERVICES, kube_api.service("c"))
        api.oldest = api.versions + 1
        it.start()
        await api.wait(lambda: len(api.requests) == 3)
        assert "limit" not in api.requests[2][2]
        api.oldest = 0
        await it.wait(lambda: it.lists >= 1)
        assert len(it.mirror.items) == 3


@pytest.mark.parametrize("said", [b"5", b"{}", b'{"metadata": {"name": 5}}'])
def test_what_is_no_object_is_said(said):
    mirror = Mirror(SERVICES, lambda raw: raw, lambda *change: None)
    with pytest.raises(KubernetesError, match="is no Kubernetes object"):
        mirror._take(Event("ADDED", msgspec.Raw(said)))
    assert mirror.items == {}


async def test_a_watch_that_ends_goes_on_from_its_last_version(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SHORT", 0.0)
    async with following(tmp_path) as (api, it):
        it.start()
        await it.wait(lambda: it.lists == 1)
        await api.wait(lambda: api.asked("allowWatchBookmarks"))
        api.bookmark(SERVICES)
        api.put(SERVICES, kube_api.service("a"))
        await it.wait(lambda: it.changes)
        version = api.versions
        api.end_watches()
        await api.wait(lambda: len(api.asked("allowWatchBookmarks")) == 2)
        assert api.asked("allowWatchBookmarks")[1][2]["resourceVersion"] == str(version)
        assert it.lists == 1


async def test_a_connection_that_breaks_is_made_again_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SHORT", 0.0)
    async with following(tmp_path) as (api, it):
        it.start()
        await api.wait(lambda: api.asked("allowWatchBookmarks"))
        await it.wait(lambda: it.lists == 1)
        api.put(SERVICES, kube_api.service("a"))
        await it.wait(lambda: it.changes)  # the watch has begun, also for us
        await api.cut()
        await api.wait(lambda: len(api.asked("allowWatchBookmarks")) == 2)
        api.put(SERVICES, kube_api.service("b"))
        await it.wait(lambda: len(it.changes) == 2)
        assert it.lists == 1


async def test_one_that_breaks_at_once_is_lost(tmp_path):
    async with following(tmp_path, expected=httpx2.TransportError) as (api, it):
        api.put(SERVICES, kube_api.service("a"))
        it.start()
        await api.wait(lambda: api.asked("allowWatchBookmarks"))
        await api.cut()
        await it.wait(lambda: it.ended)
        assert list(it.mirror.items) == ["shop/a"]


async def test_gone_means_a_list_that_says_what_changed_meanwhile_and_empties_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SHORT", 0.0)
    async with following(tmp_path) as (api, it):
        for name in "abc":
            api.put(SERVICES, kube_api.service(name))
        it.start()
        await api.wait(lambda: api.asked("allowWatchBookmarks"))
        await it.wait(lambda: it.lists == 1)
        it.changes.clear()
        api.error(SERVICES, 410, "Expired")
        await it.wait(lambda: it.lists == 2)
        assert it.changes == []
        del api.objects[SERVICES]["shop/b"]  # while nobody watches
        api.error(SERVICES, 410, "Expired")
        await it.wait(lambda: it.lists == 3)
        assert it.changes == [("shop/b", True, False)]


async def test_other_errors_are_raised_and_what_is_known_stays(tmp_path):
    async with following(tmp_path, expected=KubernetesError) as (api, it):
        api.put(SERVICES, kube_api.service("a"))
        it.start()
        await api.wait(lambda: api.asked("allowWatchBookmarks"))
        api.error(SERVICES, 500, "InternalError")
        await it.wait(lambda: it.ended)
        assert list(it.mirror.items) == ["shop/a"]


async def test_an_object_that_cannot_be_read_is_as_it_was(tmp_path):
    async with following(tmp_path) as (api, it):
        api.put(SERVICES, kube_api.service("a"))
        it.start()
        await it.wait(lambda: it.lists == 1)
        api.put(SERVICES, {**kube_api.service("a"), "spec": 7})
        api.put(SERVICES, kube_api.service("b"))
        await it.wait(lambda: len(it.changes) == 2)
        assert sorted(it.mirror.items) == ["shop/a", "shop/b"]
        assert it.mirror.items["shop/a"].spec["clusterIP"] == "10.96.0.1"


def test_what_an_earlier_mirror_knew_and_what_is_no_more():
    it = Following()
    it.mirror.restore({"shop/a": Kept(Kept.Metadata("a"), {})})
    assert it.changes == [("shop/a", False, True)]
    it.mirror.forget()
    assert it.changes[1:] == [("shop/a", True, False)]
    assert "items=0" in repr(it.mirror)
