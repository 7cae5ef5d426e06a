"""Istio ServerTLSSettings (networking/v1alpha3/gateway.proto): how one server of a Gateway ends TLS, or does not."""

from __future__ import annotations

import base64
import binascii
import enum
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.checks import duplicates, warning
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, choice_reader


class ServerTlsMode(enum.Enum):
    PASSTHROUGH = "PASSTHROUGH"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"


class TlsProtocol(enum.Enum):
    TLS_AUTO = "TLS_AUTO"
    TLSV1_0 = "TLSV1_0"
    TLSV1_1 = "TLSV1_1"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


_Mode = Annotated[ServerTlsMode, BeforeValidator(choice_reader(ServerTlsMode))]
_Version = Annotated[TlsProtocol, BeforeValidator(choice_reader(TlsProtocol))]

# Istio's list, which is BoringSSL's without PSK; OpenSSL has the same names. DES-CBC3-SHA is not built into OpenSSL 3 (SWEET32).
CIPHER_SUITES = frozenset(
    {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    }
)
MOST_CERTIFICATES = 2  # Istio's CRD: one each of RSA and ECDSA
_OF_KEY = "'s public key (SPKI)"
_HASH = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){31}")


def _secret_name(value: object) -> object:
    """Istio writes a Secret also as `kubernetes://NAME`."""
    return value.removeprefix("kubernetes://") if isinstance(value, str) else value


SecretName = Annotated[str, BeforeValidator(_secret_name)]


def secret_name_faults(field: str, name: str, at: tuple[str | int, ...] = ()) -> Iterator[Fault]:
    if "://" in name:
        yield Fault((field, *at), f"{field} with a scheme other than kubernetes:// names no Secret; write the Secret's name")


def spki_pin(text: str) -> str:
    """base64 of a SHA-256 → its hex form. Raises ValueError."""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise ValueError("is no base64 of a SHA-256 (44 characters)")
    return digest.hex()


def hash_pin(text: str) -> str:
    """Hex SHA-256, with or without colons → hex. Raises ValueError."""
    if not _HASH.fullmatch(text):
        raise ValueError("is no hex SHA-256 (64 digits, colons allowed)")
    return text.replace(":", "").lower()


