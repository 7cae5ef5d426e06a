"""To a peer's gateway: TCP, mutual TLS 1.3 with SNI `peering.TRUSTDOMAIN`, and proof of who answered. And the way in, for those who dial us.

The roots are the one peer's, so its CA can prove its own gateway and no other; going in, the roots of all peers are pooled for the
handshake, and the chain is verified again against the bundle of the trust domain that its identity names (gateway.native.identity).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable

import trio

from federation.peering.conversation import broken, tls_words
from federation.peering.replay import ReplayStream
from federation.peering.terms import PeerTerms
from federation.peering.tls import TlsStream
from federation.trust.authority import Issued
from federation.trust.identity import gateway_id
from gateway.native.codec.hello import Hello, read_hello
from gateway.native.identity import PeerRefused, Proof
from gateway.native.tls import ClientTls, ServerTls, TlsFault
from gateway.snapshot import CertificateRef, DownstreamTls, TlsMode, UpstreamTls, UpstreamTlsMode

CONNECT_TIMEOUT = 2.0  # seconds for TCP: SYNs are repeated after 1 s, so one may be lost
HANDSHAKE_TIMEOUT = 3.0  # seconds for TLS; a stopped process takes connections and answers nothing
ALPN = "h2"


class LinkError(Exception):
    """No session came of a connection. The text is for people. closed: the other side ended a connection that it had taken.
    cheap: it cost neither side more than some packets, so it may be tried again soon."""

    def __init__(self, text: str, *, closed: bool = False, cheap: bool = False) -> None:
        super().__init__(text)
        self.closed, self.cheap = closed, cheap


def peering_name(trust_domain: str) -> str:
    """The SNI by which a gateway of that trust domain knows a peering connection."""
    return f"peering.{trust_domain}"


async def connect(address: str, port: int) -> trio.SocketStream:
    """A TCP connection. Raises LinkError. Cancelled, it leaves nothing behind."""
    family = trio.socket.AF_INET6 if ":" in address else trio.socket.AF_INET
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            await sock.connect((address, port))
    except trio.TooSlowError:
        sock.close()
        raise LinkError(f"no answer to a connection within {CONNECT_TIMEOUT:.0f} s", cheap=True) from None
    except OSError as error:
        sock.close()
        raise LinkError(f"cannot connect: {error.strerror or error}", cheap=True) from None
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def secure(transport: trio.abc.Stream, terms: PeerTerms, own: Issued) -> TlsStream:
    """TLS over `transport` as the dialling gateway, with proof that a gateway of the peer's trust domain answered.

    Raises LinkError; `transport` is closed then, and when cancelled."""
    try:
        client = _client(terms, own)
        stream = TlsStream(transport, client.context, server_side=False, hostname=client.hostname(""))
        await _shake(stream)
        proof = client.prove(stream.tls)
        if stream.tls.selected_alpn_protocol() != ALPN:
            raise LinkError("the peer does not speak HTTP/2 there; is it a fedgate gateway's east-west port?", closed=True)
        assert proof.trust_domain == terms.trust_domain
        return stream
    except PeerRefused as error:
        await trio.aclose_forcefully(transport)
        raise LinkError(f"the peer did not prove to be {gateway_id(terms.trust_domain)}: {error.reason}", closed=True) from None
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def admit(
    transport: trio.abc.Stream, hello: bytes, bundles: Iterable[tuple[str, str]], own: Issued
) -> tuple[TlsStream, Proof]:
    """TLS as the gateway that was dialled. hello: the bytes already read. bundles: (trust domain, PEM roots) of every peer.

    Raises LinkError unless a fedgate gateway of one of those trust domains proved itself; `transport` is closed then, and when cancelled."""
    try:
        parsed = read_hello(hello)
        if not isinstance(parsed, Hello):
            raise LinkError("the connection did not begin with a client hello")
        server = _server(bundles, own)
        stream = TlsStream(ReplayStream(hello, transport), server.context(parsed), server_side=True)
        await _shake(stream)
        proof = server.prove(stream.tls)
        if proof.identity != str(gateway_id(proof.trust_domain)):
            raise LinkError(f"{proof.identity} is no gateway; only {gateway_id(proof.trust_domain)} may open a peering session")
        return stream, proof
    except PeerRefused as error:
        await trio.aclose_forcefully(transport)
        raise LinkError(f"refused: {error.reason}", closed=True) from None
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


def _client(terms: PeerTerms, own: Issued) -> ClientTls:
    tls = UpstreamTls(
        mode=UpstreamTlsMode.ISTIO_MUTUAL,
        sni=peering_name(terms.trust_domain),
        bundles=((terms.trust_domain, terms.bundle),),
        certificate=_reference(own),
        subject_alt_names=(str(gateway_id(terms.trust_domain)),),
        alpn=(ALPN,),
        peer=True,
    )
    try:
        return ClientTls(tls, {own.key.digest: own.key}, clock=time.time)
    except TlsFault as error:
        raise LinkError(f"our TLS cannot be set up: {error}") from None


def _server(bundles: Iterable[tuple[str, str]], own: Issued) -> ServerTls:
    pooled: dict[str, str] = {}
    for trust_domain, pem in bundles:
        pooled[trust_domain] = pooled.get(trust_domain, "") + pem
    tls = DownstreamTls(
        mode=TlsMode.ISTIO_MUTUAL, certificates=(_reference(own),), bundles=tuple(sorted(pooled.items())), alpn=(ALPN,)
    )
    try:
        return ServerTls(tls, {own.key.digest: own.key}, east_west=True, clock=time.time)
    except TlsFault as error:
        raise LinkError(f"our TLS cannot be set up: {error}") from None


def _reference(own: Issued) -> CertificateRef:
    return CertificateRef(chain=own.chain, key=own.key.digest, name="this gateway's identity")


async def _shake(stream: TlsStream) -> None:
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            await stream.handshake()
    except trio.TooSlowError:
        raise LinkError(
            f"connected, but no TLS handshake within {HANDSHAKE_TIMEOUT:.0f} s; is the gateway there stopped?"
        ) from None
    except ssl.SSLError as error:
        raise LinkError(tls_words(error), closed=True, cheap=isinstance(error, ssl.SSLEOFError)) from None
    except trio.BrokenResourceError as error:
        raise LinkError(f"closed in the TLS handshake: {broken(error)}", closed=True, cheap=True) from None
