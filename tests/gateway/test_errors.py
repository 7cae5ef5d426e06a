"""Each way to fail has a status, a gRPC status and a flag that Envoy's log knows."""

from __future__ import annotations

import inspect

import gateway.errors
from gateway.errors import GatewayError, NoHealthyEndpoint

KINDS = [kind for _, kind in inspect.getmembers(gateway.errors, inspect.isclass) if issubclass(kind, GatewayError)]
FLAGS = {"-", "DPE", "NR", "NC", "UH", "UO", "UF", "UC", "UPE", "UT", "DR", "UAEX", "DC"}


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
