"""What a Node says of an agent, Consul's or Nomad's: where it is, and as whom it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from federation.resources.message import Fault, Message


class AgentConnection(Message):
    """address: URL of an agent; whoever derives from this has its default. token_file: read anew when it changes, as the others are.
    ca_file, cert_file, key_file: TLS to the agent."""

    address: str
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def faults(self) -> Iterator[Fault]:
        if text := self._address_fault():
            yield Fault(("address",), text)
        if bool(self.cert_file) != bool(self.key_file):
            yield Fault((), "certFile and keyFile go together; write both or neither")
        elif not self.address.startswith("https://") and (self.ca_file or self.cert_file):
            yield Fault(("address",), "caFile and certFile are for TLS; write https:// or leave them out")

    def _address_fault(self) -> str:
        """An address is logged and shown, so what should be secret does not belong there, and is not quoted."""
        example = type(self).model_fields["address"].default
        if self.address.startswith("unix:///"):
            return ""
        try:
            parts = urlsplit(self.address)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            return f"this is no URL; write for example {example}"
        if parts.username is not None or parts.password is not None:
            return "a user or password in the address would be shown in logs; write the token into a file and name it in tokenFile"
        return "" if good else f"`{self.address[:80]}` is no URL; write for example {example}"
