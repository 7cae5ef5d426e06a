"""Each way to fail has a status, a gRPC status and a flag that Envoy's log knows."""

from __future__ import annotations

import inspect

import pytest

import gateway.errors
from gateway.errors import FaultAborted, GatewayError, NoHealthyEndpoint, Overflow, Overloaded, RateLimited, to_grpc, to_http

KINDS = [kind for _, kind in inspect.getmembers(gateway.errors, inspect.isclass) if issubclass(kind, GatewayError)]
FLAGS = {"-", "DPE", "NR", "NC", "UH", "UO", "UF", "UC", "UPE", "UT", "DR", "UAEX", "DC", "DF", "RL", "OM", "FI"}


def test_every_failure_is_complete() -> None:
    assert len(KINDS) > 15
    for kind in KINDS:
        assert kind.flag in FLAGS, kind
        assert kind.status == 0 or 400 <= kind.status <= 599, kind
        assert 0 <= kind.grpc <= 16, kind
        assert " " not in kind.detail, kind


def test_the_detail_may_be_said_more_exactly() -> None:
    assert NoHealthyEndpoint().detail == "no_healthy_upstream"
    assert NoHealthyEndpoint("other").detail == "other"


def test_who_is_refused_for_load_is_told_so() -> None:
    for kind in (Overflow, Overloaded):
        assert kind.headers == (b"x-envoy-overloaded: true",)
    assert (RateLimited.status, RateLimited.grpc, RateLimited.flag, RateLimited.body) == (429, 14, "RL", b"local_rate_limited")
    assert RateLimited.headers == ()


@pytest.mark.parametrize(
    ("grpc", "status"),
    [(0, 200), (1, 499), (2, 500), (4, 504), (5, 404), (7, 403), (8, 429), (12, 501), (14, 503), (16, 401), (17, 500), (-1, 500)],
)
def test_what_a_grpc_status_stands_for(grpc: int, status: int) -> None:
    assert to_http(grpc) == status


@pytest.mark.parametrize(("status", "grpc"), [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (503, 14), (504, 14), (418, 2)])
def test_what_an_answer_of_http_is_to_grpc(status: int, grpc: int) -> None:
    assert to_grpc(status) == grpc


def test_a_fault_by_status_or_by_grpc_code() -> None:
    assert (FaultAborted(418).status, FaultAborted(418).grpc) == (418, 2)
    assert (FaultAborted(grpc=8).status, FaultAborted(grpc=8).grpc) == (429, 8)
