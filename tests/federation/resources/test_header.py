"""Header operations of a VirtualService."""

import pytest
from written import assert_one_error, spec


def with_headers(headers: str) -> str:
    return f"hosts: [a]\nhttp: [{{route: [{{destination: {{host: a}}}}], headers: {{{headers}}}}}]"


def test_requests_may_set_the_authority():
    said = spec("VirtualService", with_headers("request: {set: {Host: x.example, x-a: '100%%'}, remove: [cookie]}")).http[0].headers
    assert said.request.authorities == ["x.example"]
    assert said.request.remove == ("cookie",)


@pytest.mark.parametrize(
    ("headers", "path", "part"),
    [
        ("response: {set: {host: x}}", "response.set.host", "on requests only"),
        ("request: {remove: [host]}", "request.remove[0]", "on requests only"),
        ("request: {set: {':path': x}}", "request.set.:path", "pseudo-header"),
        ("request: {add: {'a b': x}}", "request.add.a b", "no header name"),
        ("request: {add: {a: 5}}", "request.add.a", "put it in quotes"),
        ("request: {set: {a: '%REQ(x)%'}}", "request.set.a", "not supported yet"),
        ('request: {set: {a: "x\\ny"}}', "request.set.a", "control character"),
        ("request: {replace: {a: b}}", "request.replace", "unknown field `replace`"),
        ("request: {set: {host: a, ':authority': b}}", "request", "more than once"),
    ],
)
def test_mistakes_of_header_operations(headers, path, part):
    assert_one_error("VirtualService", with_headers(headers), f"spec.http[0].headers.{path}", part)
