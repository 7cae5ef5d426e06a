"""Whole exchanges, interleaved, with small windows: our codec in both roles against the `h2` library and against itself."""

import itertools

import pytest
from h2_dialogue import GET, POST, Ours, Theirs, frames_of, join
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PAIRINGS = [(Ours, Theirs), (Theirs, Ours), (Ours, Ours)]

names = st.sampled_from(
    [b"x-a", b"accept", b"user-agent", b"content-type", b"etag", b"x-very-long-name-of-a-field", b"cache-control"]
)
values = st.text(alphabet=[chr(c) for c in range(0x21, 0x7F)], max_size=40).map(str.encode) | st.integers(200, 3000).map(
    lambda n: b"v" * n
)
pairs = st.lists(st.tuples(names, values), max_size=6)
trailers = st.just([]) | st.lists(st.tuples(st.sampled_from([b"grpc-status", b"x-checksum"]), values), min_size=1, max_size=2)
bodies = st.lists(st.sampled_from([1, 2, 100, 5_000, 16_384, 16_385, 70_000]), max_size=3)


@st.composite
def exchanges(draw):
    """What one request and its answer are made of; reset: (by whom, after how many of its steps), code."""
    return {
        "request": draw(pairs),
        "upload": draw(st.none() | bodies),
        "upload_trailers": draw(trailers),
        "interim": draw(st.integers(0, 2)),
        "status": draw(st.sampled_from([200, 201, 404, 500, 503])),
        "response": draw(pairs),
        "download": draw(st.none() | bodies),
        "download_trailers": draw(trailers),
        "reset": draw(st.none() | st.tuples(st.booleans(), st.integers(1, 8), st.integers(0, 13))),
    }


