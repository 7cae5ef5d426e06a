"""Rewrites by expression: RE2's own replacement rules."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rewrite import Substitution, pieces


@pytest.mark.parametrize(
    ("pattern", "substitution", "path", "expected"),
    [  # the first four are Envoy's own examples of regex_rewrite
        ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
        ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
        ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        ("none", "two", "/one", "/one"),
        ("b", r"[\0]", "/abc", "/a[b]c"),
        ("a(x)?", r"<\1>", "/ab", "/<>b"),
        (r"\.", r"\\", "/a.b", "/a\\b"),
        ("x*", "-", "abxd", "-a-b-d-"),  # RE2: no empty match right behind a match; Python's sub has one
        ("", "-", "ab", "-a-b-"),
        ("", "-", "é€𝄞", "-é-€-𝄞-"),
        ("[é€]", "e", "/é€", "/ee"),
        ("^/", "/v2/", "/a/b", "/v2/a/b"),
        ("a|b|", "-", "bca", "-c-"),
    ],
)
def test_replacement(pattern, substitution, path, expected):
    assert Substitution(pattern, substitution).replace_all(path.encode()).decode() == expected


@pytest.mark.parametrize(
    ("pattern", "substitution", "part"),
    [
        ("(", "x", "is not RE2"),
        ("(?=a)", "x", "is not RE2"),
        ("(a)", r"\2", r"names group \2, the expression has 1"),
        ("a", "\\n", "neither a digit nor another"),
        ("a", "x\\", "neither a digit nor another"),
    ],
)
def test_what_cannot_be_done_is_said(pattern, substitution, part):
    with pytest.raises(ValueError, match=re.escape(part)):
        Substitution(pattern, substitution)


@given(st.text("ab/x1", max_size=20), st.text("ab/.", max_size=6))
def test_without_empty_matches_it_is_what_python_does(path, replacement):
    expected = re.sub("a+|/x", lambda _: replacement, path)
    assert Substitution("a+|/x", replacement).replace_all(path.encode()).decode() == expected


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_can_be_said(text):
    quoted = text.replace("\\", "\\\\")
    assert b"".join(piece for piece in pieces(quoted) if isinstance(piece, bytes)) == text.encode()


def test_what_is_no_utf_8_goes_through_by_the_byte():
    assert Substitution("", "-").replace_all(b"a\xff\xe2\x82") == b"-a-\xff-\xe2-\x82-"
