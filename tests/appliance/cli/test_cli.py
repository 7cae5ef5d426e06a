"""The `fedgate` command: helps with examples, one clear line for what is wrong, tables that are not cut, JSON."""

import http.server
import json
import os
import subprocess
import sys
import threading
import typing

import pytest
from typer.testing import CliRunner

from appliance.cli.output import table
from appliance.cli.root import app

COMMANDS = [
    ["run"],
    ["validate"],
    ["analyze"],
    ["expand"],
    ["demo"],
    ["version"],
    *(["ca", verb] for verb in ("init", "issue", "bundle", "show")),
    *(
        ["get", what]
        for what in ("listeners", "routes", "backends", "endpoints", "certs", "peers", "services", "service", "config", "sources")
    ),
]


def fedgate(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_s_help_has_an_example(command):
    result = fedgate(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: fedgate {' '.join(command)}" in result.stdout


def test_wrong_usage_is_status_2():
    assert fedgate("gett").exit_code == 2
    assert fedgate("run").exit_code == 2
    assert fedgate("ca", "init", "x").exit_code == 2


def test_version():
    said = fedgate("version").stdout
    assert said.startswith("fedgate 0.")
    assert said.endswith(", codecs in Python)\n") or "PYTHONPATH" in os.environ  # the tests of what was compiled say where it is


def test_a_path_that_does_not_exist_is_one_line():
    result = fedgate("run", "-c", "/does/not/exist.yaml")
    assert result.exit_code == 1
    assert result.stderr == "fedgate: /does/not/exist.yaml does not exist; -c takes a file or folder of YAML documents\n"


def test_analyze_says_by_its_status_whether_something_was_found(tmp_path):
    kind = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\n"
    rule = kind + "spec: {host: h, trafficPolicy: {outlierDetection: {%s}}}\n"
    file = tmp_path / "rule.yaml"
    file.write_text(rule % "interval: 5s")
    assert (fedgate("analyze", file).exit_code, fedgate("analyze", file).stdout) == (0, "No issues found.\n")
    file.write_text(rule % "consecutiveErrors: 5")
    warned = fedgate("analyze", tmp_path)
    assert warned.exit_code == 0
    assert warned.stdout.startswith(f"Warning [IST0133] (DestinationRule a {file}:4) spec.trafficPolicy.")
    assert fedgate("analyze", file, "--failure-threshold", "warning").exit_code == 79
    quiet = fedgate("analyze", file, "--output-threshold", "Error", "--failure-threshold", "Warning")
    assert (quiet.exit_code, quiet.stdout) == (79, "No issues of level Error found.\n")
    file.write_text(rule % "intervall: 5s")
    (found,) = json.loads(fedgate("analyze", file, "-o", "json").stdout)
    assert (found["code"], found["level"], found["origin"]) == ("IST0106", "Error", "DestinationRule a")
    assert found["reference"] == f"{file}:4"
    assert fedgate("analyze", file).exit_code == 79


def test_columns_are_as_wide_as_they_must_be():
    text = table(["A", "LONG"], [["x" * 200, ""], ["y", "z"]])
    assert text.splitlines() == ["A" + " " * 201 + "LONG", "x" * 200 + "  -", "y" + " " * 201 + "z"]


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers like a gateway's admin API, with what the test put in `answers`."""

    answers: typing.ClassVar = {}

    def do_GET(self):
        status, body = self.answers.get(self.path, (404, {"error": f"there is no {self.path}"}))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def gateway():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Gateway.answers = {}
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


ENDPOINT = {
    "backend": "outbound|80||a",
    "id": "x",
    "address": "10.0.0.1:80",
    "cluster": "east",
    "locality": "us/us-1",
    "priority": 0,
    "weight": 1,
    "peer": "",
    "health": "ejected",
    "reason": "silence for 100 ms more, by worker 0",
    "healthy": 1,
    "total": 1,
    "active": 0,
    "connections": 0,
    "requests": 7,
    "failures": 3,
    "p50Ms": 1.25,
    "p99Ms": 9.0,
}


def test_a_table_of_endpoints_and_the_same_as_json(gateway):
    Gateway.answers["/api/v1/endpoints"] = (200, {"items": [ENDPOINT]})
    result = fedgate("get", "endpoints", "--address", gateway)
    head, row = result.stdout.splitlines()
    assert head.split()[:4] == ["BACKEND", "ADDRESS", "CLUSTER", "LOCALITY"]
    assert row.split()[6:] == [
        "ejected",
        "0",
        "7",
        "3",
        "1.2ms",
        "9.0ms",
        "silence",
        "for",
        "100",
        "ms",
        "more,",
        "by",
        "worker",
        "0",
    ]
    result = fedgate("get", "endpoints", "--address", gateway, "-o", "json")
    assert json.loads(result.stdout) == [ENDPOINT]


def test_a_backend_s_name_is_passed_on(gateway):
    Gateway.answers["/api/v1/endpoints?backend=outbound%7C80%7C%7Ca"] = (200, {"items": []})
    assert fedgate("get", "endpoints", "--backend", "outbound|80||a", "--address", gateway).exit_code == 0


def test_a_service_and_why(gateway):
    service = {"hostname": "a", "namespace": "s", "ports": ["80"], "clusters": {"east": "1/1"}, "sources": ["x"], "exportedTo": []}
    service |= {
        "addresses": ["10.9.0.1"],
        "virtualAddresses": ["240.240.0.1"],
        "resolution": "STATIC",
        "headless": True,
        "created": "",
        "findings": ["ports[80]: east wins"],
    }
    why = [{"field": "ports", "winner": "east/x", "reason": "oldest", "losers": ["west/y"]}]
    Gateway.answers["/api/v1/services/a"] = (200, {"service": service, "why": why})
    text = fedgate("get", "service", "a", "--why", "--address", gateway).stdout
    assert "east:1/1" in text
    assert "oldest" in text
    assert "oldest" not in fedgate("get", "service", "a", "--address", gateway).stdout
    assert "findings:\n  ports[80]: east wins" in text
    Gateway.answers["/api/v1/services"] = (200, {"items": [service]})
    wide = fedgate("get", "services", "-o", "wide", "--address", gateway).stdout
    assert "STATIC headless" in wide
    assert "east wins" in wide
    assert "STATIC" not in fedgate("get", "services", "--address", gateway).stdout


def test_sources_say_what_they_are_and_since_when(gateway):
    row = {"cluster": "east", "name": "k8s", "state": "kept", "services": 2, "endpoints": 3, "ageS": 7300.0, "problem": "refused"}
    row |= {"connected": False, "saidS": 7300.0, "lostS": 90.0, "failures": 4, "findings": 1, "damped": 2}
    fresh = row | {"name": "consul", "state": "live", "connected": True, "ageS": 0.0, "saidS": 3.0, "lostS": -1.0, "problem": ""}
    Gateway.answers["/api/v1/sources"] = (200, {"items": [row, fresh]})
    lines = fedgate("get", "sources", "--address", gateway).stdout.splitlines()
    assert lines[0].split() == ["CLUSTER", "NAME", "STATE", "SERVICES", "ENDPOINTS", "AGE", "LAST", "SAID", "PROBLEM"]
    assert lines[1].split() == ["east", "k8s", "lost,", "kept", "2", "3", "2h", "2h", "refused"]
    assert lines[2].split() == ["east", "consul", "live", "2", "3", "0s", "3s", "-"]
    assert "90s  " in fedgate("get", "sources", "-o", "wide", "--address", gateway).stdout


def test_the_node_document_says_where_to_ask(gateway, tmp_path):
    Gateway.answers["/api/v1/peers"] = (200, {"items": []})
    port = gateway.rpartition(":")[2]
    node = tmp_path / "node.yaml"
    node.write_text(f"kind: Gateway\n---\nkind: Node\nspec: {{cluster: a, listen: {{admin: '0.0.0.0:{port}'}}}}\n")
    assert fedgate("get", "peers", "-c", node).exit_code == 0
    assert fedgate("get", "peers", "-c", tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, {"error": "there is no service 'x'"}), "there is no service 'x'"),
        ((200, b"<html>"), "is not a gateway's admin API"),
        ((503, {}), "answered with status 503"),
    ],
)
def test_what_a_gateway_refuses_is_one_line(gateway, answer, says):
    Gateway.answers["/api/v1/peers"] = answer
    result = fedgate("get", "peers", "--address", gateway)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("where", ["127.0.0.1:1", "127.0.0.1:99999", "::::", "no such name:80"])
