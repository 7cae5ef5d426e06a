"""Who may ask: no rebound name, no page of another origin, and only this machine for what is under /api."""

import pytest

from appliance.admin.guard import refusal

LOCAL = ("127.0.0.1", 5555)


def headers(host="127.0.0.1:15000", **others):
    return {b"host": host.encode(), **{name.encode(): value.encode() for name, value in others.items()}}


@pytest.mark.parametrize("host", ["127.0.0.1:15000", "localhost", "localhost:15000", "[::1]:15000", "10.1.2.3:15000", "127.0.0.3"])
def test_an_address_or_localhost_is_answered(host):
    assert refusal(headers(host), "/api/v1/routes", LOCAL) == ""


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:15000", "127.0.0.1.evil.example", "", "localhost.evil", "[::1", "a:b:c"]
)
def test_a_name_that_could_be_rebound_is_refused(host):
    assert "rebound" in refusal(headers(host), "/metrics", LOCAL)


def test_a_page_of_another_origin_is_refused_and_our_own_is_not():
    assert "origin" in refusal(headers(origin="http://evil.example"), "/metrics", LOCAL)
    assert "origin" in refusal(headers(origin="null"), "/metrics", LOCAL)
    assert refusal(headers(origin="http://127.0.0.1:15000"), "/metrics", LOCAL) == ""


@pytest.mark.parametrize(
    ("client", "path", "answered"),
    [
        ("127.0.0.9", "/api/v1/routes", True),
        ("::1", "/api/v1/routes", True),
        ("10.0.0.1", "/api/v1/routes", False),
        ("10.0.0.1", "/metrics", True),
        ("10.0.0.1", "/healthz/ready", True),
        ("nonsense", "/api/v1/routes", False),
    ],
)
def test_the_api_is_for_this_machine(client, path, answered):
    assert (refusal(headers(), path, (client, 1)) == "") == answered
