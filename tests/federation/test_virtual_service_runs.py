"""VirtualServices as users write them, compiled, and run by the engine: what a client gets and what the endpoint sees."""

import contextlib

import pytest
from compiling import compiled

from gateway.snapshot import FilterChain, Listener, Node
from tests.support.native_engine import Workload, running

pytestmark = pytest.mark.slow

WORLD = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec: {selector: {}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: shop}
spec:
  hosts: [one.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: shop}
spec:
  hosts: [two.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec:
  hosts: [a.test]
  gateways: [web]
  http:
  - %s
"""


@contextlib.asynccontextmanager
async def serving(*routes, more=""):
    """(gateway, first service, second service). Each route is one of `spec.http`; more: documents."""
    one, two = Workload(), Workload(b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: of-two\r\ncontent-length: 3\r\n\r\ntwo")
    text = WORLD % (one.port, two.port, "\n  - ".join(route.replace("\n", "\n    ") for route in routes)) + more
    parts = [part for part in compiled(text).snapshot.parts.values() if not isinstance(part, Listener | Node)]
    async with running(*parts, workloads=[one, two], chain=FilterChain("http", "http.80")) as gateway:
        yield gateway, one, two


ONE, TWO = "route: [{destination: {host: one.test}}]", "route: [{destination: {host: two.test}}]"


def line(workload, number=-1):
    return workload.requests[number].partition(b"\r\n")[0].decode()


def status(answer):
    return int(answer.split(b" ", 2)[1])


async def test_matches_choose_between_services():
    async with serving(
        f"match: [{{headers: {{':path': {{regex: '.*[?]two'}}}}}}, {{withoutHeaders: {{x-one: {{exact: ''}}}}, uri: {{prefix: /w}}}}]\n{TWO}",
        f"match: [{{uri: {{regex: '/v[0-9]+'}}}}, {{uri: {{prefix: /CASE}}, ignoreUriCase: true}}]\n{ONE}",
    ) as (gateway, one, two):
        assert (await gateway.get("/v1?two")).endswith(b"two")
        assert (await gateway.get("/v1")).endswith(b"ok")
        assert status(await gateway.get("/v1/more")) == 404  # the whole path has to match
        assert (await gateway.get("/casework")).endswith(b"ok")
        assert status(await gateway.get("/w")) == 404  # a missing header is an empty one
        assert (await gateway.get("/w", "x-one: 1\r\n")).endswith(b"two")
    assert (len(one.requests), len(two.requests)) == (2, 2)


async def test_rewrites_and_what_the_path_was():
    async with serving(
        "match: [{uri: {prefix: /items/}}]\n"
        f"rewrite: {{uriRegexRewrite: {{match: '^/items/([^/]+)/(.*)', rewrite: '/\\2/of/\\1'}}}}\n{ONE}",
        f"match: [{{uri: {{prefix: /old}}}}]\nrewrite: {{uri: /new, authority: inside.test}}\n{ONE}",
    ) as (gateway, one, _):
        await gateway.get("/items/7/parts?x=/items/8/parts")
        assert line(one) == "GET /parts/of/7?x=/items/8/parts HTTP/1.1"
        assert b"\r\nx-envoy-original-path: /items/7/parts?x=/items/8/parts\r\n" in one.requests[-1]
        await gateway.get("/older?q")
        assert line(one) == "GET /newer?q HTTP/1.1"
        assert b"\r\nhost: inside.test\r\n" in one.requests[-1].lower()


async def test_headers_of_route_and_single_destination_are_one():
    async with serving(
        "headers: {request: {set: {x-who: route, x-zero: ''}, add: {x-more: '1'}, remove: [x-gone]}}\n"
        "route: [{destination: {host: one.test}, headers: {request: {set: {x-who: destination}, add: {x-more: '2'}}}}]"
    ) as (gateway, one, _):
        await gateway.get("/", "x-who: client\r\nx-zero: kept\r\nx-more: 0\r\nX-Gone: yes\r\n")
        lines = one.requests[-1].decode().split("\r\n")
    assert [each for each in lines if each.lower().startswith(("x-who", "x-zero", "x-more", "x-gone"))] == [
        "x-zero: kept",
        "x-more: 0",
        "x-who: destination",
        "x-more: 1",
        "x-more: 2",
    ]


async def test_faults_are_injected_and_nothing_is_sent():
    async with serving(
        f"match: [{{uri: {{prefix: /never}}}}]\nfault: {{abort: {{httpStatus: 555}}}}\n{ONE}",
        f"fault: {{delay: {{fixedDelay: 50ms, percentage: {{value: 100}}}}, abort: {{httpStatus: 555, percentage: {{value: 100}}}}}}\n{ONE}",
    ) as (gateway, one, _):
        answer = await gateway.get("/")
        assert status(answer) == 555
        assert answer.endswith(b"fault filter abort")
        assert status(await gateway.get("/never")) == 200  # no percentage is none
    assert len(one.requests) == 1


async def test_cors():
    cors = "corsPolicy: {allowOrigins: [{exact: 'https://a.test'}], allowMethods: [GET], allowCredentials: true, exposeHeaders: [x-out]}"
    async with serving(f"{cors}\n{TWO}") as (gateway, _, two):
        asked = (
            "OPTIONS / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\norigin: %s\r\naccess-control-request-method: PUT\r\n\r\n"
        )
        answer = await gateway.ask((asked % "https://a.test").encode())
        assert status(answer) == 200
        assert b"access-control-allow-origin: https://a.test\r\n" in answer
        assert b"access-control-allow-methods: GET\r\n" in answer
        assert two.requests == []
        assert b"access-control-allow-origin: of-two" in await gateway.ask((asked % "https://b.test").encode())
        actual = await gateway.get("/", "origin: https://a.test\r\n")
        assert actual.count(b"access-control-allow-origin") == 1
        assert b"access-control-allow-origin: https://a.test\r\n" in actual
        assert b"access-control-expose-headers: x-out\r\n" in actual


async def test_redirects():
    async with serving(
        "match: [{uri: {prefix: /p}}]\nredirect: {prefixRewrite: /q, scheme: https}",
        "redirect: {uri: /there, derivePort: FROM_REQUEST_PORT, redirectCode: 307}",
    ) as (gateway, _, _):
        answer = await gateway.get("/p/x?y")
        assert status(answer) == 301
        assert b"location: https://a.test/q/x?y\r\n" in answer
        answer = await gateway.get("/z")
        assert status(answer) == 307
        assert f"location: http://a.test:{gateway.port}/there\r\n".encode() in answer


async def test_a_delegate_is_reached_through_its_root():
    root = "match: [{uri: {prefix: /d}}]\ndelegate: {name: leaf}"
    leaf = f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: leaf, namespace: shop}}
spec: {{http: [{{match: [{{uri: {{prefix: /d/two}}}}], {TWO}}}, {{{ONE}}}]}}
"""
    async with serving(root, more=leaf) as (gateway, _, _):
        assert (await gateway.get("/d/two")).endswith(b"two")
        assert (await gateway.get("/d/other")).endswith(b"ok")
        assert status(await gateway.get("/e")) == 404