def test_nobody_there_is_one_line(where):
    result = fedgate("get", "peers", "--address", where)
    assert result.exit_code == 1
    assert result.stderr.startswith("fedgate: ")
    assert result.stderr.count("\n") == 1


def test_a_node_document_that_is_none_is_one_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [")
    assert "cannot be read" in fedgate("get", "peers", "-c", path).stderr
    path.write_text("kind: Gateway")
    assert "has no Node document" in fedgate("get", "peers", "-c", path).stderr


def test_a_ca_is_made_signs_and_is_shown(tmp_path):
    made = fedgate("ca", "init", tmp_path / "ca", "--trust-domain", "east.example.com")
    assert made.exit_code == 0, made.stderr
    identity = "spiffe://east.example.com/ns/fedgate/sa/gateway"
    signed = fedgate("ca", "issue", tmp_path / "ca", identity, "--out", tmp_path / "gw", "--ttl", "2h")
    assert signed.exit_code == 0, signed.stderr
    assert fedgate("ca", "bundle", tmp_path / "ca").stdout.startswith("-----BEGIN CERTIFICATE-----")
    shown = json.loads(fedgate("ca", "show", tmp_path / "gw", "-o", "json").stdout)
    assert identity in [fact["identity"] for fact in shown]
    assert identity in fedgate("ca", "show", tmp_path / "gw").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("ca", "bundle", "/does/not/exist"),
        ("ca", "show", "/does/not/exist"),
        ("ca", "issue", "/does/not/exist", "spiffe://a/ns/b/sa/c", "--out", "/tmp"),
        ("ca", "init", "/proc/nowhere", "--trust-domain", "a.example"),
    ],
)
def test_what_is_wrong_with_a_ca_is_one_line(arguments):
    result = fedgate(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("fedgate: ")
    assert result.stderr.count("\n") == 1


def test_a_duration_that_is_none_is_wrong_usage(tmp_path):
    result = fedgate("ca", "issue", tmp_path, "spiffe://a/ns/b/sa/c", "--out", tmp_path, "--ttl", "soon")
    assert result.exit_code == 2


@pytest.mark.slow
def test_version_loads_no_more_than_it_needs():
    code = (
        "import sys; from appliance.cli.root import app\ntry: app(['version'])\nexcept SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name in ('federation', 'starlette', 'trio', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_expand_prints_documents_and_says_what_is_wrong(tmp_path):
    file = tmp_path / "a.yaml"
    spec = "{hosts: [a.example], ports: [{number: 443, protocol: HTTPS}], tls: {mode: SIMPLE}}"
    file.write_text(f"apiVersion: fedgate.io/v1\nkind: ExternalService\nmetadata: {{name: a}}\nspec: {spec}\n")
    result = fedgate("expand", "-f", file)
    assert result.exit_code == 0
    assert "kind: ServiceEntry" in result.stdout
    assert "kind: DestinationRule" in result.stdout
    file.write_text(file.read_text().replace("443", "0"))
    result = fedgate("expand", "-f", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "spec.ports[0].number" in result.stderr