def body(size: int, seed: int) -> bytes:
    return bytes((seed + at) & 0xFF for at in range(251)) * (size // 251) + b"." * (size % 251)


def steps(plan, client, server):
    """Yields after each step. Whoever acts first sees the other's bytes only when the test joins them."""
    upload, download = plan["upload"], plan["download"]
    sid = client.request((GET if upload is None else POST) + plan["request"], end=upload is None)
    yield sid
    for size in upload or ():
        client.body(sid, body(size, 1))
        yield sid
    if upload is not None:
        client.finish(sid, plan["upload_trailers"])
        yield sid
    for _ in range(plan["interim"]):
        server.respond(sid, 103, [(b"link", b"</a>")], end=False)
        yield sid
    server.respond(sid, plan["status"], plan["response"], end=download is None)
    yield sid
    for size in download or ():
        server.body(sid, body(size, 7))
        yield sid
    if download is not None:
        server.finish(sid, plan["download_trailers"])
        yield sid


def expected(plan):
    """(what the server hears, what the client hears) of an exchange that nobody resets."""
    method = b"GET" if plan["upload"] is None else b"POST"
    asked = sorted([(b":method", method), (b":path", b"/"), (b"host", b"a.test"), *plan["request"]])
    heard = [("head", asked)]
    told = [("interim", 103, [(b"link", b"</a>")])] * plan["interim"] + [("head", plan["status"], sorted(plan["response"]))]
    for page, sizes, seed, last in (
        (heard, plan["upload"], 1, "upload_trailers"),
        (told, plan["download"], 7, "download_trailers"),
    ):
        if sizes:
            page.append(("body", b"".join(body(size, seed) for size in sizes)))
        if sizes is not None and plan[last]:
            page.append(("trailers", sorted(plan[last])))
        page.append(("end",))
    return heard, told


def is_beginning(page, whole):
    """Whether a page that ends in a reset agrees with the whole story as far as it goes."""
    for noted, meant in itertools.zip_longest(page[:-1], whole):
        if noted is None:
            return True
        if meant is None:
            return False
        if noted != meant:
            return noted[0] == meant[0] == "body" and meant[1].startswith(noted[1]) and noted is page[:-1][-1]
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("make_client", "make_server"), PAIRINGS)
@settings(max_examples=120, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
@given(data=st.data())
def test_both_sides_hear_what_was_said(make_client, make_server, data):
    plans = data.draw(st.lists(exchanges(), min_size=1, max_size=4))
    cuts = data.draw(st.lists(st.integers(200, 40_000), min_size=1, max_size=5))
    client = make_client(client=True, window=data.draw(st.sampled_from([2_000, 65_535, 1_000_000])))
    server = make_server(client=False, window=data.draw(st.sampled_from([2_000, 65_535, 1_000_000])))
    join(client, server)
    running = [(plan, steps(plan, client, server), []) for plan in plans]
    begun: list = []
    streams = {}
    while running:
        index = data.draw(st.integers(0, len(running) - 1))
        plan, walk, done = running[index]
        join(client, server, cuts)
        by = plan["reset"]
        if by is not None and len(done) == by[1]:
            (client if by[0] else server).reset(streams[id(plan)], by[2])
            del running[index]
            continue
        try:
            streams[id(plan)] = next(walk)
        except StopIteration:
            del running[index]
            plan["reset"] = None
            begun.append(plan)
            continue
        done.append(1)
        for side in (client, server):
            if isinstance(side, Theirs) and data.draw(st.booleans()):
                side.change(data.draw(st.sampled_from([4_000, 70_000])), data.draw(st.sampled_from([0, 100, 4096])))
    join(client, server, cuts)
    for plan in plans:
        sid = streams[id(plan)]
        heard, told = server.heard.get(sid, []), client.heard.get(sid, [])
        meant_heard, meant_told = expected(plan)
        if plan["reset"] is None:
            assert heard == meant_heard
            assert told == meant_told
        else:
            by_client, _, code = plan["reset"]
            reader = heard if by_client else told
            if reader and reader[-1][0] == "reset":
                assert reader[-1] == ("reset", code)
            assert is_beginning([*heard, ("reset",)] if not heard or heard[-1][0] != "reset" else heard, meant_heard)
            assert is_beginning([*told, ("reset",)] if not told or told[-1][0] != "reset" else told, meant_told)
    for side in (client, server):
        if isinstance(side, Ours):
            assert not side.codec._waiting


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
@given(plans=st.lists(exchanges(), min_size=1, max_size=3), cuts=st.lists(st.integers(1, 5_000), min_size=1, max_size=6))
def test_where_the_bytes_are_cut_makes_no_difference(plans, cuts):
    client, server = Theirs(client=True), Ours(client=False)
    said = [join(client, server)]
    for plan in plans:
        for _ in steps(plan, client, server):
            said.append(join(client, server))
    asked = b"".join(one for one, _ in said)
    whole, cut = Ours(client=False, window=10_000_000), Ours(client=False, window=10_000_000)  # all comes before any is consumed
    whole.receive(asked)
    sizes = itertools.cycle(cuts)
    while asked:
        size = next(sizes)
        cut.receive(asked[:size])
        asked = asked[size:]
    assert cut.heard == whole.heard == server.heard


def test_each_byte_alone():
    client, server = Ours(client=True), Theirs(client=False)
    sid = client.request([*POST, (b"x-a", b"b")], end=False)
    client.body(sid, b"hello")
    client.finish(sid, [(b"x-sum", b"1")])
    join(client, server, [1])
    server.respond(sid, 200, [(b"x-b", b"c")], end=False)
    server.body(sid, b"world")
    server.finish(sid, [])
    join(client, server, [1])
    assert client.heard[sid] == [("head", 200, [(b"x-b", b"c")]), ("body", b"world"), ("end",)]
    assert server.heard[sid][1:] == [("body", b"hello"), ("trailers", [(b"x-sum", b"1")]), ("end",)]


def test_a_smaller_table_is_acknowledged_by_a_size_update_once():
    client, server = Theirs(client=True), Ours(client=False)
    join(client, server)
    client.change(65_535, 100)
    for _ in range(2):
        sid = client.request(GET, end=True)
        join(client, server)
        server.respond(sid, 200, [], end=True)
        said = join(client, server)[1]
        blocks = [payload for kind, _, _, payload in frames_of(said) if kind == 1]
        assert blocks == [b"\x20\x88" if sid == 1 else b"\x88"]
