"""Raw documents: parse's order and errors, and lines for paths that were not written."""

import pytest

from discovery.document import Documents, Origin, RawDocument, parse, path_of

TEXT = """\
kind: Gateway
metadata:
  name: a
  labels: {app.kubernetes.io/name: x}
spec:
  servers:
  - port: {number: 80}
---
kind: Service
"""


def test_each_document_knows_its_origin():
    documents, errors = parse(TEXT, "a.yaml")
    assert errors == ()
    assert [(str(document.origin), document.content["kind"]) for document in documents] == [
        ("a.yaml:1", "Gateway"),
        ("a.yaml:9", "Service"),
    ]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("spec.servers[0].port", 7),
        ("spec.servers[0].tls.mode", 7),
        ("spec.servers[3].hosts", 6),
        ("metadata.labels.app.kubernetes.io/name", 4),
        ("metadata.namespace", 2),
        ("apiVersion", 1),
        ("", 1),
    ],
)
def test_a_path_has_its_own_line_or_its_nearest_parents(path, line):
    document = parse(TEXT, "a.yaml")[0][0]
    assert document.line(path) == line
    assert document.at(path) == Origin("a.yaml", line)


def test_a_document_without_lines_stands_where_its_origin_says():
    assert RawDocument(Origin("consul:a"), {}).line("spec.x") == 0
    assert str(Origin("consul:a")) == "consul:a"


@pytest.mark.parametrize(("text", "kind"), [("- a\n", "a list"), ("just text\n", "a single value")])
def test_a_document_that_is_no_mapping_is_an_error(text, kind):
    documents, (error,) = parse(text, "a.yaml")
    assert documents == ()
    assert str(error).startswith(f"a.yaml:1: the document is {kind}, not a mapping; begin it with")


def test_a_mistake_is_an_error_and_its_neighbours_are_documents():
    documents, errors = parse("kind: A\n---\nkind: B\nkind: C\n---\nkind: D\n", "a.yaml")
    assert [document.content["kind"] for document in documents] == ["A", "D"]
    assert [str(error.origin) for error in errors] == ["a.yaml:4"]


def test_path_of_a_location():
    assert path_of(("spec", "servers", 0, "port")) == "spec.servers[0].port"
    assert path_of(()) == ""


def test_documents_are_empty_at_first():
    assert Documents() == Documents((), ())
