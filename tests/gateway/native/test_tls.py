"""Real handshakes over memory buffers: who is let in, who is not, and why, on TLS 1.2 and 1.3."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import certs
import handshaking
import pytest
from handshaking import VERSIONS, Pair, handshake

from gateway.native.codec.hello import Hello
from gateway.native.identity import PeerRefused, Proof
from gateway.native.tls import ClientTls, Contexts, TlsFault
from gateway.secret import Secret
from gateway.snapshot import CertificateRef, DownstreamTls, TlsMode, UpstreamTls, UpstreamTlsMode

EAST, WEST = certs.spiffe("east.example"), certs.spiffe("west.example")
GATEWAY = certs.gateway_leaf(EAST, "east.example")
WEB = certs.Authority("web")
SHOP = WEB.leaf("shop.example")
CLIENTS = certs.Authority("clients").intermediate()
BUNDLES = (("east.example", EAST.bundle), ("west.example", WEST.bundle))
SIMPLE = DownstreamTls(mode=TlsMode.SIMPLE, certificates=(SHOP.ref,))
MUTUAL = DownstreamTls(mode=TlsMode.MUTUAL, certificates=(SHOP.ref,), ca=CLIENTS.bundle)
IDENTITIES = DownstreamTls(mode=TlsMode.ISTIO_MUTUAL, certificates=(GATEWAY.ref,), bundles=BUNDLES)
KEYS = certs.secrets(SHOP, GATEWAY)


def client_context(leaf: certs.Leaf | None = None, top: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    return handshaking.client_context(leaf, top, WEB.bundle)


def gateway_client(leaf: certs.Leaf | None, top: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    return handshaking.client_context(leaf, top, EAST.bundle)


def contexts(*leaves: certs.Leaf, clock: Callable[[], float] = time.time) -> Contexts:
    return Contexts(KEYS | certs.secrets(*leaves), clock=clock)


# -------------------------------------------------------------------------------------------------- clients of listeners


@pytest.mark.parametrize("version", VERSIONS)
def test_simple_and_mutual_hosts_on_one_port(version: ssl.TLSVersion) -> None:
    """The context comes from the hello: a client without certificate passes on the one host and never on the other."""
    made = contexts()
    hosts = {"open.example": made.server(SIMPLE), "closed.example": made.server(MUTUAL)}
    choose = {name: host.context for name, host in hosts.items()}

    def by_name(hello: Hello) -> ssl.SSLContext:
        return choose[hello.server_name](hello)

    bare = client_context(None, version)
    Pair(bare, by_name, "open.example").shake()
    with pytest.raises(ssl.SSLError):
        Pair(bare, by_name, "closed.example").shake()
    known = client_context(CLIENTS.leaf("client.example"), version)
    pair = Pair(known, by_name, "closed.example")
    pair.shake()
    proof = hosts["closed.example"].prove(pair.server)
    assert proof.certificate is not None
    assert proof.certificate.dns == ("client.example",)
    assert len(proof.certificate.hash) == 64


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_the_open_host_does_not_open_the_closed_one(version: ssl.TLSVersion) -> None:
    made = contexts()
    client = client_context(None, version)
    first = Pair(client, made.server(SIMPLE).context, "open.example")
    first.shake()
    session = first.client.session
    again = Pair(client, made.server(SIMPLE).context, "open.example", session)
    again.shake()
    assert again.server.session_reused  # so the session is good, and the next refusal is not for want of one
    with pytest.raises(ssl.SSLError):
        Pair(client, made.server(MUTUAL).context, "closed.example", session).shake()


@pytest.mark.parametrize("version", VERSIONS)
def test_mutual_refuses_strangers_and_wrong_names(version: ssl.TLSVersion) -> None:
    made = contexts()
    with pytest.raises(ssl.SSLError):
        handshake(made.server(MUTUAL), client_context(WEST.leaf("client.example"), version))
    with pytest.raises(ssl.SSLError):
        handshake(made.server(MUTUAL), client_context(CLIENTS.expired("client.example"), version))
    named = made.server(
        DownstreamTls(
            mode=TlsMode.MUTUAL,
            certificates=(SHOP.ref,),
            ca=CLIENTS.bundle,
            subject_alt_names=("Billing.example", "spiffe://a/b"),
        )
    )
    assert handshake(named, client_context(CLIENTS.leaf("billing.example"), version)).certificate
    with pytest.raises(PeerRefused, match="none of the names"):
        handshake(named, client_context(CLIENTS.leaf("client.example"), version))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_mutual_session_ends_with_its_certificate(version: ssl.TLSVersion) -> None:
    now = [time.time()]
    server = contexts(clock=lambda: now[0]).server(MUTUAL)
    client = client_context(CLIENTS.leaf("client.example"), version)
    first = Pair(client, server.context, "closed.example")
    first.shake()
    again = Pair(client, server.context, "closed.example", first.client.session)
    again.shake()
    assert again.server.session_reused
    assert server.prove(again.server).certificate
    now[0] += 48 * 3600
    with pytest.raises(PeerRefused, match="expired"):
        server.prove(again.server)


def test_versions_and_ciphers() -> None:
    made = contexts()
    only12 = made.server(
        DownstreamTls(
            mode=TlsMode.SIMPLE,
            certificates=(SHOP.ref,),
            max_version="TLSv1_2",
            cipher_suites=("ECDHE-ECDSA-AES128-GCM-SHA256",),
        )
    )
    pair = Pair(client_context(), only12.context, "shop.example")
    pair.shake()
    assert pair.server.version() == "TLSv1.2"
    assert pair.server.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"  # type: ignore[index]
    only13 = made.server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(SHOP.ref,), min_version="TLSv1_3"))
    with pytest.raises(ssl.SSLError):
        Pair(client_context(top=ssl.TLSVersion.TLSv1_2), only13.context, "shop.example").shake()
    with pytest.raises(TlsFault, match="TLSv1_3"):
        made.server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(SHOP.ref,), min_version="1.9"))
    with pytest.raises(TlsFault, match="NONSENSE"):
        made.server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(SHOP.ref,), cipher_suites=("NONSENSE",)))


def test_alpn_is_offered() -> None:
    client = client_context()
    client.set_alpn_protocols(["h2", "http/1.1"])
    pair = Pair(client, contexts().server(SIMPLE).context, "shop.example")
    pair.shake()
    assert pair.server.selected_alpn_protocol() == "http/1.1"


# ------------------------------------------------------------------------------------------------------------ identities


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("authority", "domain"), [(EAST, "east.example"), (WEST, "west.example")])
def test_identities_of_known_trust_domains(version: ssl.TLSVersion, authority: certs.Authority, domain: str) -> None:
    server = contexts().server(IDENTITIES)
    proof = handshake(server, gateway_client(certs.gateway_leaf(authority, domain), version))
    assert proof.identity == certs.gateway_id(domain)
    assert proof.trust_domain == domain
    assert proof.certificate is not None
    assert proof.certificate.uris == (proof.identity,)


FORGED = WEST.leaf(certs.gateway_id("east.example"))  # west's CA signs an identity of east's
REFUSED_LATE = {
    "peer's CA signs another's identity": (FORGED, "does not verify against the bundle of east.example"),
    "trust domain without bundle": (EAST.leaf(certs.gateway_id("south.example")), "no bundle for trust domain south.example"),
    "no SPIFFE id": (EAST.leaf("gw.example"), "0 URI names"),
    "two URI names": (EAST.leaf(certs.gateway_id("east.example"), "spiffe://east.example/ns/a/sa/b"), "2 URI names"),
    "another scheme": (EAST.leaf("https://east.example/ns/fedgate/sa/gateway"), "not the SPIFFE id"),
    "no path": (EAST.leaf("spiffe://east.example"), "not the SPIFFE id"),
    "upper case": (EAST.leaf("spiffe://EAST.example/ns/fedgate/sa/gateway"), "not the SPIFFE id"),
    "may sign certificates": (
        EAST.leaf(certs.gateway_id("east.example"), certify=True, label="certify"),
        "key usage is not that of a leaf",
    ),
}
REFUSED_IN_HANDSHAKE = {
    "no certificate": None,
    "expired": EAST.expired(certs.gateway_id("east.example")),
    "not yet valid": EAST.not_yet_valid(certs.gateway_id("east.example")),
    "self-signed": certs.self_signed(certs.gateway_id("east.example")),
    "unknown CA": certs.spiffe("nowhere.example").leaf(certs.gateway_id("east.example")),
    "a server's certificate": EAST.leaf(certs.gateway_id("east.example"), usages=(certs.BOTH[0],), label="server only"),
    "signed by a leaf": EAST.intermediate("no ca", is_ca=False).leaf(certs.gateway_id("east.example")),
    "path too long": certs.Authority("short", EAST, path_length=0).intermediate("longer").leaf(certs.gateway_id("east.example")),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", REFUSED_LATE)
def test_identities_refused_after_the_handshake(case: str, version: ssl.TLSVersion) -> None:
    leaf, reason = REFUSED_LATE[case]
    with pytest.raises(PeerRefused, match=reason):
        handshake(contexts().server(IDENTITIES), gateway_client(leaf, version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", REFUSED_IN_HANDSHAKE)
def test_identities_refused_in_the_handshake(case: str, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(contexts().server(IDENTITIES), gateway_client(REFUSED_IN_HANDSHAKE[case], version))


def test_a_bundle_that_cannot_be_read_shuts_out_its_trust_domain_alone() -> None:
    broken = DownstreamTls(
        mode=TlsMode.ISTIO_MUTUAL, certificates=(GATEWAY.ref,), bundles=(("east.example", EAST.bundle), ("west.example", "?"))
    )
    server = contexts().server(broken)
    assert any("west.example" in fault for fault in server.faults)
    assert handshake(server, gateway_client(GATEWAY)).trust_domain == "east.example"
    with pytest.raises(ssl.SSLError):
        handshake(server, gateway_client(certs.gateway_leaf(WEST, "west.example")))


@pytest.mark.parametrize("version", VERSIONS)
def test_identities_never_resume(version: ssl.TLSVersion) -> None:
    """A resumed session has no chain to verify again. The second connection is a full handshake, and works."""
    server = contexts().server(IDENTITIES)
    client = gateway_client(GATEWAY, version)
    first = Pair(client, server.context, "x.example")
    first.shake()
    assert not first.client.session or not first.client.session.has_ticket
    again = Pair(client, server.context, "x.example", first.client.session)
    again.shake()
    assert not again.server.session_reused
    assert server.prove(again.server).identity == certs.gateway_id("east.example")


def test_a_resumed_session_proves_nothing() -> None:
    """Were such a session resumed after all, it would be refused."""
    server = contexts().server(IDENTITIES)
    client = gateway_client(GATEWAY, ssl.TLSVersion.TLSv1_2)
    context = server.context(Hello(server_name="", alpn=(), versions=(0x0303,), resumes=False))
    first = Pair(client, lambda hello: context, None)
    first.shake()
    again = Pair(client, lambda hello: context, None, first.client.session)
    again.shake()
    assert again.server.session_reused
    with pytest.raises(PeerRefused, match="no certificate chain"):
        server.prove(again.server)


def test_the_east_west_port_is_tls_13_and_asks_for_identities() -> None:
    made = contexts()
    server = made.server(IDENTITIES, east_west=True)
    assert handshake(server, gateway_client(GATEWAY)).identity == certs.gateway_id("east.example")
    with pytest.raises(ssl.SSLError):
        handshake(server, gateway_client(GATEWAY, ssl.TLSVersion.TLSv1_2))
    with pytest.raises(TlsFault, match="must ask for identities"):
        made.server(MUTUAL, east_west=True)


# --------------------------------------------------------------------------------------------------------------- faults


def test_what_does_not_load_is_named_and_the_rest_serves() -> None:
    good, other = SHOP.ref, WEB.leaf("other.example")
    stranger = CertificateRef(chain=SHOP.chain, key=other.key.digest, name="secret shop/mixed-up")
    garbage = CertificateRef(chain="nothing", key=good.key, name="secret shop/garbage")
    absent = CertificateRef(chain=SHOP.chain, key="0" * 64, name="secret shop/absent")
    server = contexts(other).server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(stranger, garbage, absent, good)))
    assert [fault.split(":")[0].removeprefix("certificate ") for fault in server.faults] == [
        "secret shop/mixed-up",
        "secret shop/garbage",
        "secret shop/absent",
    ]
    assert "the private key is not this certificate's" in server.faults[0]
    handshake(server, client_context())
    with pytest.raises(TlsFault, match="secret shop/absent: its private key has not arrived"):
        contexts().server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(absent,)))
    with pytest.raises(TlsFault, match="CA bundle for client certificates"):
        contexts().server(DownstreamTls(mode=TlsMode.MUTUAL, certificates=(good,), ca="?"))


def test_an_encrypted_key_is_a_fault_and_asks_nobody() -> None:
    from cryptography.hazmat.primitives import serialization

    plain = serialization.load_pem_private_key(SHOP.key.reveal(), None)
    locked = Secret(
        plain.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"no")
        )
    )
    ref = CertificateRef(chain=SHOP.chain, key=locked.digest, name="secret shop/locked")
    with pytest.raises(TlsFault, match="secret shop/locked"):
        Contexts({locked.digest: locked}).server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(ref,)))


def test_an_expired_certificate_is_named_with_its_date_and_still_served() -> None:
    old, early = WEB.expired("old.example"), WEB.not_yet_valid("early.example")
    made = contexts(old, early)
    server = made.server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(old.ref,)))
    assert "certificate expired old.example: expired on " in server.faults[0]
    assert "not valid before" in made.server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(early.ref,))).faults[0]
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(server, client_context())


def test_contexts_are_kept_while_used_and_made_anew_on_change() -> None:
    now = [time.time()]
    made = contexts(clock=lambda: now[0])
    first = made.server(SIMPLE)
    assert made.server(DownstreamTls(mode=TlsMode.SIMPLE, certificates=(SHOP.ref,))) is first
    now[0] += 500
    made.renew(KEYS)
    assert made.server(SIMPLE) is first
    now[0] += 500
    made.renew(KEYS)
    assert made.server(SIMPLE) is first
    now[0] += 700
    made.renew(KEYS)
    assert made.server(SIMPLE) is not first


def test_a_key_that_comes_later_heals_the_chain() -> None:
    absent = WEB.leaf("late.example")
    tls = DownstreamTls(mode=TlsMode.SIMPLE, certificates=(SHOP.ref, absent.ref))
    made = contexts()
    assert made.server(tls).faults
    made.renew(KEYS | certs.secrets(absent))
    assert not made.server(tls).faults


def test_keys_touch_no_file_and_no_repr() -> None:
    server = contexts().server(SIMPLE)
    assert "PRIVATE" not in repr(server) + repr(vars(server))


# ------------------------------------------------------------------------------------------------------------- upstream


def dial(client: ClientTls, leaf: certs.Leaf, host: str = "shop.example", ca: str = "") -> Proof:
    context = leaf.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ca)
    pair = Pair(client.context, lambda hello: context, client.hostname(host))
    pair.shake()
    return client.prove(pair.client)


def upstream(mode: UpstreamTlsMode = UpstreamTlsMode.SIMPLE, ca: str = WEB.bundle, **options: object) -> ClientTls:
    return contexts().client(UpstreamTls(mode=mode, ca=ca, **options))  # type: ignore[arg-type]


def test_simple_verifies_the_host_name() -> None:
    client = upstream()
    dial(client, SHOP, "shop.example:443")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        dial(client, SHOP, "other.example")
    dial(upstream(sni="shop.example"), SHOP, "other.example")
    dial(client, WEB.leaf("127.0.0.1"), "127.0.0.1:8443")
    dial(client, WEB.leaf("::1"), "[::1]:8443")
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(client, WEST.leaf("shop.example"))
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(contexts().client(UpstreamTls(mode=UpstreamTlsMode.SIMPLE)), SHOP)  # the system's roots do not know it
    for host in ("", "a..b", "." * 70):
        with pytest.raises(PeerRefused, match="server name"):
            client.hostname(host)


def test_listed_names_replace_the_host_name() -> None:
    client = upstream(subject_alt_names=("backend.internal",))
    dial(client, WEB.leaf("backend.internal"), "shop.example")
    with pytest.raises(PeerRefused, match="none of the names"):
        dial(client, SHOP, "shop.example")


def test_verification_can_be_skipped_for_simple_but_not_between_identities() -> None:
    dial(upstream(insecure_skip_verify=True), certs.self_signed("x.example"), "")
    identities = upstream(UpstreamTlsMode.ISTIO_MUTUAL, certificate=GATEWAY.ref, bundles=BUNDLES, insecure_skip_verify=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(identities, certs.self_signed(certs.gateway_id("west.example")))


def test_mutual_shows_its_certificate() -> None:
    mutual = contexts().client(UpstreamTls(mode=UpstreamTlsMode.MUTUAL, ca=WEB.bundle, certificate=GATEWAY.ref))
    dial(mutual, SHOP, ca=EAST.bundle)
    with pytest.raises(TlsFault, match="needs a client certificate"):
        upstream(UpstreamTlsMode.MUTUAL)


def peer(**options: object) -> ClientTls:
    wanted = {"subject_alt_names": (certs.gateway_id("west.example"),), "bundles": BUNDLES, **options}
    return upstream(UpstreamTlsMode.ISTIO_MUTUAL, certificate=GATEWAY.ref, peer=True, sni="outbound_.80_._.a.b", **wanted)


def test_a_peer_is_verified_by_its_identity() -> None:
    there = certs.gateway_leaf(WEST, "west.example")
    proof = dial(peer(), there)
    assert (proof.identity, proof.trust_domain) == (certs.gateway_id("west.example"), "west.example")
    assert dial(peer(), WEST.leaf(certs.gateway_id("west.example"), usages=(certs.BOTH[0],), label="server")).identity


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (certs.gateway_leaf(EAST, "east.example"), "none of the names"),
        (EAST.leaf(certs.gateway_id("west.example")), "does not verify against the bundle of west.example"),
        (WEST.leaf("spiffe://west.example/ns/fedgate/sa/other"), "none of the names"),
        (WEST.leaf("gw.west.example"), "0 URI names"),
    ],
)
def test_another_is_not_taken_for_the_peer(leaf: certs.Leaf, reason: str) -> None:
    with pytest.raises(PeerRefused, match=reason):
        dial(peer(), leaf)


def test_a_client_certificate_does_not_make_a_server() -> None:
    leaf = WEST.leaf(certs.gateway_id("west.example"), usages=(certs.BOTH[1],), label="client only")
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(peer(), leaf)


def test_peers_speak_tls_13_only() -> None:
    there = certs.gateway_leaf(WEST, "west.example")
    context = there.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        Pair(peer().context, lambda hello: context, "outbound_.80_._.a.b").shake()
