"""YAML into values with lines: Kubernetes' reading of scalars, duplicate keys, aliases, limits, recovery after a mistake."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from discovery.tree import MAX_DEPTH, MAX_PATH, MAX_VALUES, Fault, join, read


def only(text):
    (tree,) = read(text)
    assert tree.faults == ()
    return tree.value


def faults(text):
    return [(fault.line, fault.message) for tree in read(text) for fault in tree.faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("text", "text"),
        ("'80'", "80"),
        ("80", 80),
        ("0644", 420),
        ("0x1F", 31),
        ("-1.5", -1.5),
        ("true", True),
        ("no", False),
        ("~", None),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("10:30", "10:30"),
        ("10:30.5", "10:30.5"),
        ("!!str 80", "80"),
        ('"a\\/b"', "a/b"),
        ("=", "="),
        ("|\n  one\n  two\n", "one\ntwo\n"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)
def test_scalars_are_read_as_kubernetes_reads_them(text, value):
    found = only(f"x: {text}")["x"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_written():
    assert only("80: a\non: b\n~: c\n") == {"80": "a", "on": "b", "~": "c"}


def test_every_path_has_its_line():
    (tree,) = read("# first\nkind: A\nspec:\n  servers:\n  - port:\n      number: 80\n  - {port: 1}\n")
    assert tree.lines == {
        "": 2,
        "kind": 2,
        "spec": 3,
        "spec.servers": 4,
        "spec.servers[0]": 5,
        "spec.servers[0].port": 5,
        "spec.servers[0].port.number": 6,
        "spec.servers[1]": 7,
        "spec.servers[1].port": 7,
    }


def test_a_key_written_twice_is_an_error_that_names_both_lines():
    assert faults("a:\n  b: 1\n  c: 2\n  b: 3\nd: 1\nd: 2\n") == [
        (4, "a.b is written twice, first on line 2"),
        (6, "d is written twice, first on line 5"),
    ]


def test_merge_keys_fill_in_what_is_not_written():
    assert only("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\n")["use"] == {"x": 1, "y": 3}
    assert only("one: &b {x: 1}\ntwo: &c {x: 2, z: 3}\nuse: {<<: [*b, *c]}\n")["use"] == {"x": 1, "z": 3}
    assert faults("a: {<<: 1}")[0][1] == "a.<< does not name a mapping"


def test_aliases_share_their_value_and_are_known_in_their_own_document_only():
    value = only("a: &x [1]\nb: *x\n")
    assert value["a"] is value["b"]
    assert faults("a: &x [1]\n---\nb: *x\n") == [(3, "alias *x has no anchor &x before it")]
    assert faults("a: &x [*x]\n") == [(1, "alias *x stands inside its own anchor")]


def test_a_billion_laughs_is_refused():
    rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    ((line, message),) = faults("\n".join(rows))
    assert line == 6
    assert message.startswith(f"holds more than {MAX_VALUES} values")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "".join(" " * i + "a:\n" for i in range(MAX_DEPTH + 2))])
def test_deep_nesting_is_refused_before_it_hurts(text):
    assert faults(text)[0][1] == f"nested more than {MAX_DEPTH} levels deep"


def test_long_paths_are_not_kept():
    (tree,) = read(f"a:\n  {'k' * MAX_PATH}: 1\n")
    assert list(tree.lines) == ["", "a"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb:\n\t- c\n", 3, "cannot start any token"),
        ("a: b: c\n", 1, "mapping values are not allowed"),
        ("b: 1\na: 'open\nc: 1\n", 2, "unexpected end of stream"),
        ("a:\nb\n\n", 2, "could not find expected ':'"),
        ("a: \x00\n", 1, "control characters are not allowed"),
        ("a: \ud800\n", 1, "surrogates not allowed"),
        ("? [1]\n: 2\n", 1, "a key of the document is not a plain text"),
        ("a: !!binary aGk=\n", 1, "the tag !!binary is not for configuration"),
        ("\na: !!python/object:os.system x\n", 2, "the tag !!python/object:os.system is not for"),
        ("a: " + "9" * 5000, 1, "is not a int"),
        ("a: !!bool maybe", 1, "is not a bool"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, message):
    ((found_line, found),) = faults(text)
    assert found_line == line
    assert message in found


def test_a_mistake_leaves_the_other_documents_readable_and_all_mistakes_come_at_once():
    trees = read("good: 1\n---\nbad: [\n---\ngood: 2\n--- {bad: {a: 1, a: 2}, worse: !x 1}\n--- {good: 3}\n")
    assert [tree.value for tree in trees if not tree.faults] == [{"good": 1}, {"good": 2}, {"good": 3}]
    assert [[fault.line for fault in tree.faults] for tree in trees] == [[], [3], [], [6, 6], []]


def test_a_refusal_keeps_the_faults_found_before_it():
    (tree,) = read("a: {b: 1, b: 2}\nc: *gone\n")
    assert [fault.line for fault in tree.faults] == [1, 2]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "---\n---\n# x\n", "null\n", "%YAML 1.1\n---\n"])
def test_empty_documents_are_passed_over(text):
    assert read(text) == ()


def test_directives_end_markers_and_byte_order_marks_are_understood():
    assert only("%YAML 1.1\n# c\n---\na: 1\n...\n") == {"a": 1}
    assert only("\ufeffa: 1\n") == {"a": 1}
    assert [tree.value for tree in read("a: 1\n...\n---\nb: 2\n")] == [{"a": 1}, {"b": 2}]
    assert only("a: |\n  --- not a marker\n") == {"a": "--- not a marker\n"}


def test_json_is_read_with_its_surrogate_pairs():
    assert only('{\n\t"a": "\\ud83d\\ude00 \\\\ud83d",\n\t"b": [1, null]\n}') == {"a": "\U0001f600 \\ud83d", "b": [1, None]}


def test_faults_sort_by_line():
    assert sorted([Fault(3, "a", ""), Fault(1, "b", "")])[0].line == 1


def test_join():
    assert join("", "spec") == "spec"
    assert join("spec.servers", 0) == "spec.servers[0]"
    assert join("spec", "hosts") == "spec.hosts"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", categories=("L", "N", "Zs"))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="ascii", categories=("L",)), min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_json_and_yaml_texts_come_back_as_they_were(value):
    assert only(json.dumps({"a": value})) == {"a": value}
    assert only(yaml.safe_dump({"a": value}, allow_unicode=True)) == {"a": value}


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%,? \n\t<~0", max_size=60))
def test_any_text_is_read_or_refused_with_a_line_inside_it(text):
    for tree in read(text):
        for fault in tree.faults:
            assert 1 <= fault.line <= text.count("\n") + 1
            assert fault.message
            assert fault.remedy
