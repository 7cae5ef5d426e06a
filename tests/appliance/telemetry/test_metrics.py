"""`/metrics`, parsed back by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from appliance.telemetry.metrics import (
    CertificateReading,
    Instruments,
    PeerReading,
    Reading,
    ShardReading,
    WorkerReading,
    exposition,
)
from gateway.engine import BackendStatistics, EndpointStatistics, RequestSeries, Statistics, TcpSeries

LABELS = (("reporter", "source"), ("destination_service", 'a"b\\c\n'), ("response_code", "200"))
SERIES = RequestSeries(LABELS, 6, (1, 2, 3), 42.5, 600, 6000, (6, 0), (0, 6))
STATISTICS = Statistics(
    duration_bounds=(0.5, 1000.0),
    size_bounds=(100.0,),
    requests=(SERIES,),
    backends=(BackendStatistics("outbound|80||a", (70, 30), True, ((0, "r/z", "east", 7), (1, "r2", "west", 3)), 4, 5),),
    endpoints=(EndpointStatistics("outbound|80||a", "10.0.0.1:80", 1, 1, 9, 2, 1500, "silence"),),
    downstream_connections=3,
    downstream_connections_total=30,
    tls_handshakes=20,
    tls_failures=2,
    refused=(("no_sni", 8),),
    routes=((("checkout", "2xx"), 4),),
    tcp=(TcpSeries((("reporter", "source"), ("response_flags", "-")), 5, 4, 3000, 200),),
)


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def labelled(found, name):
    return {dict(key[1:]).get("le", ""): value for key, value in found.items() if key[0] == name}


def test_istio_s_metrics_with_their_labels_whatever_is_in_them():
    found = samples(exposition(Reading(statistics=STATISTICS)))
    assert found["istio_requests_total", *sorted(LABELS)] == 6
    assert labelled(found, "istio_request_duration_milliseconds_bucket") == {"0.5": 1, "1000.0": 3, "+Inf": 6}
    assert labelled(found, "istio_request_duration_milliseconds_sum") == {"": 42.5}
    assert labelled(found, "istio_request_duration_milliseconds_count") == {"": 6}
    assert labelled(found, "istio_request_bytes_bucket") == {"100.0": 6, "+Inf": 6}
    assert labelled(found, "istio_response_bytes_bucket") == {"100.0": 0, "+Inf": 6}
    assert labelled(found, "istio_response_bytes_sum") == {"": 6000}


def test_istio_s_tcp_metrics():
    found = samples(exposition(Reading(statistics=STATISTICS)))
    labels = (("reporter", "source"), ("response_flags", "-"))
    names = ("connections_opened", "connections_closed", "sent_bytes", "received_bytes")
    assert [found[f"istio_tcp_{name}_total", *labels] for name in names] == [5, 4, 3000, 200]


def test_types_are_as_istio_declares_them():
    text = exposition(Reading(statistics=STATISTICS)).decode()
    types = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert types["istio_requests"] == "counter"
    assert types["istio_request_duration_milliseconds"] == "histogram"
    assert types["istio_tcp_connections_opened"] == types["istio_tcp_sent_bytes"] == "counter"
    assert types["istio_request_bytes"] == types["istio_response_bytes"] == "histogram"


def test_traffic_by_priority_and_locality():
    found = samples(exposition(Reading(statistics=STATISTICS)))
    name, backend = "fedgate_backend_requests_total", ("backend", "outbound|80||a")
    assert found[name, backend, ("cluster", "east"), ("locality", "r/z"), ("priority", "0")] == 7
    assert found[name, backend, ("cluster", "west"), ("locality", "r2"), ("priority", "1")] == 3
    assert found["fedgate_backend_priority_load", backend, ("priority", "1")] == 30
    assert found["fedgate_backend_panic", backend] == 1
    assert found["fedgate_endpoint_ejected", backend, ("endpoint", "10.0.0.1:80")] == 1
    assert found["fedgate_backend_retries_total", backend] == 4


def test_the_gateway_s_own_state():
    reading = Reading(
        statistics=STATISTICS,
        workers=(WorkerReading(0, True, 0), WorkerReading(1, False, 3)),
        peers=(PeerReading("west", False),),
        shards=(ShardReading("east", "static", 1.5),),
        certificates=(CertificateReading("web", "ab", 2e9),),
        documents={"good": 4, "bad": 1},
        parts=12,
    )
    found = samples(exposition(reading))
    assert found["fedgate_worker_up", ("worker", "1")] == 0
    assert found["fedgate_worker_restarts_total", ("worker", "1")] == 3
    assert found["fedgate_peer_up", ("peer", "west")] == 0
    assert found["fedgate_shard_age_seconds", ("cluster", "east"), ("source", "static")] == 1.5
    assert found["fedgate_certificate_expiry_timestamp_seconds", ("name", "web"), ("serial", "ab")] == 2e9
    assert found["fedgate_refused_total", ("reason", "no_sni")] == 8
    assert found["fedgate_route_requests_total", ("response_code_class", "2xx"), ("stat_prefix", "checkout")] == 4
    assert found["fedgate_documents", ("status", "bad")] == 1
    assert found["fedgate_snapshot_parts",] == 12


def test_what_control_counts_itself():
    instruments = Instruments()
    instruments.failovers.labels("b").inc()
    instruments.convergence.observe(0.3)
    found = samples(exposition(Reading(), instruments))
    assert found["fedgate_failover_total", ("backend", "b")] == 1
    assert found["fedgate_snapshot_convergence_seconds_bucket", ("le", "0.5")] == 1
    assert found["fedgate_snapshot_convergence_seconds_bucket", ("le", "0.25")] == 0
    assert not any("created" in key[0] for key in found)


def test_an_empty_gateway_has_metrics_too():
    assert samples(exposition(Reading()))["fedgate_downstream_connections",] == 0
