"""VirtualService documents: hosts, gateways, what a route may say, and what it may not say together."""

import pytest
from written import assert_one_error, spec, warnings

from federation.resources.virtual_service import HTTPRoute, VirtualService

TO_A = "route: [{destination: {host: a}}]"


def with_route(route: str) -> str:
    return "hosts: [a]\nhttp:\n- " + route.replace("\n", "\n  ")


def test_everything_this_release_routes():
    said = spec(
        "VirtualService",
        """
        hosts: [reviews, '*.shop.example']
        gateways: [mesh, shop/web, web]
        exportTo: ['.']
        http:
        - name: john
          match:
          - uri: {prefix: /api}
            headers: {end-user: {exact: john}, x-any: {}}
            withoutHeaders: {x-no: {regex: '*'}}
            queryParams: {v: {regex: '[0-9]+'}}
            method: {exact: GET}
            authority: {prefix: shop}
            scheme: {exact: https}
            port: 80
            gateways: [web]
            ignoreUriCase: true
          route:
          - destination: {host: reviews, subset: v2, port: {number: 9080}}
            weight: 90
            headers: {request: {set: {a: b}}}
          - destination: {host: reviews.shop.svc.cluster.local, subset: v3}
            weight: 10
          timeout: 1.5s
          retries: {attempts: 3, perTryTimeout: 500ms, retryOn: 'gateway-error,503', retryRemoteLocalities: true, backoff: 25ms}
          rewrite: {uri: /, authority: x.example}
          headers: {response: {remove: [x-internal], add: {x: y}}}
        - match: [{uri: {exact: /old}}]
          redirect: {uri: /new, redirectCode: 308}
        - match: [{uri: {exact: /teapot}}]
          directResponse: {status: 418, body: {string: short and stout}}
        - route: [{destination: {host: reviews}}]
        """,
    )
    john = said.http[0]
    assert john.timeout == 1500
    assert [one.weight for one in john.route] == [90, 10]
    assert john.route[0].destination.port.number == 9080
    assert john.match[0].without_headers["x-no"].regex is None  # Istio's `*`: presence
    assert john.retries.conditions == ("gateway-error", "503")
    assert said.http[1].redirect.redirect_code == 308
    assert bytes(said.http[2].direct_response.body.content) == b"short and stout"


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        (f"gateways: [g]\nhttp: [{{{TO_A}}}]", "gateways", "this is a delegate"),
        (f"http: [{{{TO_A}}}]\ntcp: [{{{TO_A}}}]", "tcp", "this is a delegate"),
        ("http: [{delegate: {name: x}}]", "http[0].delegate", "cannot delegate further"),
        (f"hosts: ['*']\ngateways: [g, mesh]\nhttp: [{{{TO_A}}}]", "hosts[0]", "not allowed for the mesh gateway"),
        ("hosts: [a]", "", "routes nothing"),
        (f"hosts: ['*']\nhttp: [{{{TO_A}}}]", "hosts[0]", "not allowed for the mesh gateway"),
        (f"hosts: ['*']\ngateways: [mesh]\nhttp: [{{{TO_A}}}]", "hosts[0]", "not allowed for the mesh gateway"),
        (f"hosts: [a.*.b]\nhttp: [{{{TO_A}}}]", "hosts[0]", "left-most"),
        (f"hosts: [a, A]\nhttp: [{{{TO_A}}}]", "hosts[1]", "there already"),
        (f"hosts: ['*.com', x.foo.com]\nhttp: [{{{TO_A}}}]", "hosts[1]", "by `*.com`"),
        (f"hosts: [a]\ngateways: [a/b/c]\nhttp: [{{{TO_A}}}]", "gateways[0]", "names no Gateway"),
        (f"hosts: [a]\nexportTo: [a_b]\nhttp: [{{{TO_A}}}]", "exportTo[0]", "no namespace"),
        ("hosts: [a]\ntcp: [{route: []}]", "tcp[0].route", "leads nowhere"),
        (
            f"hosts: [a.b]\ntls: [{{match: [{{sniHosts: [c.b]}}], {TO_A}}}]",
            "tls[0].match[0].sniHosts[0]",
            "within none of the hosts",
        ),
    ],
)
def test_mistakes_of_the_whole(body, path, part):
    assert_one_error("VirtualService", body, f"spec.{path}".rstrip("."), part)


def test_star_is_allowed_at_a_gateway_and_an_ip_is_a_host():
    assert spec("VirtualService", f"hosts: ['*', 10.0.0.1]\ngateways: [web]\nhttp: [{{{TO_A}}}]".replace("'*', ", "")).hosts == (
        "10.0.0.1",
    )
    assert spec("VirtualService", f"hosts: ['*']\ngateways: [web]\nhttp: [{{{TO_A}}}]").hosts == ("*",)


