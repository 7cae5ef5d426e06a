"""Header operations of a VirtualService."""

import pytest
from written import assert_one_error, load, spec


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
        (
            "request: {set: {a: 'x %RQ(x)%'}}",
            "request.set.a",
            "at character 3: there is no command operator `%RQ%` here; known are %DOWNSTREAM_",
        ),
        ("response: {add: {a: '5%'}}", "response.add.a", "at character 2: no command operator begins here; write `%%`"),
        ("request: {set: {host: '%REQ(x)%'}}", "request.set.host", "the authority is taken as it is written"),
        ("request: {add: {':authority': '%REQ(x)%'}}", "request.add.:authority", "the authority is taken as it is written"),
        ('request: {set: {a: "x\\ny"}}', "request.set.a", "control character"),
        ("request: {replace: {a: b}}", "request.replace", "unknown field `replace`"),
        ("request: {set: {host: a, ':authority': b}}", "request", "more than once"),
    ],
)
def test_mistakes_of_header_operations(headers, path, part):
    assert_one_error("VirtualService", with_headers(headers), f"spec.http[0].headers.{path}", part)


def test_what_only_answers_know_is_warned_of_in_requests():
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
"""
    written = with_headers("request: {set: {a: 'x %RESP(b)%%UPSTREAM_HOST%'}}, response: {set: {a: '%RESP(b)%%UPSTREAM_HOST%'}}")
    found = load(text + "\n".join("  " + line for line in written.splitlines()))
    assert not found.problems
    assert [note.path for note in found.notes] == ["spec.http[0].headers.request.set.a"] * 2
    assert [note.message.split("`")[1] for note in found.notes] == ["%RESP%", "%UPSTREAM_HOST%"]


def test_where_a_body_ends_is_nothing_that_headers_can_change():
    text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n"
    written = with_headers(
        "request: {remove: [a, Content-Length], set: {Transfer-Encoding: x}}, response: {add: {content-length: '%REQ(a)%'}}"
    )
    found = load(text + "\n".join("  " + line for line in written.splitlines()))
    assert not found.problems
    assert [note.path.removeprefix("spec.http[0].headers.") for note in found.notes] == [
        "request.set.Transfer-Encoding",
        "request.remove[1]",
        "response.add.content-length",
    ]
    assert all("stays as it is" in note.message for note in found.notes)
