"""openssl s_client: which TLS versions, ciphers, certificates and protocols a server of a Gateway agrees to."""

import re
import shutil

import certs
import pytest
from curling import run
from running import Fedgate, Workloads, listening, routes, running, server, service, to

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not on PATH"),
    pytest.mark.xdist_group("live-openssl"),
]

WEB = certs.Authority("web")
HOSTS = {
    "usual.example.com": {},
    "old.example.com": {"maxProtocolVersion": "TLSV1_2", "cipherSuites": ["ECDHE-ECDSA-AES256-GCM-SHA384"]},
    "new.example.com": {"minProtocolVersion": "TLSV1_3"},
}
BOTH = "both.example.com"  # an RSA and an ECDSA certificate
REQUEST = "GET /books HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openssl")
    workloads, made = Workloads(folder, "one"), Fedgate(folder)

    def files(name, leaf):
        for suffix, data in (("chain", leaf.chain.encode()), ("key", leaf.key.reveal())):
            (made.folder / f"{name}-{suffix}.pem").write_bytes(data)
        return {"serverCertificate": str(made.folder / f"{name}-chain.pem"), "privateKey": str(made.folder / f"{name}-key.pem")}

    servers = [
        server(made, [host], tls={"mode": "SIMPLE"} | files(host, WEB.leaf(host)) | limits, name=f"https-{host.split('.')[0]}")
        for host, limits in HOSTS.items()
    ]
    pair = [files("ecdsa", WEB.leaf(BOTH)), files("rsa", WEB.leaf(BOTH, of_rsa=True))]
    servers.append(server(made, [BOTH], tls={"mode": "SIMPLE", "tlsCertificates": pair}, name="https-both"))
    made.write(
        "shop",
        listening("web", *servers),
        service("one.shop", [workloads.endpoint("one")]),
        routes("one", [*HOSTS, BOTH], {"route": [to("one.shop")]}, gateways=["web"]),
    )
    with running(workloads, made):
        yield made


async def s_client(gateway, name, *options):
    """What it printed (both outputs). name "": no SNI."""
    where = ["-connect", f"{gateway.address}:{gateway.secure}", *(["-servername", name] if name else ["-noservername"])]
    command = ["openssl", "s_client", *where, "-ign_eof", *options]
    done = await run(*command, data=REQUEST.format(name or "usual.example.com").encode(), within=30)
    return (done.stdout + done.stderr).decode(errors="replace")


def version(text):
    """As s_client names it, "" when nothing was agreed."""
    found = re.search(r"^New, (TLSv[\d.]+), Cipher is (\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def cipher(text):
    return re.search(r"^New, .*, Cipher is (\S+)", text, re.MULTILINE)[1]


@pytest.mark.parametrize(
    ("name", "option", "agreed"),
    [
        ("usual.example.com", "-tls1_2", "TLSv1.2"),
        ("usual.example.com", "-tls1_3", "TLSv1.3"),
        ("usual.example.com", "-tls1_1", ""),
        ("usual.example.com", "-tls1", ""),
        ("old.example.com", "-tls1_2", "TLSv1.2"),
        ("old.example.com", "-tls1_3", ""),
        ("new.example.com", "-tls1_2", ""),
        ("new.example.com", "-tls1_3", "TLSv1.3"),
    ],
)
async def test_versions(gateway, name, option, agreed):
    # OpenSSL 3 itself offers 1.0 and 1.1 only below its usual level of security.
    lax = ["-cipher", "DEFAULT@SECLEVEL=0"] if option in ("-tls1", "-tls1_1") else []
    text = await s_client(gateway, name, option, *lax)
    assert version(text) == agreed, text
    assert ("HTTP/1.1 200" in text) == bool(agreed)


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [("ECDHE-ECDSA-AES256-GCM-SHA384", True), ("ECDHE-ECDSA-AES128-GCM-SHA256", False), ("ECDHE-ECDSA-CHACHA20-POLY1305", False)],
)
async def test_ciphers(gateway, offered, agreed):
    text = await s_client(gateway, "old.example.com", "-tls1_2", "-cipher", offered)
    assert ("HTTP/1.1 200" in text) is agreed, text
    if agreed:
        assert cipher(text) == offered


@pytest.mark.parametrize("weak", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "NULL-SHA256", "DES-CBC3-SHA"])
async def test_weak_ciphers_are_refused_by_default(gateway, weak):
    text = await s_client(gateway, "usual.example.com", "-tls1_2", "-cipher", f"{weak}:@SECLEVEL=0")
    assert "HTTP/1.1 200" not in text


@pytest.mark.parametrize("name", [*HOSTS, BOTH])
async def test_the_certificate_is_that_of_the_name(gateway, name, tmp_path):
    (tmp_path / "ca.pem").write_text(WEB.bundle)
    text = await s_client(gateway, name, "-CAfile", str(tmp_path / "ca.pem"), "-verify_hostname", name)
    assert "Verification: OK" in text, text
    assert "HTTP/1.1 200" in text


@pytest.mark.parametrize("name", ["else.example.com", ""])
async def test_an_unknown_name_or_none_gets_no_certificate(gateway, name):
    text = await s_client(gateway, name)
    assert "no peer certificate available" in text
    assert "HTTP/1.1" not in text


@pytest.mark.parametrize(
    ("offered", "agreed"), [("h2,http/1.1", "h2"), ("http/1.1", "http/1.1"), ("http/1.1,h2", "h2"), ("spdy/3", "")]
)
async def test_alpn(gateway, offered, agreed):
    text = await s_client(gateway, "usual.example.com", "-alpn", offered, "-no_ign_eof")
    found = re.search(r"ALPN protocol: (\S+)", text)
    assert (found[1] if found else "") == agreed, text


@pytest.mark.parametrize(("algorithm", "kind"), [("rsa_pss_rsae_sha256", "RSA"), ("ecdsa_secp256r1_sha256", "ECDSA")])
@pytest.mark.parametrize("protocol", ["-tls1_2", "-tls1_3"])
async def test_of_two_certificates_the_client_gets_the_one_it_can_check(gateway, algorithm, kind, protocol):
    text = await s_client(gateway, BOTH, protocol, "-sigalgs", algorithm)
    signed = re.search(r"Peer signature type: (\S+)", text)
    assert signed, text
    assert signed[1].startswith(kind)
    assert "HTTP/1.1 200" in text


@pytest.mark.parametrize("protocol", ["-tls1_2", "-tls1_3"])
async def test_a_session_is_resumed(gateway, protocol, tmp_path):
    session = tmp_path / "session"
    first = await s_client(gateway, "usual.example.com", protocol, "-sess_out", str(session))
    assert "New, TLS" in first
    again = await s_client(gateway, "usual.example.com", protocol, "-sess_in", str(session))
    assert "Reused, TLS" in again, again
    assert "HTTP/1.1 200" in again
