"""What VirtualServices promise, counted through a whole gateway in front of real workloads."""

import json
import math

import pytest
from running import Fedgate, Workloads, document, listening, routes, running, server, service, to
from traffic import counted, raw, wire

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-routing")]

SHARES = {"w90": (90, 10), "w75": (75, 25), "w50": (50, 50)}
WORDS = [
    {
        "match": [{"uri": {"prefix": "/old/"}}],
        "redirect": {"prefixRewrite": "/new/", "authority": "shop.example.com", "redirectCode": 308},
    },
    {"match": [{"uri": {"exact": "/moved"}}], "redirect": {"uri": "/elsewhere", "scheme": "https"}},
    {"match": [{"uri": {"exact": "/teapot"}}], "directResponse": {"status": 418, "body": {"string": "short and stout"}}},
    {
        "match": [{"uri": {"prefix": "/api/"}, "queryParams": {"version": {"exact": "2"}}}],
        "rewrite": {"uri": "/v2/", "authority": "inside.test"},
        "route": [to("reviews.shop", "v2")],
    },
    {"match": [{"uri": {"regex": "/item/[0-9]+"}, "method": {"exact": "POST"}}], "route": [to("reviews.shop", "v3")]},
    {
        "match": [{"uri": {"prefix": "/headers"}}],
        "headers": {
            "request": {"set": {"x-set": "ours"}, "add": {"x-add": "more"}, "remove": ["x-secret"]},
            "response": {"set": {"x-answer": "ours"}, "remove": ["content-type"]},
        },
        "route": [{**to("reviews.shop", "v1"), "headers": {"request": {"set": {"x-to": "v1"}}}}],
    },
    {"match": [{"uri": {"prefix": "/sleep/"}}], "timeout": "0.3s", "route": [to("reviews.shop", "v1")]},
    {
        "match": [{"uri": {"prefix": "/only/"}}],
        "retries": {"attempts": 3, "retryOn": "5xx", "perTryTimeout": "2s"},
        "route": [to("pair.shop")],
    },
    {
        "match": [{"uri": {"prefix": "/once"}}],
        "rewrite": {"uri": "/only/v1/503"},
        "retries": {"attempts": 0},
        "route": [to("pair.shop")],
    },
    {"match": [{"uri": {"prefix": "/nowhere"}}], "route": [to("nobody.shop")]},
    {"match": [{"uri": {"prefix": "/refused"}}], "route": [to("refused.shop")]},
    {"match": [{"uri": {"prefix": "/v1"}}], "rewrite": {"uri": "/"}, "route": [to("reviews.shop", "v1")]},
]


