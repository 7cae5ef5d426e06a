"""A document that was read: what it says, by kind, and where it stands."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BeforeValidator, Field

from discovery.document import Origin
from federation.resources.message import Message

S = TypeVar("S", bound=Message, covariant=True)

NOWHERE = Origin("")


def _moment(value: Any) -> Any:
    """YAML makes a time of an unquoted RFC 3339 text; back to text."""
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


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
    creation_timestamp: Annotated[str, BeforeValidator(_moment)] = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Document(Generic[S]):
    """One document. spec: what its `spec` says; of a kind without `spec` (Secret, EndpointSlice) what the document itself says."""

    kind: str
    api_version: str
    metadata: Metadata
    spec: S
    origin: Origin = NOWHERE

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace
