"""Names from documents to answers: a gateway is asked what its documents say, and asked again when they change."""

import urllib.request

import dns.message
import dns.query
import dns.rcode
import pytest
from running import Fedgate, document, running, wait_until

pytestmark = pytest.mark.slow

HEADLESS = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: pg, port: 5432}]
endpoints:
"""
POD = "- {addresses: [%s], hostname: %s, conditions: {ready: %s}}\n"
DB = "db.shop.svc.cluster.local"


def ask(gateway, name, kind="A", by=dns.query.udp):
    return by(dns.message.make_query(name, kind), gateway.address, port=gateway.dns, timeout=2)


def texts(gateway, name, kind="A", **options):
    return sorted(record.to_text() for rrset in ask(gateway, name, kind, **options).answer for record in rrset)


def pods(*written):
    return SLICE + "".join(POD % one for one in written)


def entry(host, **spec):
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    usual = {"hosts": [host], "ports": [port], "resolution": "STATIC", "endpoints": [{"address": "127.0.0.1"}]}
    return document("ServiceEntry", host.replace("*", "any").replace(".", "-"), usual | spec)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    made = Fedgate(tmp_path_factory.mktemp("names"), workers=2)
    made.write("db", HEADLESS, pods(("10.9.0.1", "db-0", "true"), ("10.9.0.2", "db-1", "true")))
    made.write("billing", entry("billing.corp", addresses=["10.8.0.1"]))
    with running(made):
        wait_until(lambda: quiet(made, "billing.corp") == ["10.8.0.1"], "names are answered")
        yield made


def quiet(gateway, name):
    """None where nobody answers yet."""
    try:
        return texts(gateway, name)
    except (OSError, dns.exception.Timeout):
        return None


def test_what_documents_say_is_answered(gateway):
    assert texts(gateway, "billing.corp", by=dns.query.tcp) == ["10.8.0.1"]
    assert texts(gateway, "_http._tcp.billing.corp", "SRV") == ["0 100 80 billing.corp."]
    assert texts(gateway, DB) == texts(gateway, "db.shop") == ["10.9.0.1", "10.9.0.2"]
    assert texts(gateway, f"db-1.{DB}") == texts(gateway, f"db-1.east.{DB}") == ["10.9.0.2"]
    assert texts(gateway, f"_pg._tcp.{DB}", "SRV") == [f"0 1 5432 db-0.east.{DB}.", f"0 1 5432 db-1.east.{DB}."]
    assert ask(gateway, "other.shop.svc.cluster.local").rcode() == dns.rcode.NXDOMAIN


def test_a_change_of_the_documents_is_answered_soon(gateway):
    assert texts(gateway, "later.corp.test") == []
    gateway.write("db", HEADLESS, pods(("10.9.0.2", "db-1", "false"), ("10.9.0.3", "db-2", "true")))
    gateway.write("later", entry("*.later.corp.test", addresses=["10.8.0.2"]))
    wait_until(lambda: texts(gateway, DB) == ["10.9.0.3"], "only the ready one is answered", within=20)
    wait_until(lambda: texts(gateway, "x.later.corp.test") == ["10.8.0.2"], "the new wildcard is answered", within=20)
    (gateway.documents / "later.yaml").unlink()
    wait_until(lambda: texts(gateway, "x.later.corp.test") == [], "and no more", within=20)


def test_metrics_count_questions(gateway):
    def metrics():
        with urllib.request.urlopen(f"http://{gateway.address}:{gateway.admin}/metrics", timeout=5) as answer:
            return answer.read().decode()

    wait_until(lambda: 'fedgate_dns_total{result="made"}' in metrics(), "questions are counted")
