"""The base of everything users write: one frozen pydantic class per proto message of Istio, per object of Kubernetes, per kind of ours.

Theory of operation. A class says three things about its mapping. Its fields: snake_case here, camelCase in documents, and Istio
takes the proto's snake_case too, so both are read. `later`: fields that exist over there and do nothing here yet; they are refused by
name, because a field that is silently ignored is a trap. `passed_over`: fields that a registry prints and nobody needs here. All
else is unknown. Rules between fields are `faults`, found after the types are right (`strict.py` walks the tree).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

Path = tuple[str | int, ...]
"""Where in a document, by the names in documents: ("spec", "servers", 0, "port")."""


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a message, or (warning) that works but not as its author may think. path is relative to the message."""

    path: Path
    message: str
    warning: bool = False


class Message(BaseModel):
    """A mapping of a document. Frozen; equal by value."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    later: ClassVar[tuple[str, ...]] = ()
    passed_over: ClassVar[tuple[str, ...]] = ()

    def faults(self) -> Iterator[Fault]:
        """What is wrong between the fields of this message; what is wrong within a field's own message is that one's to say."""
        return iter(())
