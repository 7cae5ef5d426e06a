"""What a Node says of Nomad as a source."""

from __future__ import annotations

from collections.abc import Iterator

from discovery.here import HOSTNAME
from federation.resources.message import Fault, Message
from federation.resources.registry.hostname import hostname_faults

ADDRESS = "http://127.0.0.1:4646"  # of the local agent: Nomad's own default


class NomadSource(Message):
    """namespace: `*` is all. region "": the agent's own."""

    address: str = ADDRESS
    region: str = ""
    namespace: str = "*"
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    tags: tuple[str, ...] = ()
    hostname: str = HOSTNAME

    def faults(self) -> Iterator[Fault]:
        if not self.address.startswith(("http://", "https://", "unix://")):
            yield Fault(("address",), f"`{self.address[:80]}` is no URL; write for example {ADDRESS}")
        if bool(self.cert_file) != bool(self.key_file):
            yield Fault((), "certFile and keyFile go together; write both or neither")
        yield from hostname_faults(self.hostname)
