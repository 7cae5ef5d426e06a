"""Certificates for tests: SPIFFE authorities of trust domains (root and intermediate), leaves good and deliberately bad, DNS servers.

Everything is real ECDSA P-256 and verification stays on. A `Leaf` carries its chain as PEM and its key as a Secret, so it goes
into a Snapshot (`leaf.ref`) and a Secrets mapping (`secrets(leaf, …)`) as they are. Keys are made once a process (`_key`): making
one is most of what a certificate costs.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.secret import Secret
from gateway.snapshot import CertificateRef

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
HOUR = datetime.timedelta(hours=1)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@functools.cache
def _key(name: str) -> ec.EllipticCurvePrivateKey:
    """One key a name; `name` only tells keys apart."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def _rsa_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def gateway_id(trust_domain: str) -> str:
    """The identity of a fedgate gateway of that trust domain."""
    return f"spiffe://{trust_domain}/ns/fedgate/sa/gateway"


@dataclass(frozen=True)
class Leaf:
    """A certificate with its chain (leaf first, without the root) and its key, both PEM."""

    certificate: x509.Certificate
    chain: str
    key: Secret
    name: str = ""

    @property
    def ref(self) -> CertificateRef:
        return CertificateRef(chain=self.chain, key=self.key.digest, name=self.name)

    def load_into(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Make it the context's own certificate; returns the context."""
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(self.key.reveal() + self.chain.encode())
            file.flush()
            context.load_cert_chain(file.name)
        return context


def secrets(*leaves: Leaf) -> dict[str, Secret]:
    """digest → key, as engines are given them."""
    return {leaf.key.digest: leaf.key for leaf in leaves}


@dataclass
class Authority:
    """A CA. `parent` None = a root. `bundle` is the PEM of its root, `above` the PEM chain to send after a leaf's own."""

    name: str
    parent: Authority | None = None
    not_before: datetime.datetime = NOW - HOUR
    not_after: datetime.datetime = NOW + 240 * HOUR
    path_length: int | None = None
    is_ca: bool = True
    key: ec.EllipticCurvePrivateKey = field(init=False)
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.key = _key(f"ca {self.name}")
        issuer = self.parent or self
        builder = _builder(_subject(self.name), issuer, self.key, (self.not_before, self.not_after))
        builder = builder.add_extension(x509.BasicConstraints(self.is_ca, self.path_length), critical=True)
        builder = builder.add_extension(_usage(sign=not self.is_ca, certify=self.is_ca), critical=True)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return _pem(self.certificate)

    @property
    def bundle(self) -> str:
        return self.parent.bundle if self.parent else self.pem

    @property
    def above(self) -> str:
        return self.pem + self.parent.above if self.parent else ""

    def intermediate(self, name: str = "", **options: object) -> Authority:
        """An authority signed by this one; options: fields of Authority."""
        return Authority(name or f"{self.name} intermediate", self, **options)  # type: ignore[arg-type]

    def leaf(
        self,
        *names: str,
        valid: tuple[datetime.datetime, datetime.datetime] = (NOW - HOUR, NOW + 24 * HOUR),
        usages: tuple[x509.ObjectIdentifier, ...] = BOTH,
        certify: bool = False,
        label: str = "",
        of_rsa: bool = False,
    ) -> Leaf:
        """A leaf with these SANs: `scheme://…` becomes a URI, an address an IP, anything else a DNS name. certify: its key usage
        (wrongly) says keyCertSign. label: tells keys of equal names apart, and is CertificateRef.name."""
        title = label or (names[0] if names else "nobody")
        made = _rsa_key if of_rsa else _key
        key = made(f"leaf {self.name} {title} {names}")
        # SPIFFE leaves have no subject, and then the SAN is critical (RFC 5280 section 4.1.2.6).
        spiffe = any(name.startswith("spiffe://") for name in names)
        builder = _builder(x509.Name([]) if spiffe else _subject(title), self, key, valid)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(sign=True, certify=certify), critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(n) for n in names]), critical=spiffe)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Leaf(certificate, _pem(certificate) + self.above, _secret(key), title)

    def crl(self, *revoked: Leaf | Authority, until: datetime.datetime = NOW + 24 * HOUR) -> str:
        """Its revocation list, PEM, with the serial numbers of these."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(NOW - 2 * HOUR).next_update(until)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number).revocation_date(NOW - HOUR)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def expired(self, *names: str) -> Leaf:
        return self.leaf(*names, valid=(NOW - 48 * HOUR, NOW - HOUR), label=f"expired {names[0]}")

    def not_yet_valid(self, *names: str) -> Leaf:
        return self.leaf(*names, valid=(NOW + HOUR, NOW + 48 * HOUR), label=f"future {names[0]}")


def spiffe(trust_domain: str) -> Authority:
    """The issuing (intermediate) authority of a trust domain; `.bundle` is its root's PEM."""
    return Authority(f"{trust_domain} root").intermediate(f"{trust_domain} intermediate")


def gateway_leaf(authority: Authority, trust_domain: str) -> Leaf:
    """What a fedgate gateway of that trust domain presents."""
    return authority.leaf(gateway_id(trust_domain))


def self_signed(*names: str) -> Leaf:
    """A leaf that signed itself."""
    alone = Authority(f"self {names[0]}", is_ca=False)
    builder = _builder(_subject(names[0]), alone, alone.key, (NOW - HOUR, NOW + 24 * HOUR))
    builder = builder.add_extension(x509.SubjectAlternativeName([_san(n) for n in names]), critical=False)
    certificate = builder.sign(alone.key, hashes.SHA256())
    return Leaf(certificate, _pem(certificate), _secret(alone.key), "self-signed")


_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def _builder(
    subject: x509.Name, issuer: Authority, key: _Key, valid: tuple[datetime.datetime, datetime.datetime]
) -> x509.CertificateBuilder:
    issuer_key = issuer.key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_subject(issuer.name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    # An X.520 common name has 64 characters at most.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, certify, certify, False, False)


def _san(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _secret(key: _Key) -> Secret:
    form = serialization.PrivateFormat.PKCS8
    return Secret(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
