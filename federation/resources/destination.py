"""Where a route leads: a service's host, perhaps one of its subsets, perhaps one of its ports (virtual_service.proto Destination)."""

from __future__ import annotations

from collections.abc import Iterator

from federation.resources.checks import fault, host_fault, is_label, port_fault, resource_name_fault
from federation.resources.message import Fault, Message
from federation.resources.percent import Percent
from federation.resources.scalars import Whole


class PortSelector(Message):
    number: Whole

    def faults(self) -> Iterator[Fault]:
        yield from fault(("number",), port_fault(self.number))


class Destination(Message):
    """host: a full name, or a short one of the document's namespace; `*.suffix` for a service that has such a name."""

    host: str
    subset: str = ""
    port: PortSelector | None = None

    def faults(self) -> Iterator[Fault]:
        everything = "`*` is everything and no destination; a wildcard here is a service's own name, such as *.example.com"
        yield from fault(("host",), everything if self.host == "*" else host_fault(self.host))
        if self.subset and not is_label(self.subset):
            yield Fault(("subset",), f"`{self.subset[:80]}` is no subset name; use letters, digits and `-`, 63 at most")


class HTTPMirrorPolicy(Message):
    """percentage not written: all requests."""

    destination: Destination
    percentage: Percent | None = None


class Delegate(Message):
    """The VirtualService without hosts that has the routes. namespace: the root's own when not written."""

    name: str
    namespace: str = ""

    def faults(self) -> Iterator[Fault]:
        if resource_name_fault(self.name):
            yield Fault(("name",), "this names no VirtualService; write the name of one that has no hosts")
        if self.namespace and not is_label(self.namespace):
            yield Fault(("namespace",), "this is no namespace; use lower-case letters, digits and `-`")
