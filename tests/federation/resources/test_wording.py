"""What pydantic refuses, in our words; never the value."""

import pytest

from federation.resources.wording import translated


def error(kind, given, loc=("a",), **more):
    return {"type": kind, "loc": loc, "input": given, "msg": "Input should be x", **more}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (error("missing", {}, ("a", "b")), "`b` is required; write it"),
        (error("value_error", 1, ctx={"error": ValueError("is wrong; mend it")}), "is wrong; mend it"),
        (error("string_type", 5), "must be text, not a number; put it in quotes"),
        (error("string_type", False), "must be text, not true or false; put it in quotes"),
        (error("string_type", {}), "must be text, not a mapping"),
        (error("bool_type", "SECRET"), "must be true or false, not text"),
        (error("dict_type", ["SECRET"]), "must be a mapping, not a list"),
        (error("model_type", None), "must be a mapping, not null"),
        (error("tuple_type", "SECRET"), "must be a list, not text; write it as `- …` lines or in []"),
        (error("int_parsing", b"SECRET"), "must be a whole number, not a bytes"),
        (error("something_new", "SECRET"), "cannot be read: Input should be x"),
    ],
)
def test_words(given, said):
    assert translated(given).message == said


def test_a_mistake_about_a_key_is_at_the_key():
    assert translated(error("string_type", 5, ("labels", "5", "[key]"))).path == ("labels", "5")
