"""`fedgate validate`: the report, exactly as its JSON, and as text."""

import json

import msgspec

from federation.validate import examine, validate_paths

GOOD = "apiVersion: fedgate.io/v1\nkind: Export\nmetadata: {name: a}\nspec: {services: [a], peers: [b]}\n"
BAD = "apiVersion: fedgate.io/v1\nkind: Export\nmetadata: {name: b}\nspec:\n  services: []\n  peer: [b]\n"
PASSED = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"


def as_json(report):
    return json.loads(msgspec.json.encode(report))


def test_the_report_is_exactly_this_json(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"{GOOD}---\n{BAD}---\n{PASSED}")
    assert as_json(validate_paths([file])) == {
        "valid": False,
        "documents": [
            {"file": str(file), "line": 1, "kind": "Export", "name": "a", "valid": True, "errors": [], "warnings": []},
            {
                "file": str(file),
                "line": 6,
                "kind": "Export",
                "name": "b",
                "valid": False,
                "errors": [
                    {"path": "spec.peer", "message": "unknown field `peer`; did you mean `peers`?"},
                    {"path": "spec.services", "message": "services is empty; write the hosts that are offered"},
                ],
                "warnings": [],
            },
            {
                "file": str(file),
                "line": 13,
                "kind": "Deployment",
                "name": "d",
                "valid": True,
                "errors": [],
                "warnings": [{"path": "kind", "message": "Deployment (apps) is passed over: a gateway has no use for it"}],
            },
        ],
    }


def test_the_text_has_the_line_of_each_fault(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"{BAD}---\n{PASSED}")
    assert examine([str(file)]).lines == (
        f"{file}:6 Export/b spec.peer: unknown field `peer`; did you mean `peers`?",
        f"{file}:5 Export/b spec.services: services is empty; write the hosts that are offered",
        f"{file}:9 Deployment/d kind: warning: Deployment (apps) is passed over: a gateway has no use for it",
    )


def test_all_is_well(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD)  # each document is judged by itself: the same name twice is no fault here
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}})
    )
    (tmp_path / "README.md").write_text("# no document")
    (tmp_path / ".hidden.yaml").write_text(BAD)
    validation = examine([tmp_path])
    assert validation.report.valid
    assert [entry.kind for entry in validation.report.documents] == ["Export", "Export", "Service"]
    assert validation.lines == ()


def test_a_file_that_is_no_yaml_is_an_entry_and_its_neighbours_are_judged(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"{GOOD}---\na: [\n---\n{GOOD}")
    report = validate_paths([file])
    assert [(entry.kind, entry.name, entry.valid) for entry in report.documents] == [
        ("Export", "a", True),
        ("", "", False),
        ("Export", "a", True),
    ]
    (remark,) = report.documents[1].errors
    assert "not YAML" in remark.message
    assert not report.valid


def test_what_is_missing_empty_or_unreadable_is_an_error(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n---\n")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    (tmp_path / "folder").mkdir()
    names = ["none.yaml", "empty.yaml", "latin.yaml", "folder", "a\0b"]
    report = validate_paths([tmp_path / name for name in names])
    assert [entry.valid for entry in report.documents] == [False] * 5
    messages = [entry.errors[0].message for entry in report.documents]
    parts = ["No such file", "has no documents", "not UTF-8", "folder has no documents", ""]
    assert [part in message for part, message in zip(parts, messages, strict=True)] == [True] * 5
    assert [entry.file for entry in report.documents][:4] == [str(tmp_path / name) for name in names[:4]]


def test_no_path_at_all():
    report = validate_paths([])
    assert not report.valid
    assert "no path was given" in report.documents[0].errors[0].message


def test_a_secret_is_in_neither_form(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\ndata: {tls.key: 'TOPSECRET*', tls.crt: TOPSECRET}\n"
    )
    validation = examine([file])
    assert not validation.report.valid
    assert b"TOPSECRET" not in msgspec.json.encode(validation)
