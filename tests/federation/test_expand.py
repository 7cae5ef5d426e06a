"""fedgate expand, the part without the command line."""

import yaml

from federation.expand import expand

GOOD = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: fedgate.io/v1
kind: ExternalService
metadata: {name: payments, namespace: shop}
spec: {hosts: [api.example], ports: [{number: 443, protocol: HTTPS}], tls: {mode: SIMPLE}, from: []}
---
apiVersion: fedgate.io/v1
kind: ExternalService
metadata: {name: other}
spec: {hosts: [b.example], ports: [{number: 80, protocol: HTTP}]}
"""


def test_what_is_printed_are_the_documents(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)
    found = expand([file])
    assert not found.errors
    documents = list(yaml.safe_load_all(found.text))
    assert [(each["kind"], each["metadata"]["name"]) for each in documents] == [
        ("ServiceEntry", "external-payments"),
        ("DestinationRule", "external-payments"),
        ("ServicePolicy", "external-payments"),
        ("ServiceEntry", "external-other"),
    ]
    assert f"# ExternalService shop/payments, {file}:" in found.text


def test_what_cannot_be_expanded(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("number: 443", "number: 0"))
    (error,) = expand([file]).errors
    assert "spec.ports[0].number" in error
    file.write_text("kind: [")
    assert expand([file]).errors
    file.write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
    assert "no ExternalService" in expand([file]).errors[0]
    assert "No such file" in expand([tmp_path / "gone.yaml"]).errors[0]
