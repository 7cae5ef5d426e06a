"""DestinationRule documents."""

import pytest
from written import assert_one_error, errors, spec, warnings

from federation.resources.destination_rule import ClientTlsMode, SimpleLB


def with_policy(policy: str) -> str:
    return f"host: reviews\ntrafficPolicy: {{{policy}}}"


def test_everything_this_release_does():
    said = spec(
        "DestinationRule",
        """
        host: reviews.shop.svc.cluster.local
        trafficPolicy:
          loadBalancer:
            simple: ROUND_ROBIN
            localityLbSetting: {enabled: true, failover: [{from: east, to: west}]}
          connectionPool:
            tcp: {connectTimeout: 250ms}
            http: {idleTimeout: 30s, maxRequestsPerConnection: 1, http2MaxRequests: 1000}
          outlierDetection:
            splitExternalLocalOriginErrors: true
            consecutiveLocalOriginFailures: 3
            consecutiveGatewayErrors: 2
            consecutive5xxErrors: 0
            interval: 1s
            baseEjectionTime: 5s
            maxEjectionPercent: 100
            minHealthPercent: 0
            outlierDetectionHttpErrorCodes: [500, 503]
          tls: {mode: MUTUAL, clientCertificate: a, privateKey: b, caCertificates: c, subjectAltNames: [d], sni: e}
          portLevelSettings:
          - port: {number: 80}
            loadBalancer: {simple: LEAST_CONN}
        subsets:
        - name: v1
          labels: {version: v1}
          trafficPolicy: {loadBalancer: {simple: RANDOM}}
        exportTo: ['*']
        """,
    )
    policy = said.traffic_policy
    assert policy.load_balancer.locality_lb_setting.failover[0].from_ == "east"
    assert policy.connection_pool.tcp.connect_timeout == 250
    assert (policy.outlier_detection.consecutive_5xx_errors, policy.outlier_detection.interval) == (0, 1000)
    assert policy.tls.mode is ClientTlsMode.MUTUAL
    assert policy.port_level_settings[0].load_balancer.simple is SimpleLB.LEAST_REQUEST  # LEAST_CONN's new name
    assert said.subsets[0].traffic_policy.load_balancer.simple is SimpleLB.RANDOM


@pytest.mark.parametrize(
    ("policy", "path", "part"),
    [
        ("", "", "trafficPolicy is empty"),
        ("loadBalancer: {simple: ROUNDROBIN}", "loadBalancer.simple", "did you mean `ROUND_ROBIN`"),
        ("connectionPool: {}", "connectionPool", "is empty"),
        ("connectionPool: {tcp: {connectTimeout: 0s}}", "connectionPool.tcp.connectTimeout", "at least 1ms"),
        ("connectionPool: {http: {http2MaxRequests: -1}}", "connectionPool.http.http2MaxRequests", "0..4294967295"),
        ("connectionPool: {http: {maxRequestsPerConnection: -1}}", "connectionPool.http.maxRequestsPerConnection", "0..536870912"),
        ("connectionPool: {http: {idleTimeout: 0s}}", "connectionPool.http.idleTimeout", "at least 1ms"),
        ("outlierDetection: {maxEjectionPercent: 101}", "outlierDetection.maxEjectionPercent", "0..100"),
        ("outlierDetection: {minHealthPercent: -1}", "outlierDetection.minHealthPercent", "0..100"),
        ("outlierDetection: {interval: 0s}", "outlierDetection.interval", "at least 1ms"),
        ("outlierDetection: {baseEjectionTime: 0.1ms}", "outlierDetection.baseEjectionTime", "finer than a millisecond"),
        ("outlierDetection: {consecutive5xxErrors: -1}", "outlierDetection.consecutive5xxErrors", "0 or more"),
        (
            "outlierDetection: {consecutiveLocalOriginFailures: 5}",
            "outlierDetection.consecutiveLocalOriginFailures",
            "splitExternal",
        ),
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [99]}",
            "outlierDetection.outlierDetectionHttpErrorCodes[0]",
            "100..599",
        ),
        ("tls: {mode: MUTUAL, clientCertificate: a}", "tls", "MUTUAL needs `privateKey`"),
        ("tls: {mode: MUTUAL, privateKey: a}", "tls", "MUTUAL needs `clientCertificate`"),
        ("tls: {mode: MUTUAL, credentialName: a, privateKey: b}", "tls.credentialName", "excludes privateKey"),
        ("tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: a}", "tls.insecureSkipVerify", "excludes"),
        ("tls: {mode: SIMPLE, credentialName: b, caCrl: a}", "tls.caCrl", "goes with files"),
        ("tls: {mode: SIMPLE, credentialName: 'configmap://a'}", "tls.credentialName", "names no Secret"),
        ("tunnel: {targetPort: 1}", "tunnel.targetHost", "is required"),
        ("tunnel: {targetHost: '*.a.b', targetPort: 1}", "tunnel.targetHost", "wildcard"),
        ("tunnel: {targetHost: a.b, targetPort: 0}", "tunnel.targetPort", "1..65535"),
        ("tunnel: {targetHost: a.b, targetPort: 1, protocol: GET}", "tunnel.protocol", "CONNECT"),
        ("proxyProtocol: {version: V3}", "proxyProtocol.version", "V1, V2"),
        ("tunnel: {targetHost: a.b, targetPort: 1}, proxyProtocol: {}", "proxyProtocol", "must not be set together"),
        ("retryBudget: {percent: 101}", "retryBudget.percent", "0..100"),
        ("retryBudget: {percent: much}", "retryBudget.percent", "must be a number"),
        ("retryBudget: {minRetryConcurrency: -1}", "retryBudget.minRetryConcurrency", "0 or more"),
        ("tls: {mode: PASSTHROUGH}", "tls.mode", "must be one of DISABLE"),
        ("portLevelSettings: [{loadBalancer: {}}]", "portLevelSettings[0].port", "is required"),
        ("portLevelSettings: [{port: {number: 80}}]", "portLevelSettings[0]", "is empty"),
        (
            "portLevelSettings: [{port: {number: 80}, tls: {}}, {port: {number: 80}, tls: {}}]",
            "portLevelSettings[1].port",
            "already",
        ),
    ],
)
def test_mistakes_of_a_policy(policy, path, part):
    assert_one_error("DestinationRule", with_policy(policy), f"spec.trafficPolicy.{path}".rstrip("."), part)


