"""TLS towards a Kubernetes API, made from certificates in memory.

OpenSSL's Python binding loads a private key from a file only; it is given one that lives in memory and has no name (memfd), so that no
key is ever written to a disk.
"""

from __future__ import annotations

import os
import ssl

import msgspec


class Material(msgspec.Struct, frozen=True):
    """PEM. ca b"": the system's authorities. server_name "": the URL's host. verify False: only where a kubeconfig says so itself."""

    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    verify: bool = True
    server_name: str = ""

    def __repr__(self) -> str:
        return f"<Material ca={bool(self.ca)} certificate={bool(self.certificate)} verify={self.verify}>"


class Tls:
    """A context and what it was made of."""

    __slots__ = ("context", "material")

    def __init__(self, context: ssl.SSLContext, material: Material) -> None:
        self.context, self.material = context, material

    @property
    def certificate(self) -> bool:
        """Whether we show one."""
        return bool(self.material.certificate)


def build(material: Material) -> Tls:
    """Raises ValueError for what is no certificate or key, OSError if the system refuses a file in memory. Blocks for milliseconds."""
    try:
        context = ssl.create_default_context(cadata=material.ca.decode("ascii", "replace") if material.ca else None)
    except ssl.SSLError:
        raise ValueError("the certificate authority is no PEM certificate; it begins with -----BEGIN CERTIFICATE-----") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 sets this, and the authorities of EKS and others have no key identifiers, which nobody else asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not material.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if material.certificate:
        _show(context, material)
    return Tls(context, material)


def _show(context: ssl.SSLContext, material: Material) -> None:
    descriptor = os.memfd_create("kubernetes", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, material.certificate + b"\n" + material.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError:
        raise ValueError("the client certificate and its key are no PEM, or do not belong together; write both anew") from None
    finally:
        os.close(descriptor)
