"""healthCheck: which statuses are healthy, and what is no check."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import assert_one_error, spec

from federation.resources.health_check import EXTERNAL, parse_statuses


@pytest.mark.parametrize(("text", "found"), [("204", (204, 205)), ("200-299", (200, 300)), ("599-599", (599, 600))])
def test_statuses(text, found):
    assert parse_statuses(text) == found


@pytest.mark.parametrize("text", ["", "2xx", "600", "099", "200-", "-299", "300-200", "200-2990", " 200"])
def test_no_statuses(text):
    assert parse_statuses(text) is None


@given(st.integers(100, 599), st.integers(100, 599))
def test_a_range_has_both_its_ends(low, high):
    found = parse_statuses(f"{low}-{high}")
    assert found == ((low, high + 1) if low <= high else None)


def test_one_kind_each():
    grpc = spec("ServicePolicy", "hosts: [a.b]\nhealthCheck: {grpc: {service: x.Y, port: 81, host: c.d}}").health_check
    assert (grpc.grpc.service, grpc.grpc.port, grpc.grpc.host) == ("x.Y", 81, "c.d")
    http = spec("ServicePolicy", "hosts: [a.b]\nhealthCheck: {http: {statuses: [200-299, '304']}}").health_check
    assert http.http.statuses == ("200-299", "304")
    assert_one_error(
        "ServicePolicy", "hosts: [a.b]\nhealthCheck: {grpc: {}, tcp: {}}", "spec.healthCheck", "one of http, tcp and grpc"
    )
    long = "x" * 256
    assert_one_error(
        "ServicePolicy", f"hosts: [a.b]\nhealthCheck: {{grpc: {{service: {long}}}}}", "spec.healthCheck.grpc.service", "255"
    )


def test_the_patient_defaults_are_a_good_check():
    text = ", ".join(f"{key}: {value}" for key, value in EXTERNAL.items())
    found = spec("ServicePolicy", f"hosts: [a.b]\nhealthCheck: {{tcp: {{}}, {text}}}").health_check
    assert (found.interval, found.timeout, found.unhealthy_threshold, found.healthy_threshold) == (10_000, 3_000, 3, 2)
