"""A real Nomad (1.10) and a whole gateway: what jobs register takes traffic, what fails its check or is gone takes none, and nothing that
happens to the servers is felt by a request."""

import contextlib
import json
import urllib.request

import go_peers
import pytest
import trio
from peers.nomad import Agent, Nomad
from running import Fedgate, running, wait_until
from running_gateway import until

from discovery.clients.nomad import NomadOptions
from discovery.here import Here
from discovery.source import SourceLost
from discovery.sources.nomad import NomadSource, NomadSourceOptions
from discovery.update import Reset

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first time it is built
    pytest.mark.skipif(bool(go_peers.NO_GO), reason=go_peers.NO_GO),
    pytest.mark.xdist_group("live-nomad"),
]


@pytest.fixture(scope="module")
def nomad(tmp_path_factory):
    try:
        go_peers.build("nomad")
    except RuntimeError as error:
        pytest.skip(f"Nomad cannot be built: {str(error)[:500]}")
    agent = Nomad(tmp_path_factory.mktemp("nomad"))
    with running(agent):
        yield agent


@pytest.fixture(scope="module")
def gateway(nomad, tmp_path_factory):
    made = Fedgate(tmp_path_factory.mktemp("gateway"), locality="eu/eu-1")
    made.write("node", made.node(sources=[{"name": "nomad", "nomad": {"address": nomad.url}}]))
    with running(made):
        yield made


def host(name, namespace="default"):
    return f"{name}.{namespace}.svc.cluster.local"


async def taken(gateway, name, requests=12):
    """Who answered, or the status of who did not."""
    answers = set()
    for _ in range(requests):
        answer = await gateway.get(host=host(name))
        answers.add(answer.body.decode() if answer.status == 200 else answer.status)
    return answers


async def allocations(nomad, name):
    registered, _ = await trio.to_thread.run_sync(nomad.registered, name)
    return {each["AllocID"] for each in registered}


async def settled(gateway, nomad, name, count):
    """Wait until exactly the registered instances, this many, answer."""

    async def both():
        return await allocations(nomad, name), await taken(gateway, name)

    def same(seen):
        registered, answered = seen
        return len(registered) == count and answered == (registered or answered - {200})

    return (await until(both, same))[0]


