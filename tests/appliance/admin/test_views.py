"""A Snapshot, Verdicts and counters as rows: what people and programs see of a gateway."""

import msgspec
import pytest

from appliance.admin import views
from appliance.admin.matches import action_text, match_text
from appliance.admin.views import Seen
from discovery.model import Health, Locality
from gateway.engine import BackendStatistics, EndpointStatistics, Statistics
from gateway.snapshot import (
    Backend,
    CertificateRef,
    DirectResponse,
    DownstreamTls,
    EndpointSet,
    FilterChain,
    Forward,
    LbEndpoint,
    Listener,
    ListenerKind,
    MatchKind,
    NamedMatch,
    Node,
    Outlier,
    Redirect,
    Route,
    RouteMatch,
    Snapshot,
    Split,
    StringMatch,
    TlsMode,
    VirtualHost,
)
from gateway.verdicts import AddressState, Verdict, Verdicts

NAME = "outbound|80||a"
EAST, WEST = Locality("us", "us-1"), Locality("eu", "eu-1")
NEAR = [LbEndpoint(id=f"10.0.0.{n}:80", address=f"10.0.0.{n}", port=80, cluster="east", locality=EAST) for n in (1, 2)]
FAR = [
    LbEndpoint(
        id=f"west/eu/10.9.0.{n}:15443",
        address=f"10.9.0.{n}",
        port=15443,
        cluster="west",
        locality=WEST,
        priority=1,
        peer="west",
        group="west/eu",
    )
    for n in (1, 2)
]


def snapshot(*, endpoints=(*NEAR, *FAR), backend=None):
    backend = backend or Backend(NAME, "a", 80, outlier=Outlier(max_ejection_percent=100))
    route = Route(
        "r.0",
        RouteMatch(path=StringMatch(MatchKind.PREFIX, "/api")),
        Forward((Split(NAME, 90), Split("outbound|80|v2|a", 10)), timeout_ms=500),
    )
    tls = DownstreamTls(TlsMode.SIMPLE, (CertificateRef("CHAIN", "key-digest", "secret shop/web"),))
    return Snapshot.of(
        [
            Node("gw", "east"),
            Listener("127.0.0.1", 443, ListenerKind.GATEWAY, (FilterChain("https", "t", ("a.example",), tls),)),
            VirtualHost("t", "a", ("a.example",), (route,)),
            backend,
            EndpointSet(NAME, tuple(endpoints)),
        ]
    )


def health(seen):
    return {row.id: (row.health, row.reason) for row in views.endpoints(seen)}


def test_listeners_say_whether_they_listen():
    row = views.listeners(Seen(snapshot()))[0]
    assert (row.bound, row.error, row.kind) == (True, "", "gateway")
    assert row.chains[0].certificates == ("secret shop/web",)
    faulty = views.listeners(Seen(snapshot(), listener_faults={"127.0.0.1:443": "in use"}))[0]
    assert (faulty.bound, faulty.error) == (False, "in use")


def test_a_nameserver_must_listen_by_udp_too():
    seen = Snapshot.of([Listener("127.0.0.1", 53, ListenerKind.DNS)])
    assert views.listeners(Seen(seen))[0].bound
    faulty = views.listeners(Seen(seen, listener_faults={"udp:127.0.0.1:53": "in use"}))[0]
    assert (faulty.bound, faulty.error) == (False, "in use")


def test_routes_in_the_order_of_matching():
    (row,) = views.routes(Seen(snapshot()))
    assert row.match == "path=^/api"
    assert row.action == "forward 90% outbound|80||a, 10% outbound|80|v2|a"
    assert [(d.backend, d.weight) for d in row.destinations] == [(NAME, 90), ("outbound|80|v2|a", 10)]
    assert row.timeout_ms == 500


def test_a_backend_nobody_used_shows_what_the_arithmetic_would_give():
    (row,) = views.backends(Seen(snapshot()))
    assert [(p.priority, p.load, p.endpoints, p.healthy, p.total) for p in row.priorities] == [(0, 100, 2, 2, 2), (1, 0, 2, 1, 1)]
    assert row.policy["outlier"]["max_ejection_percent"] == 100
    assert "silence" not in row.policy


def test_load_follows_what_is_ejected_down_and_counted_by_a_peer():
    ejected = Statistics(endpoints=(EndpointStatistics(NAME, NEAR[0].id, 0, 0, 5, 5, 900, "silence"),))
    verdicts = Verdicts(endpoints={NAME: {"west/eu": Verdict(Health.HEALTHY, 3, 4, "peer")}})
    (row,) = views.backends(Seen(snapshot(), verdicts, by_worker={1: ejected}))
    near, far = row.priorities
    assert (near.healthy, near.total, far.healthy, far.total) == (1, 2, 3, 4), "a peer's group is counted once"
    assert (near.load, far.load) == (70, 30)


