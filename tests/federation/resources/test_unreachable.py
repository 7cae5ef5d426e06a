"""Routes behind others that take their requests (IST0130, IST0131)."""

import pytest
from written import warnings

TO_A = "route: [{destination: {host: a}}]"


def found(*matches: str) -> dict[str, str]:
    routes = ", ".join(f"{{match: [{match}], {TO_A}}}" if match else f"{{{TO_A}}}" for match in matches)
    return {
        path.removeprefix("spec."): message for path, message in warnings("VirtualService", f"hosts: [a]\nhttp: [{routes}]").items()
    }


@pytest.mark.parametrize(
    ("matches", "paths"),
    [
        (("{uri: {exact: /a}}", ""), []),
        (("", "{uri: {exact: /a}}", ""), ["http[1]", "http[2]"]),
        (("{uri: {exact: /a}}", "{uri: {exact: /a}, name: other}"), ["http[1].match[0]"]),
        (("{uri: {exact: /a}}, {uri: {exact: /a}}",), ["http[0].match[1]"]),
        (("{uri: {exact: /a}}", "{uri: {exact: /a}, method: {exact: GET}}"), []),
        (("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}, method: {exact: GET}}"), ["http[1].match[0]"]),
        (("{uri: {prefix: /a}}", "{uri: {exact: /a}}, {uri: {exact: /b}}"), ["http[1].match[0]"]),
        (("{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}"), []),
        (("{uri: {prefix: /a}, port: 80}", "{uri: {prefix: /a/b}}"), []),
        (("{uri: {prefix: /a}, ignoreUriCase: true}", "{uri: {prefix: /a/b}}"), []),
        (("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}, ignoreUriCase: true}"), []),
        (("{uri: {prefix: /a}}", "{uri: {regex: /a.*}}"), []),  # nobody compares expressions
    ],
)
def test_what_is_not_reached(matches, paths):
    assert list(found(*matches)) == paths


def test_it_says_which_one_is_first():
    assert "http[0].match[0] is first, and its requests all begin with that prefix" in found(
        "{uri: {prefix: /a}}", "{uri: {prefix: /ab}}"
    ).get("http[1].match[0]", "")