def by_user(name):
    return {"match": [{"headers": {"end-user": {"exact": name}}}]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """(gateway, workloads), running."""
    folder = tmp_path_factory.mktemp("routing")
    workloads = Workloads(folder, "v1", "v2", "v3")
    gateway = Fedgate(folder)
    gateway.write(
        "shop",
        listening("web", server(gateway, ["*"])),
        service("reviews.shop", (workloads.endpoint(name, labels={"version": name}) for name in workloads.names)),
        service("pair.shop", (workloads.endpoint(name) for name in ("v1", "v2"))),
        service("refused.shop", [{"address": workloads.address, "ports": {"http": 1}}]),
        service("nobody.shop", []),
        document(
            "DestinationRule",
            "reviews",
            {"host": "reviews.shop", "subsets": [{"name": name, "labels": {"version": name}} for name in workloads.names]},
        ),
        # What is retried is not to be ejected: this is about retries.
        document(
            "DestinationRule",
            "pair",
            {
                "host": "pair.shop",
                "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 0}},
            },
        ),
        routes(
            "reviews",
            ["reviews.example.com"],
            {**by_user("john"), "route": [to("reviews.shop", "v2")]},
            {**by_user("mary"), "route": [to("reviews.shop", "v3")]},
            {"route": [to("reviews.shop", "v1")]},
            gateways=["web"],
        ),
        *(
            routes(
                name,
                [f"{name}.example.com"],
                {"route": [to("reviews.shop", "v1", a), to("reviews.shop", "v2", b)]},
                gateways=["web"],
            )
            for name, (a, b) in SHARES.items()
        ),
        routes("words", ["words.example.com"], *WORDS, gateways=["web"]),
    )
    with running(workloads, gateway):
        yield gateway, workloads


@pytest.fixture
def ask(shop):
    """One request to words.example.com."""
    gateway, _ = shop

    def send(path, **options):
        return gateway.get(path, host="words.example.com", port=gateway.ingress, **options)

    return send


async def test_users_get_the_reviews_that_their_header_names(shop):
    gateway, _ = shop
    users = ("john", "mary", "someone", "")
    requests = [(user, wire(host="reviews.example.com", headers=[("end-user", user)] if user else ())) for user in users]
    found = await counted(gateway.address, gateway.ingress, requests * 250)
    assert dict(found) == {
        ("john", 200, "v2"): 250,
        ("mary", 200, "v3"): 250,
        ("someone", 200, "v1"): 250,
        ("", 200, "v1"): 250,
    }


async def test_weights_come_out_within_three_points(shop):
    gateway, _ = shop
    requests = [(name, wire(host=f"{name}.example.com")) for name in SHARES]
    found = await counted(gateway.address, gateway.ingress, requests * 10_000, connections=32)
    assert found.total() == 30_000
    for name, (first, second) in SHARES.items():
        assert abs(found[name, 200, "v1"] / 100 - first) <= 3, found
        assert abs(found[name, 200, "v2"] / 100 - second) <= 3, found


async def test_redirects(ask):
    answer = await ask("/old/path?q=1")
    assert (answer.status, answer.headers["location"]) == (308, "http://shop.example.com/new/path?q=1")
    answer = await ask("/moved?q=1")
    assert answer.status == 301
    assert answer.headers["location"] == "https://words.example.com/elsewhere?q=1"


async def test_a_direct_response(ask):
    answer = await ask("/teapot")
    assert (answer.status, answer.body) == (418, b"short and stout")


async def test_rewrites_and_what_must_match_for_them(ask):
    answer = await ask("/api/books?version=2")
    seen = answer.json()
    assert (seen["served_by"], seen["path"]) == ("v2", "/v2/books?version=2")
    assert dict(seen["headers"])["host"] == "inside.test"
    assert (await ask("/api/books?version=1")).status == 404


async def test_method_and_regex(ask):
    assert (await ask("/item/17", method="POST")).json()["served_by"] == "v3"
    assert (await ask("/item/17")).status == 404
    assert (await ask("/item/17x", method="POST")).status == 404


async def test_header_operations(ask):
    answer = await ask("/headers", headers=[("x-set", "theirs"), ("x-add", "one"), ("x-secret", "hidden")])
    seen = answer.json()["headers"]
    assert [value for name, value in seen if name == "x-set"] == ["ours"]
    assert ", ".join(value for name, value in seen if name == "x-add").replace(",", ", ").split() == ["one,", "more"]
    assert [name for name, _ in seen if name == "x-secret"] == []
    assert ["x-to", "v1"] in seen
    assert answer.headers["x-answer"] == "ours"
    assert "content-type" not in answer.headers


async def test_a_timeout_is_504_and_the_log_says_ut(shop, ask):
    gateway, _ = shop
    answer = await ask("/sleep/5?which=slow")
    assert answer.status == 504
    line = await gateway.wait_logged(lambda line: "which=slow" in line["path"])
    assert (line["response_code"], line["response_flags"]) == (504, "UT")
    assert 300 <= line["duration"] < 1500
    assert (await ask("/sleep/0.01")).status == 200


async def test_a_retry_goes_to_the_other_endpoint(shop, ask):
    _gateway, workloads = shop
    answers = [await ask("/only/v1/503") for _ in range(20)]
    assert {(answer.status, answer.headers["x-served-by"]) for answer in answers} == {(200, "v2")}
    assert any(request["path"] == "/only/v1/503" for request in workloads.seen("v1")), "the first tries never went to v1"


async def test_attempts_zero_never_retries(shop):
    gateway, _ = shop
    found = await counted(gateway.address, gateway.ingress, [("once", wire("/once", host="words.example.com"))] * 40, connections=4)
    assert found["once", 503, "v1"] > 0
    assert found["once", 200, "v2"] > 0


@pytest.mark.parametrize(
    ("path", "status", "flag"),
    [
        ("/v1close", 503, "UC"),
        ("/v1noise", 502, "UPE"),
        ("/nowhere", 503, "UH"),
        ("/refused", 503, "UF"),
        ("/unknown", 404, "NR"),
    ],
)
async def test_each_way_to_fail_has_its_status_and_flag(shop, ask, path, status, flag):
    gateway, _ = shop
    mark = f"{path}?failure=1"
    assert (await ask(mark)).status == status
    line = await gateway.wait_logged(lambda line: "failure=1" in line["path"] and path.removeprefix("/v1") in line["path"])
    assert line["response_flags"].split(",")[0] == flag, line


async def test_a_body_cut_short_is_not_passed_off_as_whole(shop):
    gateway, _ = shop
    data = await raw(gateway.address, gateway.ingress, wire("/v1half", host="words.example.com"))
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-length: 100" in head
    assert len(body) < 100, "the connection must end early, and not be filled up"


async def test_large_and_chunked_bodies_pass_whole(ask):
    answer = await ask("/v1big/3000000")
    assert (answer.status, len(answer.body)) == (200, 3_000_000)
    answer = await ask("/v1chunked")
    assert b"hello" in answer.body
    assert b" chunks" in answer.body


async def test_metrics_count_what_was_served(shop, ask):
    gateway, _ = shop
    await ask("/teapot")
    text = (await gateway.get("/metrics", host=gateway.address, port=gateway.admin)).body.decode()
    counts = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("istio_requests_total")]
    assert math.fsum(counts) > 0
    rows = await gateway.rows("routes")
    assert {"words.example.com", "reviews.example.com"} <= {domain for row in rows for domain in row["domains"]}
    assert json.dumps(rows)
