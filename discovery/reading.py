"""What port names, application protocols and labels say, the same for every registry (FIELD b26, i8). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from discovery.model import Locality, Protocol

LOCALITY_LABEL = "topology.istio.io/locality"
LEGACY_LOCALITY_LABEL = "istio-locality"

_PROTOCOLS = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "https": Protocol.HTTPS,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC_WEB,
    "tcp": Protocol.TCP,
    "tls": Protocol.TLS,
    "mongo": Protocol.MONGO,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
    "udp": Protocol.UDP,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
# The server speaks first on these, so nobody can find out by waiting for the client (Istio takes them as TCP): SMTP, DNS, MySQL, MongoDB.
_SERVER_FIRST = frozenset({25, 53, 3306, 27017})


def port_protocol(name: str, app_protocol: str, number: int) -> Protocol:
    """appProtocol, else the name's prefix (`http`, `grpc-web-ui`), else UNKNOWN (FIELD b26)."""
    if app_protocol:
        return _PROTOCOLS.get(app_protocol.lower(), Protocol.UNKNOWN)
    lowered = name.lower()
    for prefix in ("grpc-web", lowered.partition("-")[0]):
        if (lowered == prefix or lowered.startswith(f"{prefix}-")) and prefix in _PROTOCOLS:
            return _PROTOCOLS[prefix]
    return Protocol.TCP if number in _SERVER_FIRST else Protocol.UNKNOWN


def labelled_locality(labels: Mapping[str, str]) -> Locality | None:
    """What the locality label says (dots for slashes, as label values have no slash); None when it is missing or no locality."""
    text = labels.get(LOCALITY_LABEL) or labels.get(LEGACY_LOCALITY_LABEL, "")
    if not text:
        return None
    try:
        return Locality.parse(text if "/" in text else text.replace(".", "/"))
    except ValueError:
        return None
