"""ratelimit: one bucket made of what each worker wrote; what tells requests apart."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.ratelimit import Bucket, debt, descriptor, taken
from gateway.snapshot import RateLimit

S = 1_000_000_000


class Head:
    def __init__(self, method=b"GET", path=b"/", **headers):
        self.method, self.path = method, path
        self.headers = {name.replace("_", "-").encode(): value for name, value in headers.items()}

    def values(self, name):
        return self.headers.get(name, [])


class Gateway:
    """Some workers and one bucket. late: how often a worker reads, others write, and only then does it write."""

    def __init__(self, limit, workers=1):
        self.bucket = Bucket.of(limit)
        self.marks = [(0, 0)] * workers

    def decide(self, worker, now):
        return taken(self.marks[worker], [mark for index, mark in enumerate(self.marks) if index != worker], self.bucket, now)

    def ask(self, now, worker=0):
        mark = self.decide(worker, now)
        if mark is not None:
            self.marks[worker] = mark
        return mark is not None


def test_a_burst_then_evenly_at_the_rate():
    gateway = Gateway(RateLimit(tokens=4, per_ms=2000, burst=3))
    assert [gateway.ask(10 * S) for _ in range(5)] == [True, True, True, False, False]
    # Two a second, evenly: as Envoy 1.40, where nothing waits for the end of the interval.
    passed = [now for now in range(10 * S, 13 * S, S // 10) if gateway.ask(now)]
    assert len(passed) == 5
    assert min(later - earlier for earlier, later in pairwise(passed)) >= S // 2


def test_a_full_bucket_holds_no_more_than_its_burst():
    gateway = Gateway(RateLimit(tokens=10, per_ms=1000, burst=3))
    assert gateway.ask(1 * S)
    assert [gateway.ask(1000 * S) for _ in range(4)] == [True, True, True, False]


def test_burst_is_the_tokens_unless_written():
    assert Bucket.of(RateLimit(5, 1000)).burst == 5
    assert Bucket.of(RateLimit(5, 1000)).rate == pytest.approx(5 / S)


def test_workers_take_from_one_bucket():
    gateway = Gateway(RateLimit(tokens=6, per_ms=60_000), workers=3)
    assert [gateway.ask(S + n, worker=n % 3) for n in range(8)] == [True] * 6 + [False] * 2
    assert sum(count for _, count in gateway.marks) == 6


def test_marks_of_a_time_that_is_over_count_no_more():
    gateway = Gateway(RateLimit(tokens=2, per_ms=1000), workers=2)
    assert gateway.ask(S, 0)
    assert gateway.ask(S, 0)
    assert not gateway.ask(S, 1)
    assert [gateway.ask(60 * S, 1) for _ in range(3)] == [True, True, False]
    assert debt(gateway.marks, gateway.bucket.rate, 60 * S) == pytest.approx(2)


REQUESTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 400)), min_size=1, max_size=200)


@settings(max_examples=300)
@given(REQUESTS, st.integers(1, 5), st.integers(1, 6))
def test_over_any_time_never_more_than_burst_and_rate(requests, tokens, burst):
    gateway = Gateway(RateLimit(tokens, 1000, burst), workers=3)
    now, passed = S, []
    for worker, after_ms in requests:
        now += after_ms * 1_000_000
        if gateway.ask(now, worker):
            passed.append(now)
    for index, first in enumerate(passed):
        for count, last in enumerate(passed[index:], 1):
            assert count <= burst + gateway.bucket.rate * (last - first) + 1e-6


@settings(max_examples=300)
@given(REQUESTS, st.integers(1, 5), st.integers(1, 6))
def test_what_could_pass_does_pass(requests, tokens, burst):
    """Three workers together let through what one bucket would."""
    gateway, one = Gateway(RateLimit(tokens, 1000, burst), workers=3), Gateway(RateLimit(tokens, 1000, burst))
    now = S
    for worker, after_ms in requests:
        now += after_ms * 1_000_000
        assert gateway.ask(now, worker) == one.ask(now)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.booleans()), min_size=1, max_size=120), st.integers(1, 5))
def test_two_workers_that_look_at_the_same_moment_exceed_it_by_one_each_at_most(steps, burst):
    """Each worker looks (False) and writes (True) in any order of the two: what it wrote may rest on what it saw long ago."""
    gateway = Gateway(RateLimit(1, 3_600_000, burst), workers=2)
    looked, passed = [None, None], 0
    for number, (worker, writes) in enumerate(steps):
        if not writes:
            looked[worker] = gateway.decide(worker, S + number)
        elif looked[worker] is not None:
            gateway.marks[worker], looked[worker] = looked[worker], None
            passed += 1
    assert passed <= burst + 2


def test_two_that_find_the_bucket_full_at_the_same_moment_do_not_open_it_twice():
    gateway = Gateway(RateLimit(3, 3_600_000), workers=2)
    gateway.marks[0] = gateway.decide(0, S)
    late = (S + 5, 1)  # what the other decides that looked before this was written, and then sleeps
    assert gateway.ask(S + 6, 0)
    assert gateway.ask(S + 7, 0)
    gateway.marks[1] = late
    assert not gateway.ask(S + 8, 0)
    assert not gateway.ask(S + 8, 1)


@pytest.mark.parametrize(
    ("limit", "head", "expected"),
    [
        (RateLimit(1), Head(), ()),
        (RateLimit(1, by=(("source", ""), ("path", ""), ("method", ""))), Head(path=b"/a"), ("192.0.2.1", b"/a", b"GET")),
        (RateLimit(1, by=(("header", "x-key"),)), Head(x_key=[b"a", b"b"]), (b"a,b",)),
        (RateLimit(1, by=(("header", "x-key"),)), Head(), None),  # lacks it: not limited by this
        (RateLimit(1, by=(("identity", ""),)), Head(), ("spiffe://a",)),
        (RateLimit(1, by=(("claim", "tenant.id"),)), Head(), ("t1",)),
        (RateLimit(1, by=(("claim", "sub"),)), Head(), None),
        (RateLimit(1, match=(("x-plan", "free"),)), Head(x_plan=[b"free"]), ()),
        (RateLimit(1, match=(("x-plan", "free"),)), Head(x_plan=[b"paid"]), None),
        (RateLimit(1, match=(("x-plan", ""),)), Head(x_plan=[b"paid"]), ()),
        (RateLimit(1, match=(("x-plan", ""),)), Head(), None),
    ],
)
def test_what_tells_requests_apart(limit, head, expected):
    claims = {"tenant.id": "t1"}
    assert descriptor(limit, head, source="192.0.2.1", identity="spiffe://a", claims=claims) == expected


def test_a_client_without_certificate_or_token_is_not_limited_by_them():
    for kind in ("identity", "claim"):
        assert descriptor(RateLimit(1, by=((kind, "x"),)), Head(), source="a", identity="", claims=None) is None
