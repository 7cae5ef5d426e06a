"""Order of conflicts, locality labels, selectors."""

from __future__ import annotations

import pytest
from compiling import resources_of

from discovery.model import Locality
from discovery.reading import labelled_locality
from federation.compile.workloads import oldest_first, selects

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s%s}\ndata: {}"


def test_oldest_first_then_by_name() -> None:
    text = "\n---\n".join(
        [
            SECRET % ("b", "x", ""),
            SECRET % ("c", "x", ", creationTimestamp: 2026-02-01T00:00:00Z"),
            SECRET % ("a", "y", ""),
            SECRET % ("d", "x", ", creationTimestamp: '2026-01-01T00:00:00Z'"),
        ]
    )
    assert [each.name for each in oldest_first(resources_of(text)[0].secrets)] == ["d", "c", "a", "b"]


@pytest.mark.parametrize(
    ("labels", "locality"),
    [
        ({"topology.istio.io/locality": "r.z"}, Locality("r", "z")),
        ({"topology.istio.io/locality": "r/z/s"}, Locality("r", "z", "s")),
        ({"istio-locality": "r.z.s"}, Locality("r", "z", "s")),
        ({"istio-locality": "x", "topology.istio.io/locality": "r"}, Locality("r")),
        ({"topology.istio.io/locality": "a.b.c.d"}, None),
        ({}, None),
    ],
)
def test_locality_labels(labels: dict[str, str], locality: Locality | None) -> None:
    assert labelled_locality(labels) == locality


def test_an_empty_selector_selects_nothing() -> None:
    assert not selects({}, {"a": "1"})
    assert selects({"a": "1"}, {"a": "1", "b": "2"})
    assert not selects({"a": "1", "b": "2"}, {"a": "1"})
