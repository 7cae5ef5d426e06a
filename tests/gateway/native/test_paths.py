import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.native.paths import needs_normalising, normalised


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a/../b", b"/b"),
        (b"/a/./b", b"/a/b"),
        (b"/a/%2e%2E/b", b"/b"),
        (b"/a/.%2e/b", b"/b"),
        (b"/../../b", b"/b"),
        (b"/a/..", b"/"),
        (b"/a/.", b"/a/"),
        (b"/a\\..\\b", b"/b"),
        (b"/a//b", b"/a//b"),
        (b"/a/...", b"/a/..."),
        (b"/a/.b", b"/a/.b"),
        (b"/a/%2f../b", b"/a/%2f../b"),
        (b"/a?/../b", b"/a?/../b"),
        (b"/a%2fb", b"/a%2fb"),
        (b"/%252e%252e/a", b"/%252e%252e/a"),
        (b"/%61%2Db%7E", b"/a-b~"),
        (b"/%C3%A9%2f%20", b"/%C3%A9%2f%20"),
        (b'/a"<>^`{|}?"', b'/a%22%3C%3E%5E%60%7B%7C%7D?"'),
        (b"/%4", b"/%4"),
        (b"/%zz%", b"/%zz%"),
        (b"/x/%2%65%2%65/y", b"/x/%252e%252e/y"),
        (b"/%%36%31", b"/%2561"),
    ],
)
def test_dot_segments_are_resolved(target, expected):
    assert normalised(target) == expected


def test_an_escaped_nul_is_refused():
    with pytest.raises(BadRequest):
        normalised(b"/a%00b")


@given(st.text("/.%2eE\\a?").map(lambda text: b"/" + text.encode()))
def test_normal_form_is_stable_and_known_without_looking(target):
    result = normalised(target)
    path = result.partition(b"?")[0]
    assert normalised(result) == result
    assert not {b".", b".."} & set(path.split(b"/"))
    if not needs_normalising(target):
        assert result == target
