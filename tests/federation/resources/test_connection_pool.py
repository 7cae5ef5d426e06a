"""connectionPool as it is written."""

import pytest
from written import assert_one_error, errors, spec

from federation.resources.connection_pool import H2UpgradePolicy


def body(pool: str) -> str:
    return f"host: reviews\ntrafficPolicy: {{connectionPool: {{{pool}}}}}"


def test_every_field():
    pool = spec(
        "DestinationRule",
        body(
            "tcp: {maxConnections: 100, connectTimeout: 30ms, tcpKeepalive: {probes: 3, time: 7200s, interval: 75s},"
            " maxConnectionDuration: 1h, idleTimeout: 0s},"
            "http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s,"
            " h2UpgradePolicy: UPGRADE, useClientProtocol: false, maxConcurrentStreams: 6,"
            " http2KeepAlive: {interval: 10s, timeout: 2s}}"
        ),
    ).traffic_policy.connection_pool
    tcp, http = pool.tcp, pool.http
    assert (tcp.max_connections, tcp.connect_timeout, tcp.max_connection_duration, tcp.idle_timeout) == (100, 30, 3_600_000, 0)
    assert (tcp.tcp_keepalive.probes, tcp.tcp_keepalive.time, tcp.tcp_keepalive.interval) == (3, 7_200_000, 75_000)
    assert (http.http1_max_pending_requests, http.http2_max_requests, http.max_requests_per_connection) == (1, 2, 3)
    assert (http.max_retries, http.idle_timeout, http.max_concurrent_streams) == (4, 5000, 6)
    assert http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE
    assert (http.http2_keep_alive.interval, http.http2_keep_alive.timeout) == (10_000, 2000)


@pytest.mark.parametrize("number", [0, 1, 2**31 - 1, 2**32 - 1])
def test_a_limit_may_be_as_large_as_envoys(number):
    assert errors("DestinationRule", body(f"tcp: {{maxConnections: {number}}}")) == {}


@pytest.mark.parametrize(
    ("pool", "path", "part"),
    [
        ("tcp: {maxConnections: -1}", "tcp.maxConnections", "0..4294967295"),
        ("tcp: {maxConnectionDuration: 0s}", "tcp.maxConnectionDuration", "at least 1ms"),
        ("tcp: {tcpKeepalive: {probes: 128}}", "tcp.tcpKeepalive.probes", "0..127"),
        ("tcp: {tcpKeepalive: {time: 10ms}}", "tcp.tcpKeepalive.time", "seconds"),
        ("tcp: {tcpKeepalive: {interval: 40000s}}", "tcp.tcpKeepalive.interval", "32767s"),
        ("http: {http1MaxPendingRequests: -1}", "http.http1MaxPendingRequests", "0..4294967295"),
        ("http: {maxRetries: -1}", "http.maxRetries", "0..4294967295"),
        ("http: {maxConcurrentStreams: -1}", "http.maxConcurrentStreams", "0 or more"),
        ("http: {h2UpgradePolicy: ALWAYS}", "http.h2UpgradePolicy", "DEFAULT, DO_NOT_UPGRADE, UPGRADE"),
        ("http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}", "http.useClientProtocol", "must not be true"),
        ("http: {http2KeepAlive: {interval: 1s}}", "http.http2KeepAlive", "both interval and timeout"),
        ("http: {http2KeepAlive: {interval: 0s, timeout: 1s}}", "http.http2KeepAlive.interval", "at least 1ms"),
    ],
)
def test_mistakes(pool, path, part):
    assert_one_error("DestinationRule", body(pool), f"spec.trafficPolicy.connectionPool.{path}", part)