class TLSCertificate(Message):
    """Files of one certificate. caCertificates is not read, as in Istio: the server's own is."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""

    def faults(self) -> Iterator[Fault]:
        for name, value in (("serverCertificate", self.server_certificate), ("privateKey", self.private_key)):
            if not value:
                yield Fault((name,), f"`{name}` is missing; write the file")
        if self.ca_certificates:
            yield from warning(("caCertificates",), "is not used here; write caCertificates beside tlsCertificates")


class ServerTLSSettings(Message):
    """mode None: none written, which Istio reads as PASSTHROUGH; it is right beside httpsRedirect on a plain HTTP server."""

    https_redirect: Flag = False
    mode: _Mode | None = None
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: SecretName = ""
    credential_names: tuple[SecretName, ...] = ()
    ca_cert_credential_name: SecretName = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: _Version = TlsProtocol.TLS_AUTO
    max_protocol_version: _Version = TlsProtocol.TLS_AUTO
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: Flag = False

    @property
    def effective_mode(self) -> ServerTlsMode:
        return self.mode or ServerTlsMode.PASSTHROUGH

    @property
    def asks_for_certificates(self) -> bool:
        return self.effective_mode in (ServerTlsMode.MUTUAL, ServerTlsMode.OPTIONAL_MUTUAL, ServerTlsMode.ISTIO_MUTUAL)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The Secrets that certificates are taken from."""
        return self.credential_names or ((self.credential_name,) if self.credential_name else ())

    @property
    def named_secrets(self) -> tuple[str, ...]:
        """Every Secret that is needed."""
        return (*self.secrets, *((self.ca_cert_credential_name,) if self.ca_cert_credential_name else ()))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The files that certificates and keys are taken from, when no Secret is named."""
        if self.tls_certificates:
            return tuple((each.server_certificate, each.private_key) for each in self.tls_certificates)
        return ((self.server_certificate, self.private_key),)

    @property
    def suites(self) -> tuple[str, ...]:
        """cipherSuites that are known, each once."""
        return tuple(dict.fromkeys(name for name in self.cipher_suites if name in CIPHER_SUITES))

    @property
    def names_files(self) -> bool:
        return bool(self.server_certificate or self.private_key or self.ca_certificates or self.tls_certificates)

    def faults(self) -> Iterator[Fault]:
        mode = self.effective_mode
        if mode is ServerTlsMode.ISTIO_MUTUAL:
            yield from self._own()
        elif mode in (ServerTlsMode.PASSTHROUGH, ServerTlsMode.AUTO_PASSTHROUGH):
            if self.names_files or self.secrets or self.ca_crl or self.ca_cert_credential_name:
                yield from warning((), f"mode {mode.value} does not use certificates; remove them, or write another mode")
        else:
            yield from self._sources()
            yield from self._authorities()
        yield from self._limits()
        yield from self._pins()

    def _own(self) -> Iterator[Fault]:
        if self.names_files or self.secrets or self.ca_cert_credential_name:
            yield Fault((), "ISTIO_MUTUAL uses the gateway's own certificate; remove the certificates and credentialName")

    def _sources(self) -> Iterator[Fault]:
        """Exactly one place that certificates come from."""
        mode = self.effective_mode.value
        written = {
            "credentialName": bool(self.credential_name),
            "credentialNames": bool(self.credential_names),
            "serverCertificate/privateKey": bool(self.server_certificate or self.private_key),
            "tlsCertificates": bool(self.tls_certificates),
        }
        sources = [name for name, is_written in written.items() if is_written]
        if len(sources) > 1:
            yield Fault((), f"{' and '.join(sources)} are both written; keep one")
        elif sources in ([], ["serverCertificate/privateKey"]):
            for name, value in (("serverCertificate", self.server_certificate), ("privateKey", self.private_key)):
                if not value:
                    yield Fault((), f"{mode} needs a certificate: `{name}` is missing; write it, or credentialName")
        for field, count in (("credentialNames", len(self.credential_names)), ("tlsCertificates", len(self.tls_certificates))):
            if count > MOST_CERTIFICATES:
                yield Fault((field,), f"{count} certificates; a server has {MOST_CERTIFICATES} at most, one RSA and one ECDSA")
        yield from secret_name_faults("credentialName", self.credential_name)
        yield from secret_name_faults("caCertCredentialName", self.ca_cert_credential_name)
        for index, name in enumerate(self.credential_names):
            yield from secret_name_faults("credentialNames", name, (index,))
        for index, name in duplicates(self.credential_names):
            yield Fault(("credentialNames", index), f"`{name}` is written twice; remove one")

    def _authorities(self) -> Iterator[Fault]:
        mode = self.effective_mode
        if mode is ServerTlsMode.SIMPLE:
            if self.ca_crl:
                yield Fault(
                    ("caCrl",), "SIMPLE asks for no client certificate, so there is none to revoke; write MUTUAL, or remove it"
                )
            return
        if not self.secrets and not self.ca_certificates and not self.ca_cert_credential_name:
            text = (
                f"{mode.value} needs `caCertificates`, which client certificates are checked against; write it, or credentialName"
            )
            yield Fault((), text)
        if self.ca_crl and self.secrets:
            yield Fault(
                ("caCrl",), "caCrl is for files; with credentialName the list is the Secret's `ca.crl` (or `crl`); move it there"
            )
        if self.insecure_skip_verify:
            text = "a client certificate that does not verify is never let in here; write OPTIONAL_MUTUAL to let in clients without one"
            yield Fault(("insecureSkipVerify",), text)

    def _limits(self) -> Iterator[Fault]:
        versions = list(TlsProtocol)
        low, high = versions.index(self.min_protocol_version), versions.index(self.max_protocol_version)
        if low and high and low > high:
            yield Fault(("maxProtocolVersion",), "maxProtocolVersion is below minProtocolVersion; no client could connect")
        if 0 < low < versions.index(TlsProtocol.TLSV1_2):
            text = "TLS below 1.2 is not secure, and the ciphers it needs are off unless cipherSuites names them; write TLSV1_2"
            yield from warning(("minProtocolVersion",), text)
        for index, name in enumerate(self.cipher_suites):
            if name not in CIPHER_SUITES:
                text = f"`{name[:80]}` is no cipher suite that can be chosen here and is ignored; known: {', '.join(sorted(CIPHER_SUITES))}"
                yield from warning(("cipherSuites", index), text)
        for index, name in duplicates(self.cipher_suites):
            yield from warning(("cipherSuites", index), f"`{name[:80]}` is written twice; remove one")

    def _pins(self) -> Iterator[Fault]:
        for index, text in enumerate(self.verify_certificate_spki):
            yield from _pin_fault(("verifyCertificateSpki", index), text, spki=True)
        for index, text in enumerate(self.verify_certificate_hash):
            yield from _pin_fault(("verifyCertificateHash", index), text, spki=False)
        wanted = {
            "subjectAltNames": self.subject_alt_names,
            "verifyCertificateSpki": self.verify_certificate_spki,
            "verifyCertificateHash": self.verify_certificate_hash,
        }
        for name, values in wanted.items():
            if values and not self.asks_for_certificates:
                text = f"mode {self.effective_mode.value} asks for no client certificate, so {name} is not looked at; write MUTUAL"
                yield from warning((name,), text)


def _pin_fault(path: tuple[str | int, ...], text: str, *, spki: bool) -> Iterator[Fault]:
    try:
        spki_pin(text) if spki else hash_pin(text)
    except ValueError as error:
        yield Fault(path, f"{error}; write the SHA-256 of the certificate{_OF_KEY if spki else ' (DER)'}")
