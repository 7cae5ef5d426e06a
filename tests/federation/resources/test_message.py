"""The base of every message, and that each class says true things of itself."""

import pytest
from pydantic.alias_generators import to_camel

from federation.resources.kinds import _READ
from federation.resources.message import Fault, Message
from federation.resources.strict import _names


def classes(model=None, seen=None):
    seen = set() if seen is None else seen
    for root in [model] if model else [kind.model for kind in _READ.values()]:
        if root not in seen:
            seen.add(root)
            for field in _names(root).fields.values():
                if field.message is not None:
                    classes(field.message, seen)
    return sorted(seen, key=lambda one: (one.__module__, one.__name__))


@pytest.mark.parametrize("model", classes(), ids=lambda model: model.__name__)
def test_no_field_is_both_read_and_refused_and_names_are_camel_case(model):
    names = _names(model)
    others = set(model.later) | set(model.passed_over)
    assert not others & set(names.fields)
    assert not set(model.later) & set(model.passed_over)
    assert all("_" not in name for name in (*names.fields, *others))
    # the proto's own spelling of a refused field leads to it too
    assert all(to_camel(name) == name or "2" in name or "1" in name for name in model.later)


def test_a_message_has_no_faults_unless_it_says_so():
    class Plain(Message):
        some_name: str = ""

    assert list(Plain().faults()) == []
    assert Plain.model_validate({"someName": "a"}) == Plain.model_validate({"some_name": "a"}) == Plain(some_name="a")
    assert Fault(("a",), "b") == Fault(("a",), "b", warning=False)
