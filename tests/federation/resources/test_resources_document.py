"""Metadata and the envelope of a document."""

import pytest
from written import load, raw_documents

from discovery.document import Origin
from federation.resources.read import judge

REST = "spec: {services: [a], peers: [b]}\n"


def export(metadata: str, rest: str = REST):
    (raw,) = raw_documents(f"apiVersion: fedgate.io/v1\nkind: Export\nmetadata: {metadata}\n{rest}")
    return judge(raw)


def test_what_kubectl_prints_is_read_or_passed_over():
    judged = export(
        "{name: a, uid: x, resourceVersion: '5', generation: 2, managedFields: [{manager: kubectl}], ownerReferences: [],"
        " creationTimestamp: 2026-01-02T03:04:05Z, labels: {a: b}, annotations: {'kubectl.kubernetes.io/x': '{}'}}",
        REST + "status: {conditions: [{type: Accepted}]}\n",
    )
    document = judged.document
    assert judged.errors == judged.warnings == ()
    assert (document.name, document.namespace, document.api_version, document.kind) == ("a", "default", "fedgate.io/v1", "Export")
    assert document.metadata.creation_timestamp == "2026-01-02T03:04:05Z"
    assert document.metadata.labels == {"a": "b"}
    assert document.origin == Origin("test.yaml", 1)


def test_creation_timestamp_null_as_dry_run_prints_it():
    assert export("{name: a, creationTimestamp: null}").document.metadata.creation_timestamp == ""


@pytest.mark.parametrize(
    ("metadata", "path", "part"),
    [
        ("{}", "metadata.name", "is required"),
        ("null", "metadata.name", "is required"),
        ("x", "metadata", "must be a mapping"),
        ("{name: A}", "metadata.name", "no name"),
        ("{name: 5}", "metadata.name", "put it in quotes"),
        ("{name: a, namespace: A_}", "metadata.namespace", "no namespace"),
        ("{name: a, labels: {a: 5}}", "metadata.labels.a", "put it in quotes"),
        ("{name: a, labels: {'a b': c}}", "metadata.labels.a b", "no label key"),
        ("{name: a, lables: {}}", "metadata.lables", "did you mean `labels`"),
    ],
)
def test_mistakes_of_metadata(metadata, path, part):
    (problem,) = export(metadata).errors
    assert problem.path == path
    assert part in problem.message


def test_mistakes_of_the_envelope():
    (problem,) = export("{name: a}", "sepc: {}\n" + REST).errors
    assert (problem.path, problem.line) == ("sepc", 4)
    assert "did you mean `spec`" in problem.message
    (problem,) = export("{name: a}", "services: [a]\n" + REST).errors
    assert "fields belong under `spec`" in problem.message


def test_faults_of_metadata_and_of_the_spec_come_together():
    found = load("apiVersion: fedgate.io/v1\nkind: Export\nmetadata: {name: A}\nspec: {services: []}\n").problems
    assert [problem.path for problem in found] == ["metadata.name", "spec.peers", "spec.services"]
