"""Clients that may come without a certificate, and clients whose certificate is one of those that are pinned."""

from __future__ import annotations

import hashlib
import ssl
import time

import certs
import pytest
from cryptography.hazmat.primitives import serialization
from handshaking import VERSIONS, Pair, client_context, handshake

from gateway.native.identity import NOTHING, PeerRefused
from gateway.native.tls import Contexts, ServerTls
from gateway.snapshot import DownstreamTls, TlsMode

WEB = certs.Authority("web")
SHOP = WEB.leaf("shop.example")
CLIENTS = certs.Authority("clients")
KNOWN, OTHER, STRANGER = CLIENTS.leaf("known.example"), CLIENTS.leaf("other.example"), WEB.leaf("known.example", label="stranger")


def server(mode: TlsMode, **fields: object) -> ServerTls:
    tls = DownstreamTls(mode, (SHOP.ref,), ca=CLIENTS.pem, **fields)  # type: ignore[arg-type]
    return Contexts(certs.secrets(SHOP), clock=time.time).server(tls)


def test_what_is_known_of_a_client_is_enough_for_x_forwarded_client_cert() -> None:
    found = handshake(server(TlsMode.MUTUAL), client_context(KNOWN)).certificate
    assert found is not None
    assert (found.hash, found.dns, found.subject, found.by) == (der(KNOWN), ("known.example",), "CN=known.example", "")
    assert KNOWN.chain.startswith(found.pem)
    east = certs.spiffe("east.example")
    gateway, workload = certs.gateway_leaf(east, "east.example"), east.leaf("spiffe://east.example/ns/shop/sa/web")
    tls = DownstreamTls(TlsMode.ISTIO_MUTUAL, (gateway.ref,), bundles=(("east.example", east.bundle),))
    known = handshake(Contexts(certs.secrets(gateway)).server(tls), client_context(workload)).certificate
    assert known is not None
    assert (known.by, known.uris) == (certs.gateway_id("east.example"), ("spiffe://east.example/ns/shop/sa/web",))


def spki(leaf: certs.Leaf) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(leaf.certificate.public_key().public_bytes(serialization.Encoding.DER, form)).hexdigest()


def der(leaf: certs.Leaf) -> str:
    return hashlib.sha256(leaf.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_is_optional(version: ssl.TLSVersion) -> None:
    """None passes, a good one is known by name, a bad one is refused."""
    optional = server(TlsMode.OPTIONAL_MUTUAL)
    assert handshake(optional, client_context(None, version)) is NOTHING
    proof = handshake(optional, client_context(KNOWN, version))
    assert proof.certificate is not None
    assert proof.certificate.dns == ("known.example",)
    with pytest.raises(ssl.SSLError):
        handshake(optional, client_context(STRANGER, version))
    with pytest.raises(ssl.SSLError):
        handshake(optional, client_context(CLIENTS.expired("known.example"), version))


@pytest.mark.parametrize("version", VERSIONS)
def test_names_and_pins_hold_for_an_optional_certificate_that_is_given(version: ssl.TLSVersion) -> None:
    named = server(TlsMode.OPTIONAL_MUTUAL, subject_alt_names=("known.example",))
    pinned = server(TlsMode.OPTIONAL_MUTUAL, spki=(spki(KNOWN),))
    for made in (named, pinned):
        assert handshake(made, client_context(None, version)) is NOTHING
        assert handshake(made, client_context(KNOWN, version)).certificate
        with pytest.raises(PeerRefused):
            handshake(made, client_context(OTHER, version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("pins", "passes"),
    [
        ({"spki": (spki(KNOWN),)}, True),
        ({"hashes": (der(KNOWN),)}, True),
        ({"spki": (spki(OTHER), spki(KNOWN))}, True),
        ({"spki": (spki(OTHER),), "hashes": (der(KNOWN),)}, True),  # either is enough
        ({"spki": (spki(KNOWN),), "hashes": (der(OTHER),)}, True),
        ({"spki": (spki(OTHER),)}, False),
        ({"hashes": (der(OTHER),)}, False),
        ({"spki": (der(KNOWN),), "hashes": (spki(KNOWN),)}, False),  # each is compared with its own kind
    ],
)
def test_pins(pins: dict[str, tuple[str, ...]], passes: bool, version: ssl.TLSVersion) -> None:
    pinned = server(TlsMode.MUTUAL, **pins)
    if passes:
        assert handshake(pinned, client_context(KNOWN, version)).certificate
        return
    with pytest.raises(PeerRefused, match="not one of those that are pinned"):
        handshake(pinned, client_context(KNOWN, version))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pin_of_the_key_outlives_its_certificate_and_one_of_the_certificate_does_not(version: ssl.TLSVersion) -> None:
    renewed = CLIENTS.leaf("known.example", valid=(certs.NOW - certs.HOUR, certs.NOW + 48 * certs.HOUR))
    assert renewed.key.digest == KNOWN.key.digest
    assert handshake(server(TlsMode.MUTUAL, spki=(spki(KNOWN),)), client_context(renewed, version)).certificate
    with pytest.raises(PeerRefused):
        handshake(server(TlsMode.MUTUAL, hashes=(der(KNOWN),)), client_context(renewed, version))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pin_replaces_no_verification(version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(server(TlsMode.MUTUAL, spki=(spki(STRANGER),), hashes=(der(STRANGER),)), client_context(STRANGER, version))


@pytest.mark.parametrize("version", VERSIONS)
def test_pins_and_names_are_checked_on_a_resumed_session_too(version: ssl.TLSVersion) -> None:
    """The session carries the client's leaf: what is asked of it is asked again."""
    made = server(TlsMode.MUTUAL, spki=(spki(KNOWN),))
    client = client_context(OTHER, version)
    first = Pair(client, made.context, "shop.example")
    first.shake()  # TLS is content; the pin is not
    with pytest.raises(PeerRefused):
        made.prove(first.server)
    again = Pair(client, made.context, "shop.example", first.client.session)
    again.shake()
    assert again.server.session_reused
    with pytest.raises(PeerRefused, match="pinned"):
        made.prove(again.server)


@pytest.mark.parametrize("version", VERSIONS)
def test_three_hosts_of_one_port_keep_to_their_own_policy(version: ssl.TLSVersion) -> None:
    """SIMPLE, MUTUAL and OPTIONAL_MUTUAL: a session of one opens no other."""
    hosts = {f"{mode.value.lower()}.example": server(mode) for mode in (TlsMode.SIMPLE, TlsMode.MUTUAL, TlsMode.OPTIONAL_MUTUAL)}

    def meet(client: ssl.SSLContext, name: str, session: object = None) -> Pair:
        pair = Pair(client, lambda hello: hosts[hello.server_name].context(hello), name.replace("_", "-"), session)
        pair.shake()
        hosts[pair.hello.server_name].prove(pair.server)
        return pair

    hosts = {name.replace("_", "-"): made for name, made in hosts.items()}
    bare, known = client_context(None, version), client_context(KNOWN, version)
    simple = meet(bare, "simple.example")
    optional = meet(bare, "optional-mutual.example")
    for earlier in (simple, optional):
        with pytest.raises(ssl.SSLError):
            meet(bare, "mutual.example", earlier.client.session)
        assert not meet(known, "mutual.example").server.session_reused
    assert meet(bare, "simple.example", simple.client.session).server.session_reused
    assert meet(bare, "optional-mutual.example", optional.client.session).server.session_reused
