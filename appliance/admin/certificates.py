"""Certificates that a Snapshot uses, as rows: whose they are, how long they are good, what uses them. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache

from appliance.admin.rows import CertificateRow
from appliance.telemetry.metrics import CertificateReading
from federation.trust.certificate import CertificateFacts, facts_of, read_certificates
from federation.trust.identity import TrustError
from gateway.snapshot import Backend, CertificateRef, Listener, Snapshot, UpstreamTls

Use = tuple[str, str, str]
"""(name, PEM, what uses it)"""

# Chains are shared by many listeners and backends; a hundred gateways' worth of them.
_CHAINS = 1024


def certificates(snapshot: Snapshot, now: datetime) -> list[CertificateRow]:
    """Every certificate once, by the time when it expires; roots of peers included."""
    uses: dict[str, tuple[str, CertificateFacts, dict[str, None]]] = {}
    for name, pem, use in _uses(snapshot):
        for facts in _facts(pem):
            uses.setdefault(facts.fingerprint, (name, facts, {}))[2][use] = None
    rows = [_row(name, facts, tuple(used), now) for name, facts, used in uses.values()]
    return sorted(rows, key=lambda row: (row.not_after, row.name, row.serial))


def expiries(snapshot: Snapshot) -> list[CertificateReading]:
    """The same for the metric."""
    rows = certificates(snapshot, datetime.now(UTC))
    return [CertificateReading(row.name, row.serial, datetime.fromisoformat(row.not_after).timestamp()) for row in rows]


def _uses(snapshot: Snapshot) -> Iterator[Use]:
    for part in snapshot.parts.values():
        if isinstance(part, Listener):
            for chain in part.chains:
                if chain.tls is not None:
                    use = f"listener {part.key}"
                    yield from (_own(reference, use) for reference in chain.tls.certificates)
                    yield "client CA", chain.tls.ca, use
                    yield from ((f"bundle {domain}", pem, use) for domain, pem in chain.tls.bundles)
        elif isinstance(part, Backend):
            for tls in (part.tls, *(tls for _, tls in part.peer_tls)):
                if tls is not None:
                    yield from _upstream(tls, f"backend {part.name}")


def _upstream(tls: UpstreamTls, use: str) -> Iterator[Use]:
    if tls.certificate is not None:
        yield _own(tls.certificate, use)
    yield "server CA", tls.ca, use
    yield from ((f"bundle {domain}", pem, use) for domain, pem in tls.bundles)


def _own(reference: CertificateRef, use: str) -> Use:
    return reference.name or "certificate", reference.chain, use


@lru_cache(maxsize=_CHAINS)
def _facts(pem: str) -> tuple[CertificateFacts, ...]:
    try:
        return tuple(facts_of(certificate) for certificate in read_certificates(pem, "snapshot")) if pem else ()
    except TrustError:
        return ()  # workers report it as a fault of the listener or backend


def _row(name: str, facts: CertificateFacts, used_by: tuple[str, ...], now: datetime) -> CertificateRow:
    names = (*((facts.identity,) if facts.identity else ()), *facts.dns_names)
    trust_domain = facts.identity.removeprefix("spiffe://").partition("/")[0] if facts.identity.startswith("spiffe://") else ""
    kind = "leaf" if not facts.authority else "root" if facts.subject == facts.issuer else "intermediate"
    return CertificateRow(
        name=name,
        kind=kind,
        valid=facts.not_before <= now <= facts.not_after,
        serial=facts.serial,
        not_before=_text(facts.not_before),
        not_after=_text(facts.not_after),
        trust_domain=trust_domain,
        subject_alt_names=names or (facts.subject,),
        issuer=facts.issuer,
        used_by=used_by,
    )


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
