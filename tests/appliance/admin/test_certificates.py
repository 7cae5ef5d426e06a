"""Certificates that a Snapshot uses: each once, with its dates and names, and what uses it."""

import datetime

from certs import HOUR, NOW, gateway_leaf, spiffe

from appliance.admin.certificates import certificates, expiries
from gateway.snapshot import (
    Backend,
    CertificateRef,
    DownstreamTls,
    FilterChain,
    Listener,
    ListenerKind,
    Node,
    Snapshot,
    TlsMode,
    UpstreamTls,
    UpstreamTlsMode,
)

DOMAIN = "east.example.com"


def snapshot():
    authority = spiffe(DOMAIN)
    leaf = gateway_leaf(authority, DOMAIN)
    reference = CertificateRef(leaf.chain, leaf.key.digest, "this gateway")
    down = DownstreamTls(TlsMode.ISTIO_MUTUAL, (reference,), bundles=((DOMAIN, authority.bundle),))
    up = UpstreamTls(UpstreamTlsMode.ISTIO_MUTUAL, certificate=reference, bundles=((DOMAIN, authority.bundle),), peer=True)
    return Snapshot.of(
        [
            Node("gw", "east"),
            Listener("127.0.0.1", 15443, ListenerKind.EAST_WEST, (FilterChain("c", "", tls=down),)),
            Backend("outbound|80||a", "a", 80, peer_tls=(("west", up),)),
        ]
    )


def test_each_certificate_once_with_all_its_uses():
    rows = certificates(snapshot(), NOW)
    assert len({(row.serial, row.kind) for row in rows}) == len(rows)
    (leaf,) = (row for row in rows if row.kind == "leaf")
    assert leaf.name == "this gateway"
    assert leaf.trust_domain == DOMAIN
    assert f"spiffe://{DOMAIN}/ns/fedgate/sa/gateway" in leaf.subject_alt_names
    assert leaf.used_by == ("listener 127.0.0.1:15443", "backend outbound|80||a")
    (root,) = (row for row in rows if row.kind == "root")
    assert root.name == f"bundle {DOMAIN}"


def test_validity_is_that_of_the_moment():
    late = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    assert all(row.valid for row in certificates(snapshot(), NOW))
    assert not any(row.valid for row in certificates(snapshot(), late))
    assert not any(row.valid for row in certificates(snapshot(), NOW - 24 * 366 * HOUR))


def test_they_are_in_the_order_in_which_they_expire_and_so_is_the_metric():
    running = snapshot()
    rows = certificates(running, NOW)
    assert [row.not_after for row in rows] == sorted(row.not_after for row in rows)
    readings = expiries(running)
    assert [reading.serial for reading in readings] == [row.serial for row in rows]
    assert readings[0].expires == datetime.datetime.fromisoformat(rows[0].not_after).timestamp()


def test_what_is_no_certificate_is_passed_over():
    broken = Listener(
        "127.0.0.1",
        443,
        ListenerKind.GATEWAY,
        (FilterChain("c", "", tls=DownstreamTls(TlsMode.SIMPLE, (CertificateRef("nonsense", "k"),))),),
    )
    assert certificates(Snapshot.of([Node("gw", "east"), broken]), NOW) == []
