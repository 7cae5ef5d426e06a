"""Counters over workers: sums, gauges, and what the dead leave."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.merge import Totals, merge, without_gauges
from gateway.engine import BackendStatistics, EndpointStatistics, RequestSeries, Statistics, TcpSeries

A = (("destination_service", "a"),)
B = (("destination_service", "b"),)


def series(labels, count, *, size=()):
    return RequestSeries(labels, count, (count, 0), count * 2.0, count * 3, count * 4, size, size)


def reading(**counts):
    return Statistics(version="v", duration_bounds=(1.0,), **counts)


def test_series_are_summed_by_their_labels():
    merged = merge([reading(requests=(series(A, 1), series(B, 2))), reading(requests=(series(A, 10),))])
    assert {s.labels: s.count for s in merged.requests} == {A: 11, B: 2}
    first = merged.requests[0]
    assert (first.duration_buckets, first.duration_sum_ms) == ((11, 0), 22.0)
    assert (first.request_bytes, first.response_bytes) == (33, 44)


def test_relayed_connections_are_summed_by_their_labels():
    merged = merge([reading(tcp=(TcpSeries(A, 1, 2, 3, 4), TcpSeries(B, 1))), reading(tcp=(TcpSeries(A, 10, 20, 30, 40),))])
    assert merged.tcp == (TcpSeries(A, 11, 22, 33, 44), TcpSeries(B, 1))


def test_buckets_that_one_side_lacks_are_the_other_s():
    merged = merge([reading(requests=(series(A, 1, size=(1, 2)),)), reading(requests=(series(A, 1),))])
    assert merged.requests[0].request_bytes_buckets == (1, 2)


def test_different_buckets_are_a_bug_that_is_not_hidden():
    other = msgspec.structs.replace(series(A, 1), duration_buckets=(1, 2, 3))
    with pytest.raises(ValueError, match="zip"):
        merge([reading(requests=(series(A, 1),)), reading(requests=(other,))])


def test_endpoints_are_summed_and_the_longest_ejection_is_shown():
    left = EndpointStatistics("b", "e", 1, 2, 30, 4, 0, "", 100, 900)
    right = EndpointStatistics("b", "e", 10, 20, 3, 40, 700, "silence", 50, 5000)
    assert merge([reading(endpoints=(left,)), reading(endpoints=(right,))]).endpoints == (
        EndpointStatistics("b", "e", 11, 22, 33, 44, 700, "silence", 100, 5000),
    )


def test_traffic_is_summed_by_priority_locality_and_cluster():
    left = BackendStatistics("b", (100, 0), False, ((0, "r/z", "east", 5),), 1, 2)
    right = BackendStatistics("b", (90, 10), True, ((0, "r/z", "east", 1), (1, "r2", "west", 2)), 10, 20)
    assert merge([reading(backends=(left,)), reading(backends=(right,))]).backends == (
        BackendStatistics("b", (100, 0), True, ((0, "r/z", "east", 6), (1, "r2", "west", 2)), 11, 22),
    )


def test_gauges_die_with_their_worker():
    endpoint = EndpointStatistics("b", "e", 5, 5, 5, 5, 5, "silence", 5, 5)
    left = without_gauges(
        reading(endpoints=(endpoint,), backends=(BackendStatistics("b", (100,), True),), downstream_connections=3, draining=True)
    )
    assert left.endpoints == (EndpointStatistics("b", "e", 0, 0, 5, 5),)
    assert left.backends == (BackendStatistics("b"),)
    assert (left.downstream_connections, left.draining, left.version) == (0, False, "")


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["count", "die"])), max_size=40))
def test_no_total_ever_falls(events):
    totals, counts, before = Totals(), dict.fromkeys(range(4), 0), 0
    for worker, event in events:
        if event == "count":
            counts[worker] += 1
            totals.update(
                worker, reading(requests=(series(A, counts[worker]),), tls_handshakes=counts[worker], refused=(("x", 1),))
            )
        else:
            counts[worker] = 0
            totals.died(worker)
            totals.died(worker)
        merged = totals.merged()
        now = sum(each.count for each in merged.requests)
        assert now >= before
        assert merged.tls_handshakes == now
        before = now


def test_what_the_snapshot_no_longer_has_is_forgotten_in_the_base():
    totals = Totals()
    endpoints = tuple(EndpointStatistics("b", name, 0, 0, 1, 0) for name in ("old", "new"))
    totals.update(0, reading(endpoints=endpoints, backends=(BackendStatistics("b"), BackendStatistics("gone"))))
    totals.died(0)
    totals.keep({"b"}, {("b", "new")})
    merged = totals.merged()
    assert [each.id for each in merged.endpoints] == ["new"]
    assert [each.backend for each in merged.backends] == ["b"]


def test_questions_to_the_nameserver_are_summed():
    assert dict(merge([reading(dns=(("kept", 3), ("made", 1))), reading(dns=(("kept", 4),))]).dns) == {"kept": 7, "made": 1}