@pytest.mark.parametrize(
    ("failover", "path", "part"),
    [
        ("from: a, to: a", "", "two different regions"),
        ("from: a/b, to: c", ".from", "regions only"),
        ("from: a, to: c/d", ".to", "regions only"),
        ("from: a, to: '*'", ".to", "no `*`"),
        ("from: a", ".to", "is empty"),
    ],
)
def test_mistakes_of_failover(failover, path, part):
    policy = f"outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {{failover: [{{{failover}}}]}}}}"
    assert_one_error(
        "DestinationRule", with_policy(policy), f"spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0]{path}", part
    )


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("subsets: []", "host", "is required"),
        ("host: a.*", "host", "left-most"),
        ("host: a\nsubsets: [{name: v1}, {name: v1}]", "subsets[1].name", "written twice"),
        ("host: a\nsubsets: [{name: v_1}]", "subsets[0].name", "no subset name"),
        ("host: a\nsubsets: [{name: v1, labels: {a: 'b c'}}]", "subsets[0].labels.a", "no label value"),
        ("host: a\nsubsets: [{labels: {}}]", "subsets[0].name", "is required"),
        ("host: a\nexportTo: [a_b]", "exportTo[0]", "no namespace"),
        ("host: a\nworkloadSelector: {matchLabels: {a: 'b*'}}", "workloadSelector.matchLabels.a", "no wildcards"),
    ],
)
def test_mistakes_of_the_whole(body, path, part):
    assert_one_error("DestinationRule", body, f"spec.{path}", part)


def test_rare_blocks():
    said = spec(
        "DestinationRule",
        """
        host: reviews
        workloadSelector: {matchLabels: {istio: egress}}
        trafficPolicy:
          tunnel: {protocol: POST, targetHost: 10.0.0.1, targetPort: 3128}
          retryBudget: {percent: 12.5, minRetryConcurrency: 0}
        subsets: [{name: v1, trafficPolicy: {proxyProtocol: {}}}]
        """,
    )
    assert said.workload_selector.match_labels == {"istio": "egress"}
    assert (said.traffic_policy.tunnel.protocol, said.traffic_policy.tunnel.target_port) == ("POST", 3128)
    assert said.traffic_policy.retry_budget.percent == 12.5
    assert said.subsets[0].traffic_policy.proxy_protocol.version.value == "V1"


def test_what_does_nothing_is_warned_about():
    assert "does nothing" in str(warnings("DestinationRule", with_policy("outlierDetection: {consecutiveErrors: 5}")))
    assert "every gateway" in str(warnings("DestinationRule", "host: a\nworkloadSelector: {}"))


def test_istios_warning_of_failover_without_outlier_detection():
    policy = "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}"
    (message,) = warnings("DestinationRule", with_policy(policy)).values()
    assert message.startswith("outlier detection policy must be provided for failover")
    assert warnings("DestinationRule", with_policy(f"{policy}, outlierDetection: {{}}")) == {}


def test_certificates_that_a_mode_does_not_use_are_warned_about():
    assert "does not use clientCertificate" in str(
        warnings("DestinationRule", with_policy("tls: {mode: ISTIO_MUTUAL, clientCertificate: a}"))
    )
    assert "sends no client certificate" in str(
        warnings("DestinationRule", with_policy("tls: {mode: SIMPLE, clientCertificate: a}"))
    )
    assert errors("DestinationRule", with_policy("tls: {mode: SIMPLE, clientCertificate: a}")) == {}


def test_failover_from_one_region_twice_is_warned_about():
    policy = "outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}, {from: a, to: c}]}}"
    assert "the first holds" in str(warnings("DestinationRule", with_policy(policy)))
