"""`from` of a ServicePolicy and of an ExternalService: who may use it.

from:
- {principals: ['east.example.com/ns/shop/sa/*']}                            # proven by a client certificate
- {ipBlocks: [10.1.0.0/16]}                                                  # a plain client is known by its address only
- {principals: ['*/ns/batch/sa/*'], ipBlocks: [10.2.0.0/16]}                 # both
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from federation.resources.checks import duplicates, is_ip
from federation.resources.message import Fault, Message, Path

_SCHEME = "spiffe://"


class From(Message):
    """One kind of client; every list that is written must match. principals: `TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT`, as Istio writes them:
    exact, `prefix*`, `*suffix`, or `*` (anybody with a certificate). ip_blocks: IPs and CIDRs of clients."""

    principals: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if not self.principals and not self.ip_blocks:
            yield Fault((), "says nothing of who it is; write principals, ipBlocks, or both (`0.0.0.0/0` and `::/0` for everybody)")
        for index, text in enumerate(self.principals):
            name = text.removeprefix(_SCHEME)
            if not name or "*" in name[1:-1] or (name != "*" and name.startswith("*") and name.endswith("*")) or " " in name:
                message = (
                    f"`{text[:80]}` is no principal; write TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT, with one `*` at most, at an end"
                )
                yield Fault(("principals", index), message)
        yield from network_faults(self.ip_blocks, ("ipBlocks",))
        for name, values in (("principals", self.principals), ("ipBlocks", self.ip_blocks)):
            for index, value in duplicates(values):
                yield Fault((name, index), f"`{value[:80]}` is written twice; remove one")


def network_faults(written: Sequence[str], at: Path) -> Iterator[Fault]:
    for index, text in enumerate(written):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Fault((*at, index), f"`{text[:80]}` is no IP and no CIDR; write for example 10.1.0.0/16")


def source_address_faults(text: str, at: Path) -> Iterator[Fault]:
    if text and (not is_ip(text) or "%" in text):
        yield Fault(at, f"`{text[:80]}` is no IP; write the address of this machine that connections shall leave from")
