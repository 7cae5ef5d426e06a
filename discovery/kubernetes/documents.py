"""Objects of a Kubernetes API → raw documents. Pure.

What the server adds (managed fields, kubectl's own copy, the status) is left out, so that a document changes when its author changes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from discovery.document import Origin, RawDocument

SECRETS = "secrets"
CA_SUFFIX = "-cacert"
"""Istio keeps the authorities of `credentialName: web` in Secret web, or in web-cacert."""
_NAMING = ("credentialName", "credentialNames", "caCertCredentialName")
_SERVERS = ("managedFields", "selfLink")
_KUBECTLS = "kubectl.kubernetes.io/last-applied-configuration"


class Collection(msgspec.Struct, frozen=True, order=True):
    """One kind in one place. root: `/apis/GROUP/VERSION`. namespace "*": all. status: it can be written."""

    root: str
    plural: str
    kind: str
    namespace: str = "*"
    namespaced: bool = True
    status: bool = False

    @property
    def api_version(self) -> str:
        return self.root.removeprefix("/apis/").removeprefix("/api/")

    @property
    def path(self) -> str:
        return f"{self.root}/{self.plural}" if self.namespace == "*" else f"{self.root}/namespaces/{self.namespace}/{self.plural}"

    @property
    def full_name(self) -> str:
        """`gateways.networking.istio.io`, without its version: the same objects in all of them."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural

    def object_path(self, namespace: str, name: str) -> str:
        return (
            f"{self.root}/namespaces/{namespace}/{self.plural}/{name}" if self.namespaced else f"{self.root}/{self.plural}/{name}"
        )


class Stored(msgspec.Struct, frozen=True):
    """An object as it is now. secrets: the names that it mentions as credentials. conditions: of its status."""

    document: RawDocument
    uid: str
    version: str
    generation: int
    path: str
    secrets: frozenset[str] = frozenset()
    conditions: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        return f"<Stored {self.document.origin} version={self.version}>"  # a Secret is one of these


def stored(collection: Collection, raw: bytes | msgspec.Raw) -> Stored | None:
    """None for an object that is being deleted, which finalizers may keep for long. Raises msgspec.ValidationError."""
    content = msgspec.json.decode(raw, type=dict[str, Any])
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if metadata.get("deletionTimestamp"):
        return None
    name, namespace = str(metadata.get("name", "")), str(metadata.get("namespace", ""))
    status = content.get("status")
    found = status.get("conditions") if isinstance(status, dict) else None
    spec = {key: value for key, value in content.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    document = {"apiVersion": collection.api_version, "kind": collection.kind, "metadata": _metadata(metadata), **spec}
    where = f"{namespace}/{name}" if namespace else name
    return Stored(
        document=RawDocument(Origin(f"kubernetes:{collection.full_name}/{where}"), document),
        uid=str(metadata.get("uid", "")),
        version=str(metadata.get("resourceVersion", "")),
        generation=int(metadata.get("generation", 0)),
        path=collection.object_path(namespace, name),
        secrets=frozenset(mentioned(spec)) if collection.plural != SECRETS else frozenset(),
        conditions=tuple(each for each in found if isinstance(each, dict)) if isinstance(found, list) else (),
    )


def _metadata(written: Mapping[str, Any]) -> dict[str, Any]:
    """Without what changes by itself: two readings of one object are equal."""
    kept = {key: value for key, value in written.items() if key not in (*_SERVERS, "resourceVersion", "generation")}
    annotations = {key: value for key, value in (kept.get("annotations") or {}).items() if key != _KUBECTLS}
    kept.pop("annotations", None)
    return {**kept, "annotations": annotations} if annotations else kept


def mentioned(value: object) -> Iterator[str]:
    """Names of Secrets, wherever in a document: `web`, `shop/web` and Istio's `kubernetes://web` all name web."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAMING:
                for text in inner if isinstance(inner, list) else (inner,):
                    yield str(text).rpartition("/")[2]
            else:
                yield from mentioned(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from mentioned(inner)


def published(found: Iterable[Stored]) -> tuple[RawDocument, ...]:
    """Every document in order; of the Secrets only those that another mentions."""
    objects = list(found)
    names = frozenset().union(*(each.secrets for each in objects)) if objects else frozenset()
    wanted = names | {f"{name}{CA_SUFFIX}" for name in names}
    kept = [each.document for each in objects if not _is_secret(each) or each.document.content["metadata"].get("name") in wanted]
    return tuple(sorted(kept, key=lambda document: document.origin))


def _is_secret(found: Stored) -> bool:
    return bool(found.document.content["kind"] == "Secret")
