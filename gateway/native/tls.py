"""TLS contexts out of the Snapshot: what listeners end and what endpoints are dialled with.

Theory of operation. A context is made once for each distinct DownstreamTls or UpstreamTls (frozen, with its keys' digests inside) and
kept while it is in use; a changed certificate is another struct, so another context: new handshakes use it, connections that stand
keep theirs. An SSLObject is made only after the client hello was read, from the one context that listener and server name decide.
`sni_callback` is not used and must not be: swapping the context there keeps the first one's verify_mode, and a client without a
certificate passes.

A session is resumed only within one context (each has its own ticket keys and cache), so never across two policies. What a resumed
session still has of the client is its leaf: its names, its pins and its end are checked each time. Contexts that verify more than
that do not resume at all: SPIFFE identities, whose chain is verified again, and revocation lists, which may be over by then. No tickets
(both versions), and since Python cannot turn off OpenSSL's cache of TLS 1.2 session ids, a TLS 1.2 hello that names a session gets
a context of its own, whose cache is empty. docs/decisions/0004 has the numbers.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable

from cryptography import x509

from gateway.native import identity
from gateway.native.codec.hello import TLS_1_3, Hello
from gateway.native.identity import NOTHING, Bundles, PeerRefused, Proof
from gateway.native.tls_material import TlsFault as TlsFault
from gateway.native.tls_material import complete, limit, load_certificates, moment, revoke, roots, trust
from gateway.secret import Secrets
from gateway.snapshot import DownstreamTls, TlsMode, UpstreamTls, UpstreamTlsMode

# A TLS 1.3 client uses each ticket once and gets a new one with each resumption, so one is enough to go on for ever; OpenSSL's default
# of two lets a client open two connections at once, and costs 20 µs (5 %) more of each handshake.
TICKETS = 1
# Reading the system's roots for a context takes some 20 ms, so one that is dialled now and then is not made each time.
_KEEP_S = 600.0


class ServerTls:
    """One DownstreamTls made ready. `faults`: what of it cannot be used; the rest serves."""

    def __init__(self, tls: DownstreamTls, secrets: Secrets, *, east_west: bool, clock: Callable[[], float]) -> None:
        """Raises TlsFault when nothing of it can serve."""
        self.tls = tls
        self.faults: list[str] = []
        self._secrets = {ref.key: secrets[ref.key] for ref in tls.certificates if ref.key in secrets}
        self._east_west = east_west
        self._clock = clock
        self._bundles = Bundles(tls.bundles) if tls.mode is TlsMode.ISTIO_MUTUAL else None
        if east_west and self._bundles is None:
            raise TlsFault(f"the east-west port must ask for identities: its TLS mode is {tls.mode.value}, not ISTIO_MUTUAL")
        self._wanted = _wanted(tls.subject_alt_names)
        self._pins = frozenset(tls.spki), frozenset(tls.hashes)
        self._by = identity.uri_of(tls.certificates[0].chain) if tls.certificates else ""
        self._resumable = self._bundles is None and not tls.crl
        self._context = self._make(self.faults)
        most = self._context.maximum_version
        self._modern = most in (ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3)

    def context(self, hello: Hello) -> ssl.SSLContext:
        """The context for a connection that began with this hello."""
        if self._resumable or not hello.resumes or (self._modern and TLS_1_3 in hello.versions):
            return self._context
        return self._make([])

    def prove(self, tls: ssl.SSLObject) -> Proof:
        """Call it right after the handshake. Raises PeerRefused: close then, without a byte of HTTP."""
        if self.tls.mode is TlsMode.SIMPLE:
            return NOTHING
        now = moment(self._clock)
        if self._bundles is not None:
            chain = identity.verified_chain(tls)
            proof = self._bundles.prove(chain, identity.CLIENT_AUTH, now, by=self._by)
            leaf = chain[0]
        else:
            found = identity.leaf_of(tls)
            if found is None:
                if self.tls.mode is TlsMode.OPTIONAL_MUTUAL:
                    return NOTHING
                raise PeerRefused("no client certificate")
            leaf = found
            # A resumed session may be older than its certificate's end; the handshake looked at it only the first time.
            if now > leaf.not_valid_after_utc:
                raise PeerRefused("client certificate expired")
            proof = Proof(certificate=identity.describe(leaf, by=self._by))
        _require(leaf, self._wanted)
        _require_pin(leaf, *self._pins)
        return proof

    def _make(self, faults: list[str]) -> ssl.SSLContext:
        tls = self.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Renegotiation lets a client have the expensive half of a handshake as often as it likes (CVE-2011-1473).
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        limit(context, "TLSv1_3" if self._east_west else tls.min_version, tls.max_version, tls.cipher_suites)
        if tls.alpn:
            context.set_alpn_protocols(list(tls.alpn))
        load_certificates(context, tls.certificates, self._secrets, faults=faults, clock=self._clock)
        context.num_tickets = TICKETS
        if tls.mode is TlsMode.SIMPLE:
            return context
        context.verify_mode = ssl.CERT_OPTIONAL if tls.mode is TlsMode.OPTIONAL_MUTUAL else ssl.CERT_REQUIRED
        if self._bundles is None:
            trust(context, roots(tls.ca, "client certificates"))
        else:
            faults += self._bundles.faults
            trust(context, self._bundles.roots)
        revoke(context, tls.crl, "client certificates")
        if not self._resumable:
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        return context

    def __repr__(self) -> str:
        names = ", ".join(ref.name for ref in self.tls.certificates)
        return f"<ServerTls {self.tls.mode.value} {names}{' east-west' if self._east_west else ''}>"


class ClientTls:
    """One UpstreamTls made ready: `context` to wrap with, `hostname` to wrap for, `prove` after the handshake."""

    def __init__(self, tls: UpstreamTls, secrets: Secrets, *, clock: Callable[[], float]) -> None:
        """Raises TlsFault when it cannot be used."""
        self.tls = tls
        self.faults: list[str] = []
        self._clock = clock
        self._wanted = _wanted(tls.subject_alt_names)
        # Between gateways and workloads with identities nothing may turn the verification off.
        spiffe = tls.peer or tls.mode is UpstreamTlsMode.ISTIO_MUTUAL
        self._verify = spiffe or not tls.insecure_skip_verify
        self._bundles = Bundles(tls.bundles) if spiffe else None
        self.context = self._make(secrets)

    def hostname(self, host: str) -> str | None:
        """What to pass as server_hostname for a request to `host` (with or without a port): the configured SNI, else the host.
        Raises PeerRefused when it cannot be a server name but one is needed to verify."""
        name = self.tls.sni or _without_port(host)
        try:
            name.encode("idna")
        except UnicodeError:
            name = ""
        if not name and self.context.check_hostname:
            raise PeerRefused("no server name to verify the upstream's certificate against; set tls.sni or subjectAltNames")
        return name or None

    def prove(self, tls: ssl.SSLObject) -> Proof:
        """Call it right after the handshake, before sending anything. Raises PeerRefused."""
        if not self._verify:
            return NOTHING
        if self._bundles is not None:
            chain = identity.verified_chain(tls)
            proof = self._bundles.prove(chain, identity.SERVER_AUTH, moment(self._clock))
            _require(chain[0], self._wanted)
            return proof
        if self._wanted:
            leaf = identity.leaf_of(tls)
            if leaf is None:
                raise PeerRefused("no server certificate")
            _require(leaf, self._wanted)
        return NOTHING

    def _make(self, secrets: Secrets) -> ssl.SSLContext:
        tls = self.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        limit(context, "TLSv1_3" if tls.peer else "", "", ())
        if tls.alpn:
            context.set_alpn_protocols(list(tls.alpn))
        if tls.certificate is not None:
            load_certificates(context, (tls.certificate,), secrets, faults=self.faults, clock=self._clock)
        elif tls.mode is not UpstreamTlsMode.SIMPLE:
            raise TlsFault(f"TLS mode {tls.mode.value} towards endpoints needs a client certificate, and none is configured")
        # Identities and listed names are checked in `prove`; a host name is checked in the handshake.
        context.check_hostname = self._verify and self._bundles is None and not self._wanted
        if not self._verify:
            context.verify_mode = ssl.CERT_NONE
        elif self._bundles is not None:
            self.faults += self._bundles.faults
            trust(context, self._bundles.roots)
        elif tls.ca:
            trust(context, roots(tls.ca, "endpoints' certificates"))
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self._verify:
            revoke(context, tls.crl, "endpoints' certificates")
        return context

    def __repr__(self) -> str:
        return f"<ClientTls {self.tls.mode.value} sni={self.tls.sni!r}{' peer' if self.tls.peer else ''}>"


class Contexts:
    """The contexts of one worker. Those that nobody asked for in the last ten minutes are forgotten at the next `renew`."""

    def __init__(self, secrets: Secrets | None = None, *, clock: Callable[[], float] = time.time) -> None:
        """clock: wall time, seconds since the epoch, by which certificates are valid or not."""
        self._secrets: Secrets = secrets or {}
        self._clock = clock
        self._servers: dict[tuple[DownstreamTls, bool], ServerTls] = {}
        self._clients: dict[UpstreamTls, ClientTls] = {}
        self._used: dict[object, float] = {}

    def renew(self, secrets: Secrets) -> None:
        """New keys, or a new Snapshot: call it before the contexts of either are asked for."""
        self._secrets = secrets
        oldest = self._clock() - _KEEP_S
        self._used = {key: when for key, when in self._used.items() if when >= oldest}
        self._servers = {key: each for key, each in self._servers.items() if key in self._used}
        self._clients = {key: each for key, each in self._clients.items() if key in self._used}

    def server(self, tls: DownstreamTls, *, east_west: bool = False) -> ServerTls:
        """The same object for an equal struct. Raises TlsFault; what failed is tried again at the next call, since the key may
        have come meanwhile."""
        key = (tls, east_west)
        self._used[key] = self._clock()
        found = self._servers.get(key)
        if found is None or not complete(found.faults):
            found = self._servers[key] = ServerTls(tls, self._secrets, east_west=east_west, clock=self._clock)
        return found

    def client(self, tls: UpstreamTls) -> ClientTls:
        """The same object for an equal struct. Raises TlsFault."""
        self._used[tls] = self._clock()
        found = self._clients.get(tls)
        if found is None:
            found = self._clients[tls] = ClientTls(tls, self._secrets, clock=self._clock)
        return found


# ------------------------------------------------------------------------------------------------------------- pieces


def _wanted(names: Iterable[str]) -> frozenset[str]:
    # DNS names do not care for case, so they are compared in lower case; whatever has a scheme does.
    return frozenset(name if "://" in name else name.lower() for name in names)


def _require(leaf: x509.Certificate, wanted: frozenset[str]) -> None:
    if wanted and wanted.isdisjoint(identity.names_of(leaf)):
        raise PeerRefused("certificate has none of the names that are asked for")


def _require_pin(leaf: x509.Certificate, spki: frozenset[str], hashes: frozenset[str]) -> None:
    """When both are asked for, either is enough (Istio, Envoy)."""
    if (spki or hashes) and identity.key_hash(leaf) not in spki and identity.hash_of(leaf) not in hashes:
        raise PeerRefused("certificate is not one of those that are pinned")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host
