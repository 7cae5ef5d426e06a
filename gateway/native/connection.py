"""What is known of a downstream connection from its first byte to its last."""

from __future__ import annotations

import msgspec

from gateway.native.targets import Targets
from gateway.snapshot import FilterChain, Inbound, Listener


class ClientCertificate(msgspec.Struct, frozen=True):
    """Of a client that proved it: for x-forwarded-client-cert, logs and metrics. hash: hex SHA-256 of the DER. pem: the certificate
    itself. by: the URI name of the certificate that the client was shown, "" without one."""

    subject: str = ""
    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    hash: str = ""
    pem: str = ""
    by: str = ""


class ConnectionContext(msgspec.Struct, frozen=True):
    """Made by the listener once the connection is ready to carry HTTP, or to be relayed; the same for all its requests.

    inbound: set on EAST_WEST, and then names the backend whatever the requests' Host; else `table` names the route table.
    scheme: "http" or "https". identity: the client's SPIFFE id, proven in the handshake; "" otherwise.
    alpn: what the handshake agreed on; "" = nothing, or plain text.
    peer, local: `IP:PORT` (v6 in brackets) of the client and of the accepted socket, or what a PROXY header said of them; of unix sockets
    the listener's address for both, as Envoy writes it. peer_address, local_address: the bare IPs, "" for unix sockets.
    tcp: set = it carries no HTTP and is relayed there (`native/tcp`).
    """

    listener: Listener
    scheme: str = "http"
    chain: FilterChain | None = None
    table: str = ""
    inbound: Inbound | None = None
    identity: str = ""
    certificate: ClientCertificate | None = None
    sni: str = ""
    peer: str = ""
    peer_address: str = ""
    local: str = ""
    tls_version: str = ""
    alpn: str = ""
    local_address: str = ""
    tcp: Targets | None = None
