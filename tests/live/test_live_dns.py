"""dig, kdig and dnsperf ask the nameserver of a running gateway, which forwards to a real dnsmasq."""

import re
import shutil
import subprocess

import pytest
from running import Fedgate, Program, document, fresh_address, running, wait_until
from running_gateway import free_ports

MISSING = [package for program, package in (("dig", "bind9-dnsutils"), ("dnsmasq", "dnsmasq-base")) if not shutil.which(program)]
pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed (Debian): {' '.join(MISSING)}"),
    pytest.mark.xdist_group("live-dns"),
]

VIP = "10.64.0.7"
NAME = "reviews.example.com"


class Dnsmasq(Program):
    """A real nameserver that knows `records`: lines of its configuration."""

    def __init__(self, folder, *records):
        super().__init__("dnsmasq", folder)
        self.address = fresh_address()
        (self.port,) = free_ports(1, self.address)
        lines = [f"port={self.port}", f"listen-address={self.address}", "bind-interfaces", "no-resolv", "no-hosts"]
        lines += ["keep-in-foreground", "user=", "pid-file=", "local=/outside.test/", *records]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dnsmasq.conf").write_text("\n".join(lines) + "\n")

    def command(self):
        return [shutil.which("dnsmasq"), f"--conf-file={self.folder / 'dnsmasq.conf'}"]

    def is_ready(self):
        return dig(self.address, self.port, "www.outside.test", "+short", "+tries=1", "+time=1") == "192.0.2.80\n"


def dig(address, port, *words, program="dig"):
    done = subprocess.run([program, f"@{address}", "-p", str(port), *words], capture_output=True, text=True, timeout=30)
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(gateway, its real upstream)."""
    folder = tmp_path_factory.mktemp("dns")
    texts = [f"txt-record=big.outside.test,{'x' * 200}"] * 20
    upstream = Dnsmasq(folder, "address=/www.outside.test/192.0.2.80", "local-ttl=77", *texts)
    gateway = Fedgate(folder)
    gateway.write("node", gateway.node(dns={"upstreams": [f"{upstream.address}:{upstream.port}"]}))
    entry = {
        "hosts": [NAME],
        "addresses": [VIP],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "location": "MESH_INTERNAL",
        "endpoints": [{"address": "127.0.0.1"}],
    }
    gateway.write("reviews", document("ServiceEntry", "reviews", entry))
    with running(upstream, gateway):
        wait_until(lambda: ask(gateway, NAME, "+short", "+tries=1", "+time=1") == f"{VIP}\n", "the name is answered")
        yield gateway, upstream


def ask(gateway, *words, **options):
    return dig(gateway.address, gateway.dns, *words, **options)


def test_dig_gets_addresses_services_and_reverse_names(world):
    gateway, _ = world
    for way in ("+notcp", "+tcp", "+noedns", "+dnssec", "+nocookie", "+bufsize=512"):
        answer = ask(gateway, NAME, way)
        assert "status: NOERROR" in answer
        assert re.search(rf"^{NAME}\.\s+30\s+IN\s+A\s+{VIP}$", answer, re.M), answer
    assert ask(gateway, NAME.upper(), "+short") == f"{VIP}\n"
    assert ask(gateway, f"_http._tcp.{NAME}", "SRV", "+short") == f"0 100 80 {NAME}.\n"
    assert ask(gateway, "-x", VIP, "+short") == f"{NAME}.\n"
    assert "status: NOERROR" in ask(gateway, NAME, "AAAA")


def test_dig_is_told_what_is_not_there(world):
    gateway, _ = world
    answer = ask(gateway, "nobody.shop.svc.cluster.local")
    assert "status: NXDOMAIN" in answer
    assert "SOA\tns.dns.cluster.local." in answer
    assert "status: REFUSED" in ask(gateway, "version.bind", "TXT", "CH")
    assert "status: BADVERS" in ask(gateway, NAME, "+edns=1", "+noednsnegotiation")
    assert "status: NOTIMP" in ask(gateway, NAME, "+opcode=notify")
    assert "parser" not in answer  # what dig says of malformed messages


def test_dig_gets_what_the_upstream_says_by_tcp_if_it_is_long(world):
    gateway, upstream = world
    assert re.search(r"^www\.outside\.test\.\s+\d+\s+IN\s+A\s+192\.0\.2\.80$", ask(gateway, "www.outside.test"), re.M)
    assert "status: NXDOMAIN" in ask(gateway, "nobody.outside.test")
    assert "flags: qr tc" in ask(gateway, "big.outside.test", "TXT", "+ignore").replace("aa ", "")
    whole = ask(gateway, "big.outside.test", "TXT")
    assert whole.count('xxxx"') == dig(upstream.address, upstream.port, "big.outside.test", "TXT").count('xxxx"') > 1
    assert "Truncated, retrying in TCP mode" in whole


@pytest.mark.skipif(not shutil.which("kdig"), reason="not installed (Debian): knot-dnsutils")
def test_kdig_gets_the_same(world):
    gateway, _ = world
    for way in ("+notcp", "+tcp", "+cookie", "+padding=128", "+keepopen"):
        answer = ask(gateway, NAME, way, program="kdig")
        assert "status: NOERROR" in answer
        assert VIP in answer
    assert "NXDOMAIN" in ask(gateway, "nobody.global", program="kdig")


@pytest.mark.skipif(not shutil.which("dnsperf"), reason="not installed (Debian): dnsperf")
@pytest.mark.parametrize("way", [(), ("-e",), ("-e", "-D"), ("-m", "tcp"), ("-E", "10:0102030405060708")])
def test_dnsperf_loses_nothing_and_hears_no_errors(world, way, tmp_path):
    gateway, _ = world
    questions = tmp_path / "questions"
    questions.write_text(f"{NAME} A\n{NAME} AAAA\nwww.outside.test A\n_http._tcp.{NAME} SRV\n")
    command = ["dnsperf", "-s", gateway.address, "-p", str(gateway.dns), "-d", str(questions), "-n", "1000", "-q", "50", *way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Queries completed:    4000 (100.00%)" in done.stdout, done.stdout
    assert "NOERROR 4000 (100.00%)" in done.stdout, done.stdout
