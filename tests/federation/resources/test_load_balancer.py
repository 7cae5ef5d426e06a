"""loadBalancer as it is written (FIELD c5, c6, c8)."""

import pytest
from written import assert_one_error, errors, spec, warnings

from federation.resources.load_balancer import SimpleLB, is_prime

AT = "spec.trafficPolicy.loadBalancer"


def body(text: str) -> str:
    return f"host: reviews\ntrafficPolicy: {{loadBalancer: {{{text}}}}}"


def hashing(text: str) -> str:
    return body(f"consistentHash: {{{text}}}")


def test_every_key_and_table():
    assert spec("DestinationRule", body("simple: PASSTHROUGH")).traffic_policy.load_balancer.simple is SimpleLB.PASSTHROUGH
    said = spec(
        "DestinationRule",
        hashing("httpCookie: {name: user, path: /p, ttl: 0s, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}"),
    )
    cookie = said.traffic_policy.load_balancer.consistent_hash.http_cookie
    assert (cookie.name, cookie.path, cookie.ttl) == ("user", "/p", 0)
    assert [(each.name, each.value) for each in cookie.attributes] == [("SameSite", "Lax"), ("Secure", "")]
    for key in ("httpHeaderName: x-user", "useSourceIp: true", "httpQueryParameterName: user", "httpCookie: {name: a}"):
        assert errors("DestinationRule", hashing(f"{key}, ringHash: {{}}")) == {}
        assert errors("DestinationRule", hashing(f"{key}, maglev: {{tableSize: 5000009}}")) == {} or not is_prime(5000009)


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("consistentHash: {}", ".consistentHash", "nothing to hash"),
        ("consistentHash: {useSourceIp: true, httpHeaderName: x}", ".consistentHash", "only one of httpHeaderName, useSourceIp"),
        ("consistentHash: {httpHeaderName: 'a b'}", ".consistentHash.httpHeaderName", "no header name"),
        ("consistentHash: {httpCookie: {ttl: 1s}}", ".consistentHash.httpCookie.name", "name required for HttpCookie"),
        ("consistentHash: {httpCookie: {name: 'a;b'}}", ".consistentHash.httpCookie.name", "RFC 6265"),
        ("consistentHash: {httpCookie: {name: a, path: '/;x'}}", ".consistentHash.httpCookie.path", "no `;`"),
        (
            "consistentHash: {httpCookie: {name: a, attributes: [{name: 'a;b'}]}}",
            ".consistentHash.httpCookie.attributes[0]",
            "attribute",
        ),
        ("consistentHash: {useSourceIp: true, ringHash: {}, maglev: {}}", ".consistentHash", "only one of ringHash, maglev"),
        ("consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}", ".consistentHash.maglev.tableSize", "prime"),
        ("consistentHash: {useSourceIp: true, maglev: {tableSize: 0}}", ".consistentHash.maglev.tableSize", "prime"),
        ("consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}", ".consistentHash.maglev.tableSize", "less than"),
        (
            "consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}",
            ".consistentHash.ringHash.minimumRingSize",
            "0..8388608",
        ),
        (
            "consistentHash: {useSourceIp: true, minimumRingSize: 5, maglev: {}}",
            ".consistentHash.minimumRingSize",
            "only one of MinimumRingSize or Maglev/Ringhash",
        ),
        ("simple: RANDOM, consistentHash: {useSourceIp: true}", "", "only one of simple, consistentHash"),
        ("warmup: {}", ".warmup.duration", "is required"),
        ("warmup: {duration: 0s}", ".warmup.duration", "at least 1ms"),
        ("warmup: {duration: 1s, minimumPercent: 101}", ".warmup.minimumPercent", "less than or equal to 100"),
        ("warmup: {duration: 1s, aggression: 0.5}", ".warmup.aggression", "greater than or equal to 1"),
        ("warmup: {duration: 1s, aggression: .nan}", ".warmup.aggression", "must be a number"),
        ("warmup: {duration: 1s}, warmupDurationSecs: 1s", ".warmupDurationSecs", "only one of WarmupDurationSecs or Warmup"),
    ],
)
def test_mistakes(text, path, part):
    assert_one_error("DestinationRule", body(text), f"{AT}{path}", part)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("warmupDurationSecs: 10s", "is deprecated"),
        ("simple: RANDOM, warmup: {duration: 1s}", "does nothing here"),
        ("consistentHash: {useSourceIp: true, minimumRingSize: 2048}", "is deprecated"),
        ("consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 1000000}}", "costs each worker about 100 MB"),
        ("consistentHash: {httpCookie: {name: a, ttl: 1500ms}}", "whole seconds"),
    ],
)
def test_warnings(text, part):
    assert part in str(warnings("DestinationRule", body(text)))
    assert errors("DestinationRule", body(text)) == {}


def test_primes():
    assert [number for number in range(20) if is_prime(number)] == [2, 3, 5, 7, 11, 13, 17, 19]
    assert is_prime(65537)
    assert not is_prime(65535)
