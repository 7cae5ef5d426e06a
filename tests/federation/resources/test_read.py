"""Many documents at once: each judged by itself; and documents shaped like Istio's samples load as they are."""

from written import load, raw_documents

from discovery.document import Origin, RawDocument
from federation.resources.read import judge, read

MIXED = """
apiVersion: fedgate.io/v1
kind: Export
metadata: {name: a}
spec: {services: [a], peers: [b]}
---
apiVersion: fedgate.io/v1
kind: Export
metadata: {name: b}
spec: {services: [a], peers: [b], colour: red}
---
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: w, addresses: ['a:1'], bundle: {path: x}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
---
kind: Peer
---
apiVersion: fedgate.io/v1
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
"""


def test_a_faulty_document_is_left_out_and_the_others_stand():
    found = load(MIXED)
    assert [document.name for document in found.exports] == ["a"]
    assert [document.name for document in found.peers] == ["west"]
    assert [(problem.kind, problem.name, problem.line, problem.path) for problem in found.problems] == [
        ("Export", "b", 10, "spec.colour"),
        ("Peer", "", 21, "apiVersion"),
        ("", "", 23, "kind"),
        ("AuthorizationPolicy", "deny", 26, "kind"),
    ]
    (note,) = found.notes
    assert (note.kind, note.name, note.path) == ("Deployment", "d", "kind")
    assert str(note).startswith("test.yaml:18 Deployment/d kind: ")


def test_of_two_documents_of_one_name_the_first_stands():
    text = "apiVersion: fedgate.io/v1\nkind: Export\nmetadata: {name: a, namespace: %s}\nspec: {services: [%s], peers: [b]}\n---\n"
    found = load(text % ("n", "first") + text % ("n", "second") + text % ("m", "other"))
    assert [document.spec.services for document in found.exports] == [("first",), ("other",)]
    (problem,) = found.problems
    assert (problem.line, problem.path) == (8, "metadata.name")
    assert "n/a is written already at test.yaml:1" in problem.message


def test_a_list_as_kubectl_prints_it():
    found = load(
        """
        apiVersion: v1
        kind: List
        items:
        - apiVersion: v1
          kind: Service
          metadata: {name: a}
          spec: {ports: [{port: 80}]}
        - apiVersion: v1
          kind: Service
          metadata: {name: b}
          spec:
            ports:
            - port: 0
        - just text
        """
    )
    assert [document.name for document in found.services] == ["a"]
    assert [(problem.line, problem.path) for problem in found.problems] == [(14, "spec.ports[0].port"), (15, "apiVersion")]
    assert found.services[0].origin.line == 5


def test_texts_that_no_output_can_encode_come_out_as_escapes():
    content = {"apiVersion": "fedgate.io/v1", "kind": "Peer", "metadata": {"name": "\udc80"}, "spec": {"\udc80": 1}}
    for problem in judge(RawDocument(Origin("f", 1), content)).errors:
        str(problem).encode()


def test_no_documents():
    found = read(())
    assert found.problems == found.notes == found.gateways == ()


BOOKSHOP = """
apiVersion: v1
kind: Service
metadata:
  name: details
  labels: {app: details, service: details}
spec:
  ports:
  - {port: 9080, name: http}
  selector: {app: details}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: shop-details
  labels: {account: details}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: details-v1, labels: {app: details, version: v1}}
spec:
  replicas: 1
  selector: {matchLabels: {app: details, version: v1}}
  template:
    metadata: {labels: {app: details, version: v1}}
    spec:
      serviceAccountName: shop-details
      containers:
      - {name: details, image: 'registry.example/details:1', ports: [{containerPort: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop-gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: ["*"]
  gateways: [shop-gateway]
  http:
  - match:
    - uri: {exact: /productpage}
    - uri: {prefix: /static}
    - uri: {exact: /login}
    route:
    - destination: {host: productpage, port: {number: 9080}}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details}
spec:
  host: details
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  subsets:
  - {name: v1, labels: {version: v1}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {end-user: {exact: john}}
    route:
    - destination: {host: reviews, subset: v2}
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 80}
    - {destination: {host: reviews, subset: v2}, weight: 20}
"""


def test_a_bookshop_as_istio_users_write_it_loads_without_a_problem():
    found = load(BOOKSHOP)
    assert found.problems == ()
    assert [note.kind for note in found.notes] == ["ServiceAccount", "Deployment"]
    counts = [len(part) for part in (found.services, found.gateways, found.virtual_services, found.destination_rules)]
    assert counts == [1, 1, 2, 2]


def test_reading_is_repeatable():
    documents = raw_documents(BOOKSHOP + "---" + MIXED)
    assert read(documents) == read(documents)