@pytest.mark.parametrize(
    ("route", "path", "part"),
    [
        ("name: x", "", "does nothing"),
        (f"{TO_A}\nredirect: {{uri: /x}}", "", "route and redirect exclude each other"),
        (f"{TO_A}\ndirectResponse: {{status: 200}}", "", "route and directResponse exclude each other"),
        ("redirect: {uri: /x}\ndirectResponse: {status: 200}", "", "redirect and directResponse exclude each other"),
        ("redirect: {uri: /x}\nrewrite: {uri: /y}", "rewrite", "rewrite and redirect exclude"),
        ("directResponse: {status: 200}\nrewrite: {uri: /y}", "rewrite", "rewrite and directResponse exclude"),
        ("match: [{uri: {exact: /a}}]\nredirect: {prefixRewrite: /x}", "match[0].uri", "needs a prefix match"),
        (f"{TO_A}\ntimeout: 0s", "timeout", "at least 1ms"),
        (f"{TO_A}\ntimeout: 5", "timeout", 'write "5s"'),
        ("route: [{destination: {host: a}}, {destination: {host: b}}]", "route", "weights add up to 0"),
        ("route: [{destination: {host: a}, weight: -1}]", "route[0].weight", "0 or more"),
        ("route: [{destination: {host: '*'}}]", "route[0].destination.host", "wildcard"),
        ("route: [{destination: {host: ''}}]", "route[0].destination.host", "empty"),
        ("route: [{destination: {host: a, subset: a_b}}]", "route[0].destination.subset", "no subset name"),
        ("route: [{destination: {host: a, port: {number: 0}}}]", "route[0].destination.port.number", "1..65535"),
        ("route: [{weight: 1}]", "route[0].destination", "is required"),
        (f"{TO_A}\nrewrite: {{authority: a}}\nheaders: {{request: {{set: {{Host: b}}}}}}", "headers.request", "more than once"),
        ("delegate: {name: x}\nredirect: {uri: /x}", "redirect", "redirect and delegate exclude"),
        (f"delegate: {{name: x}}\n{TO_A}", "route", "route and delegate exclude"),
        ("delegate: {name: X_y}", "delegate.name", "names no VirtualService"),
        ("delegate: {name: x, namespace: a_b}", "delegate.namespace", "no namespace"),
        ("redirect: {uri: /x}\nfault: {abort: {httpStatus: 500, percentage: {value: 1}}}", "fault", "fault and redirect exclude"),
        (f"{TO_A}\nmirror: {{host: b}}\nmirrors: [{{destination: {{host: c}}}}]", "mirrors", "exclude each other"),
        (f"{TO_A}\nmirror: {{host: '*'}}", "mirror.host", "wildcard"),
        (f"{TO_A}\nmirror: {{host: b}}\nmirrorPercent: 101", "mirrorPercent", "0..100"),
        (f"{TO_A}\nmirror: {{host: b}}\nmirrorPercentage: {{value: 101}}", "mirrorPercentage.value", "0 to 100"),
        (f"{TO_A}\nmirrors: [{{percentage: {{value: 1}}}}]", "mirrors[0].destination", "is required"),
    ],
)
def test_mistakes_of_a_route(route, path, part):
    assert_one_error("VirtualService", with_route(route), f"spec.http[0].{path}".rstrip("."), part)


def test_a_single_destination_needs_no_weight():
    assert spec("VirtualService", with_route(TO_A)).http[0].route[0].weight == 0


def test_a_route_behind_a_catch_all_is_warned_about():
    found = warnings("VirtualService", f"hosts: [a]\nhttp: [{{{TO_A}}}, {{match: [{{uri: {{exact: /a}}}}], {TO_A}}}]")
    assert "http[0] has no match" in found["spec.http[1]"]
    assert warnings("VirtualService", f"hosts: [a]\nhttp: [{{match: [{{uri: {{exact: /a}}}}], {TO_A}}}, {{{TO_A}}}]") == {}


def test_messages_are_made_in_code_too():
    assert VirtualService(hosts=("a",), http=(HTTPRoute(name="x"),)).http[0].name == "x"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("mirror: {host: b}", [("mirror", "b", 1_000_000)]),
        ("mirror: {host: b}\nmirrorPercentage: {value: 0.5}", [("mirror", "b", 5000)]),
        ("mirror: {host: b}\nmirrorPercent: 7", [("mirror", "b", 70_000)]),
        ("mirror: {host: b}\nmirrorPercent: 7\nmirrorPercentage: {value: 1}", [("mirror", "b", 10_000)]),
        ("mirror: {host: b}\nmirrorPercentage: {value: 0}", []),
        ("mirror: {host: b}\nmirrorPercent: 0", []),
        (
            "mirrors: [{destination: {host: b}}, {destination: {host: c}, percentage: {value: 0}}]",
            [("mirrors[0].destination", "b", 1_000_000)],
        ),
    ],
)
def test_mirrors_and_their_shares(body, expected):
    mirrored = spec("VirtualService", with_route(f"{TO_A}\n{body}")).http[0].mirrored
    assert [(place, destination.host, share) for place, destination, share in mirrored] == expected


def test_what_is_deprecated_or_without_effect_is_warned_about():
    found = warnings("VirtualService", with_route(f"{TO_A}\nmirrorPercent: 7"))
    assert "deprecated" in found["spec.http[0].mirrorPercent"]
    assert "without `mirror`" in found["spec.http[0]"]
