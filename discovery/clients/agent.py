"""What the clients of agents (Consul's, Nomad's) do alike over HTTP: TLS by files, and whole answers up to a size."""

from __future__ import annotations

import ssl

import httpx2
import trio


def tls_context(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    """ca_file "": the system's authorities; cert_file "": no certificate is shown. Raises OSError, ssl.SSLError among them."""
    context = ssl.create_default_context(cafile=ca_file or None)
    if cert_file:
        context.load_cert_chain(cert_file, key_file or None)
    return context


async def read_whole(response: httpx2.Response, most: int) -> bytes | None:
    """The body; None when it has more than `most` bytes, and then no more of it is read. Raises what httpx2 raises."""
    parts, size = [], 0
    with trio.CancelScope() as scope:  # cancelled rather than left, so that every generator of httpx2 ends where it waits
        async for part in response.aiter_bytes():
            size += len(part)
            if size > most:
                scope.cancel()
            else:
                parts.append(part)
    return b"".join(parts) if size <= most else None
