"""Consul's list of checks in slices: the same as in one piece, wherever it is cut and whatever texts say."""

import json

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from scripted_consul import CHECKS, Scripted, ScriptedConsul

from discovery.clients import consul_checks as module
from discovery.clients.consul import ConsulClient, ConsulConnection, Refused
from discovery.clients.consul_checks import Check, decode_checks

TRICKY = st.one_of(st.text(max_size=20), st.sampled_from(['},{"Node":', '\\"},{\\"Node\\":', "]", '"}]']))


def compact(content):
    """As Go writes it."""
    return json.dumps(content, separators=(",", ":")).encode()


def written(node, check, status="passing", **more):
    return {"Node": node, "CheckID": check, "Status": status, "ServiceName": "web", **more}


async def decoded(body):
    return await decode_checks(body)


@given(st.lists(st.builds(written, TRICKY, TRICKY, TRICKY, Output=TRICKY), max_size=12), st.integers(0, 200))
def test_slices_make_the_whole(content, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLICE", size)
        found = trio.run(decoded, compact(content))
    assert found == [Check(each["Node"], each["CheckID"], each["Status"], "web") for each in content]


async def test_others_run_between_two_slices(monkeypatch):
    monkeypatch.setattr(module, "_SLICE", 1000)
    body, ran, done = compact([written("n", str(number)) for number in range(1000)]), [], trio.Event()

    async def beside():
        while not done.is_set():
            ran.append(1)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beside)
        assert len(await decode_checks(body)) == 1000
        done.set()
    assert len(ran) > 50


@pytest.mark.parametrize("content", [[], None])
async def test_nothing(content):
    assert await decode_checks(compact(content)) == []


async def test_what_is_cut_in_the_wrong_place_is_decoded_whole(monkeypatch):
    monkeypatch.setattr(module, "_SLICE", 0)
    inner = [{"Node": "x"}, {"Node": "y"}]
    assert await decode_checks(compact([written("a", "1", Nested=inner), written("b", "2")])) == [
        Check("a", "1", "passing", "web"),
        Check("b", "2", "passing", "web"),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"a":1}', b'[{"Node":"a"}]', b'[{"Node":"a","CheckID":"1"},{"Node":"b"', b"[1]"]
)
async def test_what_is_no_list_of_checks(monkeypatch, body):
    monkeypatch.setattr(module, "_SLICE", 0)
    with pytest.raises(msgspec.DecodeError):
        await decode_checks(body)


async def test_the_client_reads_them_and_refuses_what_they_are_not(nursery):
    consul = ScriptedConsul()
    await nursery.start(consul.serve)
    hidden = {"X-Consul-Results-Filtered-By-ACLs": "true"}
    consul.scripted[CHECKS] = [Scripted([written("a", "1")]), Scripted([]), Scripted([1]), Scripted([], headers=hidden)]
    async with ConsulClient(ConsulConnection(consul.address)) as client:
        assert (await client.checks()).data == [Check("a", "1", "passing", "web")]
        assert (await client.checks()).data == []
        with pytest.raises(Refused, match="not a list of checks"):
            await client.checks()
        with pytest.raises(Refused, match="hidden from this token"):
            await client.checks()
    nursery.cancel_scope.cancel()
