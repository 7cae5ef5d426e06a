"""Command operators as they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.resources.substitution import Misread, parse
from gateway.policy.substitution import OPERATORS, Takes, Value
from gateway.snapshot import Operator, Template


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("100%%", "100%"),
        ("%%REQ(x)%%", "%REQ(x)%"),
        ("%REQ(X-A)%", Template((Operator("REQ", "x-a"),))),
        ("%REQ(a?B):12%", Template((Operator("REQ", "a", "b", 12),))),
        ("%REQ(a?)%", Template((Operator("REQ", "a"),))),
        ("%REQ(:path)%", Template((Operator("REQ", ":path"),))),
        ("%RESP(a):0%", Template((Operator("RESP", "a", "", 0),))),
        ("<%PROTOCOL%>%%%HOSTNAME()%", Template(("<", Operator("PROTOCOL"), ">%", Operator("HOSTNAME")))),
        ("%START_TIME%", Template((Operator("START_TIME"),))),
        ("%START_TIME(%Y-%m %s.%3f)%", Template((Operator("START_TIME", "%Y-%m %s.%3f"),))),
        ("%REQ(a)%%REQ(b)%", Template((Operator("REQ", "a"), Operator("REQ", "b")))),
        ("%REQ(a)%%%", Template((Operator("REQ", "a"), "%"))),
    ],
)
def test_values(value, expected):
    assert parse(value) == expected


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("%", "at character 1: no command operator begins here"),
        ("100% of", "at character 4: no command operator begins here; write `%%`"),
        ("%REQ(a)", "at character 1: no command operator"),
        ("%REQ(a) %", "at character 1: no command operator"),
        ("%REQ(a):%", "at character 1: no command operator"),
        ("%REQ(a):x%", "at character 1: no command operator"),
        ("%req(a)%", "at character 1: no command operator"),
        ("a %PROTOCOL% %FOO(x)%", "at character 14: there is no command operator `%FOO%` here; known are "),
        ("%REQ%", "`` is no header name; write %REQ(NAME)%"),
        ("%REQ()%", "`` is no header name"),
        ("%REQ(a b)%", "`a b` is no header name"),
        ("%RESP(a?b c)%", "`b c` is no header name; write %RESP(NAME)%"),
        ("%REQ(a?b?c)%", "`b?c` is no header name"),
        ("%REQ(?b)%", "`` is no header name"),
        ("%PROTOCOL:3%", "`%PROTOCOL%` takes no length; remove `:3`"),
        ("%START_TIME(%Y):3%", "`%START_TIME%` takes no length"),
        ("%PROTOCOL(x)%", "`%PROTOCOL%` takes no parameters; remove `(x)`"),
        ("%START_TIME(%Y %n)%", "`%n` is no directive of START_TIME; known are "),
    ],
)
def test_mistakes_say_where_and_what_to_do(value, part):
    with pytest.raises(Misread) as raised:
        parse(value)
    assert part in str(raised.value)


def test_the_list_of_the_known_has_all():
    with pytest.raises(Misread) as raised:
        parse("%NOTHING%")
    forms = {Takes.NOTHING: "%", Takes.HEADER: "(NAME?OTHER):LENGTH%", Takes.FORMAT: "(FORMAT)%"}
    assert all(f"%{name}{forms[takes]}" in str(raised.value) for name, takes in OPERATORS.items())


@given(st.text(alphabet="%abREQ():?1SPTOCL_ ", max_size=30))
def test_whatever_is_written_is_read_or_refused(value):
    try:
        found = parse(value)
    except Misread:
        return
    if isinstance(found, Template):
        Value(found)
        assert any(isinstance(part, Operator) for part in found.parts)
    else:
        assert found == value.replace("%%", "%")


@given(st.text())
def test_text_whose_per_cent_signs_are_doubled_is_itself(text):
    assert parse(text.replace("%", "%%")) == text
