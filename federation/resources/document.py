"""A document that was read: what it says, by kind, and where it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Generic, TypeVar

from pydantic import Field

from discovery.document import Origin
from federation.resources.checks import fault, is_label, label_faults, resource_name_fault
from federation.resources.message import Fault, Message

S = TypeVar("S", bound=Message, covariant=True)

NOWHERE = Origin("")


class Metadata(Message):
    """Kubernetes ObjectMeta, of which these are used; what kubectl prints besides is passed over."""

    passed_over = (
        "uid",
        "resourceVersion",
        "generation",
        "managedFields",
        "selfLink",
        "ownerReferences",
        "finalizers",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "clusterName",
    )

    name: str
    namespace: str = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: str = ""

    def faults(self) -> Iterator[Fault]:
        yield from fault(("name",), resource_name_fault(self.name))
        if not is_label(self.namespace):
            yield Fault(
                ("namespace",), f"`{self.namespace[:80]}` is no namespace; use lower-case letters, digits and `-`, 63 at most"
            )
        yield from label_faults(self.labels, ("labels",))


@dataclasses.dataclass(frozen=True, slots=True)
class Document(Generic[S]):
    """One document. spec: what its `spec` says; of a kind without `spec` (Secret, EndpointSlice) what the document itself says. owner: (kind,
    name) of the document that stands for this one, which is what people wrote; empty for most."""

    kind: str
    api_version: str
    metadata: Metadata
    spec: S
    origin: Origin = NOWHERE
    owner: tuple[str, str] = ("", "")

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace
