"""The hostname template that every source has."""

from __future__ import annotations

from collections.abc import Iterator

from discovery.here import template_fault
from federation.resources.message import Fault


def hostname_faults(template: str) -> Iterator[Fault]:
    if text := template_fault(template):
        yield Fault(("hostname",), text)
