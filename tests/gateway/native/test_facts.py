"""What operators in header values are told of a real exchange. What Envoy says to the same: tests/differential/rows_operators.py."""

import datetime
import os
import re

import pytest
from h2_talk import Client
from native_engine import NAME, Workload, backend, endpoint, forward, host, running

from gateway.native.facts import TOLD
from gateway.policy.substitution import FACTS
from gateway.snapshot import (
    DirectResponse,
    EndpointSet,
    HeaderOperations,
    MatchKind,
    Mirror,
    Operator,
    Route,
    RouteMatch,
    StringMatch,
    Template,
)


def operations(*values, **more):
    return HeaderOperations(add=tuple((f"x-{n}", Template((value,))) for n, value in enumerate(values)), **more)


def parts(workload, route):
    return backend(), EndpointSet(NAME, (endpoint(workload.port),)), host(route)


def said(message):
    return dict(re.findall(r"^(x-\d+): (.*)\r$", message.decode(), re.MULTILINE))


def test_every_fact_can_be_told():
    assert TOLD.keys() == set(FACTS)


async def test_a_request_is_told_who_asked_and_where():
    workload = Workload()
    names = (
        "DOWNSTREAM_REMOTE_ADDRESS",
        "DOWNSTREAM_LOCAL_ADDRESS",
        "DOWNSTREAM_LOCAL_PORT",
        "HOSTNAME",
        "STREAM_ID",
        "UPSTREAM_CLUSTER",
        "UPSTREAM_HOST",
        "START_TIME",
    )
    route = forward(request_headers=operations(*map(Operator, names)))
    async with running(*parts(workload, route), workloads=[workload]) as gateway, await gateway.connect() as stream:
        address, port = stream.socket.getsockname()
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        while await stream.receive_some():
            pass
    told = said(workload.requests[0])
    assert told["x-0"] == f"{address}:{port}"
    assert told["x-1"] == f"127.0.0.1:{gateway.port}"
    assert told["x-2"] == str(gateway.port)
    assert told["x-3"] == os.uname().nodename
    assert f"x-request-id: {told['x-4']}\r\n" in workload.requests[0].decode()
    assert told["x-5"] == NAME
    assert "x-6" not in told
    began = datetime.datetime.fromisoformat(told["x-7"])
    assert abs(datetime.datetime.now(datetime.UTC) - began) < datetime.timedelta(minutes=1)


@pytest.mark.parametrize("version", [1, 2])
async def test_an_answer_is_told_of_the_request_as_it_was_sent_and_by_whom_it_was_answered(version):
    workload = Workload(b"HTTP/1.1 201 OK\r\nx-up: u\r\ncontent-length: 2\r\n\r\nok")
    values = (
        Operator("REQ", "x-b"),
        Operator("REQ", ":path"),
        Operator("RESP", "x-up"),
        Operator("RESPONSE_CODE"),
        Operator("UPSTREAM_HOST"),
    )
    route = forward(
        match=RouteMatch(path=StringMatch(MatchKind.PREFIX, "/old")),
        rewrite_prefix="/new",
        request_headers=HeaderOperations(set=(("x-b", "ours"),)),
        response_headers=operations(*values, remove=("x-gone",)),
    )
    expected = ["ours", "/new/x?q", "u", "201", f"127.0.0.1:{workload.port}"]
    async with running(*parts(workload, route), workloads=[workload]) as gateway:
        if version == 2:
            async with Client.to(gateway.port) as client:
                head = (await client.ask(path="/old/x?q", headers=[("x-b", "theirs")])).head
                assert [head[b"x-%d" % n].decode() for n in range(5)] == expected
        else:
            assert list(said(await gateway.get("/old/x?q", "x-b: theirs\r\n")).values()) == expected


async def test_what_one_request_was_told_is_not_told_to_the_next():
    workload = Workload()
    recalling = operations(Operator("REQ", "x-b"))
    first = forward(match=RouteMatch(path=StringMatch(MatchKind.PREFIX, "/up")), response_headers=recalling)
    last = Route("last", RouteMatch(), DirectResponse(418), response_headers=recalling)
    both = (backend(), EndpointSet(NAME, (endpoint(workload.port),)), host(first, last))
    async with running(*both, workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(
            b"GET /up HTTP/1.1\r\nhost: a\r\nx-b: secret\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        got = b""
        while more := await stream.receive_some():
            got += more
    answered, _, after = got.partition(b"HTTP/1.1 418")
    assert b"x-0: secret" in answered
    assert after
    assert b"x-0" not in after


async def test_an_answer_of_the_gateways_own_is_told_of_the_request_as_it_would_have_been_sent():
    values = (
        Operator("REQ", "x-forwarded-proto"),
        Operator("REQ", "x-b"),
        Operator("RESP", ":status"),
        Operator("REQ", "proxy-authorization"),
    )
    route = Route("r", RouteMatch(), DirectResponse(418), response_headers=operations(*values))
    async with running(host(route)) as gateway:
        got = said(await gateway.get("/", "x-b: theirs\r\nproxy-authorization: secret\r\n"))
    assert got == {"x-0": "http", "x-1": "theirs", "x-2": "418"}


async def test_a_copy_is_told_as_well():
    workload, other = Workload(), Workload()
    mirrored = "outbound|80||m.test"
    route = forward(mirrors=(Mirror(mirrored),), request_headers=operations(Operator("REQ", "x-b")))
    more = backend(mirrored), EndpointSet(mirrored, (endpoint(other.port),))
    async with running(*parts(workload, route), *more, workloads=[workload, other]) as gateway:
        await gateway.get("/", "x-b: theirs\r\n")
        while not other.requests:
            await gateway.get("/", "x-b: theirs\r\n")
    assert said(workload.requests[0]) == said(other.requests[0]) == {"x-0": "theirs"}
