"""One gateway with three real registries: a service that Consul, Kubernetes and Nomad all offer is one, its users are told who said what, and
whatever befalls a registry costs no request and no endpoint."""

import ipaddress
import json
import os
import signal
import subprocess
import sys

import dns.asyncquery
import dns.message
import pytest
import trio
from peers.three import ALL, HOST, ZONE, Three, back, do, kept, lost, missing, spread, who
from running import Fedgate, running, wait_until
from running_gateway import request, until
from steady import steadily

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # the first time they are built
    pytest.mark.xdist_group("live-system"),
]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    if why := missing():
        pytest.skip(why)
    with Three(tmp_path_factory.mktemp("three")) as made:
        made.offer()
        yield made


@pytest.fixture(scope="module")
def gateway(three, tmp_path_factory):
    made = Fedgate(tmp_path_factory.mktemp("gateway"))
    made.write("node", made.node(**three.node()))
    with running(made):
        wait_until(lambda: set(trio.run(spread, made)) == ALL, "all three take traffic")
        yield made


def get(gateway, *words):
    """What `fedgate get …` prints."""
    command = [sys.executable, "-P", "-m", "appliance", "get", *words, "--address", f"{gateway.address}:{gateway.admin}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(text, first):
    """{column: cell} of the line of a table that begins with this."""
    title, *lines = text.splitlines()
    (line,) = [line for line in lines if line.startswith(first)]
    names = [name.strip() for name in title.split("  ") if name.strip()]
    begins = [title.index(name) for name in names]
    return {name: line[begin:end].strip() for name, begin, end in zip(names, begins, [*begins[1:], None], strict=True)}


# -------------------------------------------------------------------------------------------------------------- one service


def test_it_is_one_service_with_the_endpoints_of_all(three, gateway):
    (row,) = [row for row in json.loads(get(gateway, "services", "-o", "json")) if row["hostname"] == HOST]
    assert row["sources"] == ["east/consul", "east/kubernetes", "east/nomad"]
    assert row["clusters"] == {"east": "3/3"}
    assert row["ports"] == [f"{three.port}/HTTP"]
    found = json.loads(get(gateway, "endpoints", "--backend", f"outbound|{three.port}||{HOST}", "-o", "json"))
    assert {each["priority"] for each in found} == {0}
    assert {each["locality"] for each in found} == {f"r1/{ZONE}"}
    assert len(found) == 3


def test_its_users_are_told_who_said_what(three, gateway):
    wide = cells(get(gateway, "services", "-o", "wide"), HOST)
    assert wide["SOURCES"] == "east/consul,east/kubernetes,east/nomad"
    answer = json.loads(get(gateway, "service", HOST, "--why", "-o", "json"))
    why = {row["field"]: row for row in answer["why"]}
    said = {row["winner"] for name, row in why.items() if name.startswith("endpoints[")}
    assert said == {"east/consul", "east/kubernetes", "east/nomad"}
    assert why["addresses"]["winner"] == "east/kubernetes"  # a ClusterIP: nobody else has one
    assert why["created"]["winner"] == "east/kubernetes"
    text = get(gateway, "service", HOST, "--why")
    assert "east/nomad" in text
    assert "FIELD" in text
    sources = {row["name"]: row for row in json.loads(get(gateway, "sources", "-o", "json"))}
    assert {name for name, row in sources.items() if row["connected"] and row["state"] == "live"} >= ALL
    assert sources["nomad"]["endpoints"] == 1
    assert cells(get(gateway, "sources"), "east     nomad")["STATE"] == "live"


async def test_its_name_has_one_address_behind_which_are_all(three, gateway):
    (address,) = await resolve(gateway, HOST)
    assert ipaddress.ip_address(address) in ipaddress.ip_network(three.vips)
    assert await resolve(gateway, "web.shop") == [address]
    assert cells(await do(get, gateway, "services", "-o", "wide"), HOST)["ADDRESSES"] == address
    answers = {who(await request(address, three.port, host=f"{HOST}:{three.port}")) for _ in range(30)}
    assert answers == ALL
    assert who(await request(address, three.port, host=address)) in ALL  # the address alone tells the service


async def test_one_workload_in_two_registries_is_one_endpoint(three, gateway):
    """As a job of Nomad's that is registered in Consul too; what one takes back the other still says."""
    ((address, number),) = await do(three.instances)
    place = f"endpoints[{address}:{number}]"
    assert (await winner(gateway, place))["losers"] == []
    await do(three.register_at, "web", "same", address, number)
    row = await until(lambda: winner(gateway, place), lambda row: row["losers"])
    assert (row["winner"], row["losers"]) == ("east/consul", ["east/nomad"])
    (service,) = [row for row in await gateway.rows("services") if row["hostname"] == HOST]
    assert service["clusters"] == {"east": "3/3"}
    await do(three.consul.deregister, "web-same")
    row = await until(lambda: winner(gateway, place), lambda row: not row["losers"])
    assert row["winner"] == "east/nomad"
    assert set(await spread(gateway)) == ALL


async def test_registries_that_contradict_each_other_are_told_of(three, gateway):
    await do(three.register_at, "web", "consul", three.workloads.address, three.workloads.ports["consul"], protocol="tcp")

    async def text():
        return await do(get, gateway, "service", HOST)

    said = await until(text, lambda text: "findings:" in text)
    assert f"ports[{three.port}].protocol" in said
    assert "east/kubernetes says HTTP and is followed" in said
    assert "east/consul says TCP" in said
    (row,) = [row for row in await gateway.rows("sources") if row["name"] == "consul"]
    assert row["findings"] == 2, "what it speaks, and the port's name that follows from it"
    assert set(await spread(gateway)) == ALL
    await do(three.register, "consul")
    await until(text, lambda text: "findings:" not in text)


async def winner(gateway, field):
    """Of `why`; {} while there is none."""
    return next((row for row in (await gateway.api(f"services/{HOST}"))["why"] if row["field"] == field), {"losers": []})


async def resolve(gateway, name, kind="A"):
    answer = await dns.asyncquery.udp(dns.message.make_query(name, kind), gateway.address, port=gateway.dns, timeout=5)
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset]