def test_what_workers_say_of_load_and_traffic_wins():
    told = BackendStatistics(NAME, (60, 40), True, ((0, "us/us-1", "east", 6), (1, "eu/eu-1", "west", 4)), 3, 2)
    (row,) = views.backends(Seen(snapshot(), total=Statistics(backends=(told,))))
    assert [p.load for p in row.priorities] == [60, 40]
    assert (row.panic, row.requests, row.retries, row.overflow) == (True, 10, 3, 2)


def test_loads_of_an_older_snapshot_are_not_shown_for_other_priorities():
    told = BackendStatistics(NAME, (100,))
    (row,) = views.backends(Seen(snapshot(), total=Statistics(backends=(told,))))
    assert [p.load for p in row.priorities] == [100, 0]


def test_an_ejected_endpoint_says_why_how_long_and_by_whom():
    readings = {
        0: Statistics(endpoints=(EndpointStatistics(NAME, NEAR[0].id, 0, 0, 5, 5, 100, "silence"),)),
        1: Statistics(endpoints=(EndpointStatistics(NAME, NEAR[0].id, 0, 0, 5, 5, 4000, "consecutive-5xx"),)),
    }
    found = health(Seen(snapshot(), by_worker=readings))
    assert found[NEAR[0].id] == ("ejected", "consecutive-5xx for 4000 ms more, by worker 1")
    assert found[NEAR[1].id] == ("healthy", "")


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(Health.UNHEALTHY, 0, 1, "check: refused"), ("unhealthy", "check: refused")),
        (Verdict(Health.DRAINING, 0, 1, "registry: draining"), ("draining", "registry: draining")),
        (Verdict(Health.DEGRADED, 1, 1, "registry: degraded"), ("degraded", "registry: degraded")),
    ],
)
def test_health_says_who_found_it(verdict, expected):
    verdicts = Verdicts(endpoints={NAME: {NEAR[0].id: verdict}})
    assert health(Seen(snapshot(), verdicts))[NEAR[0].id] == expected


@pytest.mark.parametrize(("state", "word"), [(AddressState.DOWN, "down"), (AddressState.SUSPECT, "suspect")])
def test_a_peer_s_address_that_is_silent(state, word):
    found = health(Seen(snapshot(), Verdicts(addresses={FAR[0].key: state})))
    assert found[FAR[0].id][0] == word
    assert found[FAR[1].id][0] == "healthy"


def test_endpoints_of_one_backend_with_their_traffic():
    total = Statistics(endpoints=(EndpointStatistics(NAME, NEAR[0].id, 1, 2, 30, 4, p50_us=1500, p99_us=9000),))
    assert views.endpoints(Seen(snapshot()), "other") == []
    row = views.endpoints(Seen(snapshot(), total=total), NAME)[0]
    assert (row.active, row.connections, row.requests, row.failures, row.p50_ms, row.p99_ms) == (1, 2, 30, 4, 1.5, 9.0)


def test_no_key_is_in_any_row():
    seen = Seen(snapshot())
    rows = [*views.listeners(seen), *views.routes(seen), *views.backends(seen), *views.endpoints(seen)]
    assert b"key-digest" not in msgspec.json.encode(rows)


def named(name, kind, value="", **options):
    return NamedMatch(name, StringMatch(kind, value), **options)


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (RouteMatch(), "*"),
        (RouteMatch(path=StringMatch(MatchKind.EXACT, "/a", ignore_case=True)), "path=/a (any case)"),
        (RouteMatch(method=StringMatch(MatchKind.REGEX, "G.*"), port=80), "method=~G.* port=80"),
        (RouteMatch(headers=(named("end-user", MatchKind.EXACT, "john"),)), "header end-user=john"),
        (RouteMatch(headers=(named("x", MatchKind.PRESENT, inverted=True),)), "without header x"),
        (RouteMatch(query=(named("q", MatchKind.PREFIX, "a"),)), "query q=^a"),
    ],
)
def test_matches_in_words(match, text):
    assert match_text(match) == text


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Forward((Split("b"),)), "forward b"),
        (Forward((Split("b"),), rewrite_prefix="/"), "forward b rewrite /"),
        (Forward(()), "forward nowhere"),
        (Redirect(302, uri="/x", authority="h", scheme="https"), "redirect 302 https://h/x"),
        (Redirect(), "redirect 301"),
        (DirectResponse(404), "answer 404"),
    ],
)
def test_actions_in_words(action, text):
    assert action_text(action) == text
