import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    ],
)
def test_dot_segments_are_resolved(target, expected):
    assert normalised(target) == expected


@given(st.text("/.%2eE\\a?").map(lambda text: b"/" + text.encode()))
def test_normal_form_is_stable_and_known_without_looking(target):
    result = normalised(target)
    path = result.partition(b"?")[0]
    assert normalised(result) == result
    assert not {b".", b".."} & set(path.split(b"/"))
    if not needs_normalising(target):
        assert result == target
