"""Redirects, direct responses, rewrites and retries."""

import base64

import pytest
from written import assert_one_error, errors, spec, warnings

TO_A = "route: [{destination: {host: a}}]"


def with_route(route: str) -> str:
    return f"hosts: [a]\nhttp: [{{{route}}}]"


@pytest.mark.parametrize(
    ("route", "path", "part"),
    [
        ("redirect: {}", "redirect", "changes nothing"),
        ("redirect: {uri: /a, prefixRewrite: /b}", "redirect", "exclude each other"),
        ("redirect: {uri: /a, redirectCode: 200}", "redirect.redirectCode", "300..399"),
        ("redirect: {scheme: ftp}", "redirect.scheme", "http or https"),
        ("redirect: {port: 0}", "redirect.port", "1..65535"),
        ("redirect: {port: 80, derivePort: FROM_REQUEST_PORT}", "redirect.derivePort", "exclude each other"),
        ("redirect: {derivePort: FROM_PORT}", "redirect.derivePort", "must be one of"),
        ("directResponse: {status: 99}", "directResponse.status", "200..599"),
        ("directResponse: {}", "directResponse.status", "is required"),
        ("directResponse: {status: 200, body: {string: a, bytes: YQ==}}", "directResponse.body", "keep one"),
        ("directResponse: {status: 200, body: {bytes: '*'}}", "directResponse.body.bytes", "not base64"),
        (f"{TO_A}, rewrite: {{}}", "rewrite", "changes nothing"),
        (f"{TO_A}, rewrite: {{uri: /a, uriRegexRewrite: {{match: a, rewrite: b}}}}", "rewrite", "exclude each other"),
        (f"{TO_A}, rewrite: {{uriRegexRewrite: {{match: a}}}}", "rewrite.uriRegexRewrite.rewrite", "both match and rewrite"),
        (f"{TO_A}, rewrite: {{uriRegexRewrite: {{rewrite: a}}}}", "rewrite.uriRegexRewrite.match", "both match and rewrite"),
        (f"{TO_A}, rewrite: {{uriRegexRewrite: {{match: '(?=a)', rewrite: a}}}}", "rewrite.uriRegexRewrite.match", "RE2 refuses"),
        (f"{TO_A}, rewrite: {{uriRegexRewrite: {{match: a, rewrite: '\\1'}}}}", "rewrite.uriRegexRewrite.rewrite", "names group"),
        (
            f"{TO_A}, rewrite: {{uriRegexRewrite: {{match: {'a' * 1025}, rewrite: b}}}}",
            "rewrite.uriRegexRewrite.match",
            "1024 at most",
        ),
        (f"{TO_A}, retries: {{attempts: -1}}", "retries.attempts", "0 or more"),
        (f"{TO_A}, retries: {{perTryTimeout: 1s}}", "retries.attempts", "never retries"),
        (f"{TO_A}, retries: {{attempts: 0, retryOn: 5xx}}", "retries.attempts", "never retries"),
        (f"{TO_A}, retries: {{attempts: 1, perTryTimeout: 0s}}", "retries.perTryTimeout", "at least 1ms"),
        (f"{TO_A}, retries: {{attempts: 1, backoff: 0s}}", "retries.backoff", "at least 1ms"),
        (f"{TO_A}, retries: {{attempts: 1, retryOn: '5xx,sometimes'}}", "retries.retryOn", "`sometimes` is no condition"),
        (f"{TO_A}, retries: {{attempts: 1, retryOn: '999'}}", "retries.retryOn", "`999` is no condition"),
        (f"{TO_A}, retries: {{attempts: 1, retryOn: '5xx,'}}", "retries.retryOn", "`` is no condition"),
    ],
)
def test_mistakes(route, path, part):
    assert_one_error("VirtualService", with_route(route), f"spec.http[0].{path}", part)


def test_bodies():
    body = "directResponse: {status: 200, body: {%s}}"
    assert bytes(spec("VirtualService", with_route(body % "bytes: AAE=")).http[0].direct_response.body.content) == b"\0\1"
    assert "in every gateway's memory" in str(warnings("VirtualService", with_route(body % f"string: {'x' * 200_000}")))
    large = base64.b64encode(b"x" * 1_000_001).decode()
    assert "1000000 at most" in errors("VirtualService", with_route(body % f"bytes: {large}"))["spec.http[0].directResponse.body"]


def test_attempts_0_alone_turns_retries_off():
    assert spec("VirtualService", with_route(f"{TO_A}, retries: {{attempts: 0}}")).http[0].retries.attempts == 0
    assert spec("VirtualService", with_route(f"{TO_A}, retries: {{attempts: 1, retryOn: ' 5xx , 503'}}")).http[
        0
    ].retries.conditions == ("5xx", "503")