# ------------------------------------------------------------------------------------------------- registries that go away


async def test_registries_that_are_killed_come_back_with_what_changed(three, gateway):
    async with steadily(gateway.address, gateway.mesh, host=HOST) as steady:
        await kept(steady, *ALL)
        three.consul.kill()
        await lost(gateway, "consul")
        await kept(steady, *ALL)
        three.nomad.server.kill()  # two are away now
        await lost(gateway, "nomad")
        await kept(steady, *ALL)
        three.consul.start()
        await do(three.consul.wait_ready)
        await do(three.register, "consul-2")
        await do(three.consul.deregister, "web-consul")
        await steady.only("consul-2", "kubernetes", "nomad")
        three.kubernetes.kill("apiserver")
        await lost(gateway, "kubernetes")
        await kept(steady, "consul-2", "kubernetes", "nomad")
        three.nomad.server.start()
        three.kubernetes.start("apiserver")
        await do(three.kubernetes.wait_ready)
        await do(three.add_pod, "kubernetes-2")
        await do(three.kubernetes.delete, "v1", "pods", "kubernetes")
        await steady.only("consul-2", "kubernetes-2", "nomad")
        for name in sorted(ALL):
            await back(gateway, name)
        await do(three.register, "consul")
        await do(three.consul.deregister, "web-consul-2")
        await steady.only("consul", "kubernetes-2", "nomad")
    assert not steady.failed


async def test_a_source_whose_word_expires_takes_its_own_endpoints_only(three, tmp_path):
    gateway = Fedgate(tmp_path)
    consul, *others = three.sources()
    gateway.write("node", gateway.node(**three.node(sources=[consul | {"onLoss": {"keep": "1s"}}, *others])))
    with running(gateway):
        everybody = set(await until(lambda: spread(gateway), lambda found: len(set(found)) == 3 and 503 not in found))
        async with steadily(gateway.address, gateway.mesh, host=HOST) as steady:
            three.consul.kill()
            await steady.only(*everybody - {"consul"})
            rows = {row["name"]: row for row in await gateway.rows("sources")}
            assert rows["consul"]["state"] == "expired"
            assert {rows[name]["state"] for name in ("kubernetes", "nomad")} == {"live"}
            three.consul.start()
            await steady.only(*everybody)
        assert not steady.failed


async def test_while_all_are_gone_its_control_process_and_itself_may_start_anew(three, gateway):
    everybody = set(await spread(gateway))
    assert len(everybody) == 3
    async with steadily(gateway.address, gateway.mesh, host=HOST) as steady:
        three.consul.kill()
        three.nomad.server.kill()
        three.kubernetes.kill("apiserver")
        (control,) = gateway.pids("control")
        os.kill(control, signal.SIGKILL)
        await until(lambda: do(gateway.pids, "control"), lambda found: found not in ([], [control]))
        await until(lambda: do(gateway.is_ready), bool)
        await kept(steady, *everybody)
    assert not steady.failed
    await do(gateway.kill)
    gateway.start()
    assert set(await until(lambda: spread(gateway), bool)) == everybody  # its first answers
    await do(gateway.wait_ready)
    assert set(await spread(gateway)) == everybody
    assert not any(row["connected"] for row in await gateway.rows("sources") if row["name"] in ALL)
    three.consul.start()
    three.nomad.server.start()
    three.kubernetes.start("apiserver")
    await do(three.consul.wait_ready)
    await do(three.nomad.server.wait_ready)
    await do(three.kubernetes.wait_ready)
    for name in sorted(ALL):
        await back(gateway, name)
    assert set(await spread(gateway)) == everybody
