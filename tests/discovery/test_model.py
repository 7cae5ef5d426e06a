"""The nouns."""

from __future__ import annotations

import pytest

from discovery.model import Endpoint, Health, Locality, Port, Protocol, Service, ShardKey


@pytest.mark.parametrize("text", ["", "r", "r/z", "r/z/s"])
def test_a_locality_reads_back_as_written(text: str) -> None:
    assert str(Locality.parse(text)) == text


@pytest.mark.parametrize("text", ["r/z/s/x", "/z", "r//s", "r/"])
def test_a_malformed_locality_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(ValueError, match="write region"):
        Locality.parse(text)


def test_an_endpoint_says_where_a_service_port_listens() -> None:
    endpoint = Endpoint("10.0.0.1", ports=(("http", 8080), ("admin", 9000)))
    assert endpoint.port("http") == 8080
    assert endpoint.port("other") is None


def test_a_service_finds_its_port_by_number() -> None:
    service = Service("a.b", ports=(Port(80, "http", Protocol.HTTP),))
    assert service.port(80) == Port(80, "http", Protocol.HTTP)
    assert service.port(81) is None


def test_what_counts_as_http_and_as_usable() -> None:
    assert Protocol.GRPC.is_http
    assert not Protocol.TLS.is_http
    assert [health for health in Health if not health.usable] == [Health.UNHEALTHY, Health.DRAINING]


def test_a_shard_key_reads_as_cluster_and_source() -> None:
    assert str(ShardKey("east", "k8s")) == "east/k8s"