@contextlib.asynccontextmanager
async def traffic(gateway, name):
    """Requests all the time; at the end each must have been answered by a workload."""
    statuses = []

    async def ask():
        while True:
            statuses.append((await gateway.get(host=host(name))).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        yield statuses
        nursery.cancel_scope.cancel()
    assert set(statuses) == {200}, f"{len(statuses)} requests: {[each for each in statuses if each != 200][:5]}"
    assert len(statuses) > 20


async def test_a_job_takes_traffic_and_scaled_to_nothing_it_takes_none(nomad, gateway):
    nomad.submit("web", count=1, tags=["version=v1"])
    first = await settled(gateway, nomad, "web", 1)
    nomad.scale("web", 3)
    assert first < await settled(gateway, nomad, "web", 3)
    (row,) = [row for row in await gateway.rows("services") if row["hostname"] == host("web")]
    assert row["sources"] == ["east/nomad"]
    nomad.scale("web", 0)
    await until(lambda: gateway.rows("services"), lambda rows: host("web") not in [row["hostname"] for row in rows])
    await until(lambda: taken(gateway, "web", 3), lambda answers: answers == {502})  # as of every name that nobody has


async def test_a_failing_check_takes_the_endpoint_out_and_a_passing_one_back(nomad, gateway):
    nomad.submit("checked", count=2, check=True)
    await settled(gateway, nomad, "checked", 2)
    nomad.fail("checked")
    await until(lambda: taken(gateway, "checked", 3), lambda answers: answers == {503})
    assert len(await allocations(nomad, "checked")) == 2, "Nomad itself goes on listing them"
    nomad.fail("checked", False)
    await settled(gateway, nomad, "checked", 2)


async def test_another_namespace_and_what_nodes_say(nomad, gateway):
    nomad.call("PUT", "/v1/namespace/shop", {"Name": "shop"})
    nomad.submit("cart", namespace="shop", tags=["fedgate-port=8080", "http"])
    await until(lambda: gateway.get(host=f"{host('cart', 'shop')}:8080"), lambda answer: answer.status == 200)
    answer = await gateway.api(f"services/{host('cart', 'shop')}")
    assert answer["service"]["hostname"] == host("cart", "shop")
    (backend,) = [row["name"] for row in await gateway.rows("backends") if host("cart", "shop") in row["name"]]
    (endpoint,) = (await gateway.api(f"endpoints?backend={backend}"))["items"]
    assert endpoint["locality"] == "eu/dc1"


async def test_a_server_that_is_paused_killed_and_restarted_is_not_felt(nomad, gateway):
    nomad.submit("steady", count=2)
    before = await settled(gateway, nomad, "steady", 2)
    async with traffic(gateway, "steady") as statuses:
        nomad.pause()
        await until(_count(statuses), lambda count: count > 60)
        nomad.resume()
        await trio.to_thread.run_sync(nomad.server.kill)
        await until(_source(gateway), lambda row: row["problem"])
        now = len(statuses)
        await until(_count(statuses), lambda count: count > now + 60)
        await trio.to_thread.run_sync(nomad.server.start)
        await trio.to_thread.run_sync(nomad.server.wait_ready)
        await until(_source(gateway), lambda row: not row["problem"])
        now = len(statuses)
        await until(_count(statuses), lambda count: count > now + 60)
    assert await taken(gateway, "steady") == before
    await trio.to_thread.run_sync(nomad.wait_ready)
    nomad.scale("steady", 3)
    await settled(gateway, nomad, "steady", 3)


def _count(statuses):
    async def count():
        return len(statuses)

    return count


def _source(gateway):
    async def row():
        return next(each for each in await gateway.rows("sources") if each["name"] == "nomad")

    return row


def test_who_may_read_nothing_is_told_so_and_a_token_that_is_replaced_is_used(tmp_path):
    agent = Agent("guarded", tmp_path, server={"enabled": True, "bootstrap_expect": 1}, acl={"enabled": True})
    token = tmp_path / "token"
    with running(agent):
        root = _call(agent, "PUT", "/v1/acl/bootstrap", {})["SecretID"]
        rules = 'namespace "default" { policy = "read" }'
        _call(agent, "PUT", "/v1/acl/policy/reader", {"Name": "reader", "Rules": rules}, token=root)
        reader = _call(agent, "PUT", "/v1/acl/token", {"Name": "r", "Type": "client", "Policies": ["reader"]}, token=root)[
            "SecretID"
        ]
        token.write_text("00000000-0000-0000-0000-000000000000")
        said = trio.run(_first, agent.url, str(token))
        assert isinstance(said, SourceLost)
        assert "403" in str(said)
        assert "00000000" not in str(said)
        assert "read-job" in str(trio.run(_first, agent.url, "")), "Nomad itself answers nobody with an empty list"
        token.write_text(reader)
        assert trio.run(_first, agent.url, str(token)) == Reset(())


async def _first(url, token_file):
    """What a source says first, or why it is lost."""
    source = NomadSource("n", Here("east"), NomadSourceOptions(NomadOptions(url, token_file=token_file)))
    try:
        with trio.fail_after(30):
            async with source.watch() as updates:
                async for update in updates:
                    return update
    except* SourceLost as group:
        error = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    return error


def _call(agent, method, path, body, *, token=""):
    def call():  # just after the election it may refuse
        request = urllib.request.Request(agent.url + path, json.dumps(body).encode(), {"X-Nomad-Token": token}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return (json.loads(answer.read() or b"null"),)

    return wait_until(call, f"{method} {path}")[0]
