"""Documents as users write them, read strictly: short ways to say them in a test and to see what became of them."""

import textwrap

from discovery.document import RawDocument, parse
from federation.resources.read import Judged, judge, read
from federation.resources.resources import Resources

API = {
    "Gateway": "networking.istio.io/v1",
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "WorkloadEntry": "networking.istio.io/v1",
    "WorkloadGroup": "networking.istio.io/v1",
    "Service": "v1",
    "Secret": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Node": "fedgate.io/v1",
    "Peer": "fedgate.io/v1",
    "Export": "fedgate.io/v1",
    "ServicePolicy": "fedgate.io/v1",
    "ExternalService": "fedgate.io/v1",
}
FLAT = ("Secret", "EndpointSlice")


def raw_documents(text: str, file: str = "test.yaml") -> tuple[RawDocument, ...]:
    """The YAML's documents; a YAML fault is the test's own and fails it."""
    documents, errors = parse(textwrap.dedent(text), file)
    assert not errors, [str(error) for error in errors]
    return documents


def load(text: str) -> Resources:
    return read(raw_documents(text))


def written(kind: str, body: str, name: str = "x") -> Judged:
    """A document of the kind, `body` being its spec (of a flat kind its own fields), in YAML."""
    head = f"apiVersion: {API[kind]}\nkind: {kind}\nmetadata: {{name: {name}}}\n"
    body = textwrap.dedent(body).strip("\n")
    if kind in FLAT:
        text = head + body + "\n"
    elif body.startswith("{"):
        text = head + f"spec: {body}\n"
    else:
        text = head + "spec:\n" + textwrap.indent(body, "  ") + "\n"
    (raw,) = raw_documents(text)
    return judge(raw)


def errors(kind: str, body: str) -> dict[str, str]:
    """path → message of every error; two at one path fail the test."""
    found = [(problem.path, problem.message) for problem in written(kind, body).errors]
    assert len(dict(found)) == len(found), found
    return dict(found)


def warnings(kind: str, body: str) -> dict[str, str]:
    return {problem.path: problem.message for problem in written(kind, body).warnings}


def spec(kind: str, body: str):
    """What a right document says."""
    judged = written(kind, body)
    assert judged.document is not None, [str(problem) for problem in judged.errors]
    return judged.document.spec


def assert_one_error(kind: str, body: str, path: str, *parts: str) -> None:
    """Exactly one error, at this path, with these words in it."""
    found = errors(kind, body)
    assert list(found) == [path], found
    for part in parts:
        assert part in found[path], found
