"""Faults to be injected: what may be written, and what nobody implements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import assert_one_error, spec, warnings

from federation.resources.injection import grpc_code
from federation.resources.percent import Percent, share


def with_fault(fault: str) -> str:
    return f"hosts: [a]\nhttp: [{{route: [{{destination: {{host: a}}}}], fault: {{{fault}}}}}]"


ONE = "percentage: {value: 1}"


@pytest.mark.parametrize(
    ("fault", "path", "part"),
    [
        ("", "", "does nothing"),
        (f"delay: {{fixedDelay: 0s, {ONE}}}", "delay.fixedDelay", "at least 1ms"),
        (f"delay: {{exponentialDelay: 1s, {ONE}}}", "delay.exponentialDelay", "nothing implements it"),
        ("delay: {fixedDelay: 1s, percent: 101}", "delay.percent", "0..100"),
        ("delay: {fixedDelay: 1s, percentage: {value: -1}}", "delay.percentage.value", "0 to 100"),
        ("delay: {fixedDelay: 1s, percentage: {value: 0.00001}}", "delay.percentage.value", "finer than one in a million"),
        ("delay: {fixedDelay: 1s, percentage: {value: true}}", "delay.percentage.value", "must be a number"),
        ("delay: {fixedDelay: 1s, percentage: {value: .nan}}", "delay.percentage.value", "must be a number"),
        (f"abort: {{httpStatus: 199, {ONE}}}", "abort.httpStatus", "200..599"),
        (f"abort: {{httpStatus: 600, {ONE}}}", "abort.httpStatus", "200..599"),
        (f"abort: {{grpcStatus: NOPE, {ONE}}}", "abort.grpcStatus", "no gRPC status"),
        (f"abort: {{grpcStatus: '17', {ONE}}}", "abort.grpcStatus", "no gRPC status"),
        (f"abort: {{http2Error: INTERNAL_ERROR, {ONE}}}", "abort.http2Error", "nothing implements it"),
        (f"abort: {{httpStatus: 500, grpcStatus: ABORTED, {ONE}}}", "abort", "exclude each other"),
    ],
)
def test_mistakes(fault, path, part):
    assert_one_error("VirtualService", with_fault(fault), f"spec.http[0].fault.{path}".rstrip("."), part)


def test_a_fault():
    said = spec(
        "VirtualService",
        with_fault(f"delay: {{fixedDelay: 2s, {ONE}}}, abort: {{grpcStatus: UNAVAILABLE, percentage: {{value: '99.5'}}}}"),
    )
    fault = said.http[0].fault
    assert (fault.delay.fixed_delay, fault.delay.percentage.millionths) == (2000, 10_000)
    assert (grpc_code(fault.abort.grpc_status), fault.abort.percentage.millionths) == (14, 995_000)


def test_what_would_do_nothing_is_warned_about():
    at = "spec.http[0].fault"
    assert "no request is delayed" in warnings("VirtualService", with_fault("delay: {fixedDelay: 1s}"))[f"{at}.delay"]
    assert "no request is aborted" in warnings("VirtualService", with_fault("abort: {httpStatus: 500}"))[f"{at}.abort"]
    assert "aborts nothing" in warnings("VirtualService", with_fault(f"abort: {{{ONE}}}"))[f"{at}.abort"]
    assert "delays nothing" in warnings("VirtualService", with_fault(f"delay: {{{ONE}}}"))[f"{at}.delay"]
    assert "deprecated" in warnings("VirtualService", with_fault("delay: {fixedDelay: 1s, percent: 1}"))[f"{at}.delay.percent"]


@pytest.mark.parametrize(
    ("written", "code"), [("OK", 0), ("14", 14), ("UNAUTHENTICATED", 16), ("unavailable", None), ("016", None)]
)
def test_grpc_codes(written, code):
    assert grpc_code(written) == code


@given(st.integers(0, 1_000_000))
def test_every_millionth_can_be_written(millionths):
    assert Percent(value=millionths / 10_000).millionths == millionths


def test_which_share_holds():
    assert share(Percent(value=1), 50, otherwise=7) == 10_000
    assert share(None, 50, otherwise=7) == 500_000
    assert share(None, None, otherwise=7) == 7
