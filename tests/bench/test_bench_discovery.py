"""The discovery benchmark's own arithmetic, and its measurement, against a registry and a gateway by script."""

import contextlib
import http.server
import threading
import time

import pytest
from rich.console import Console

from bench import discovery, registries, tools


class Both:
    """A registry and the gateway that follows it `late` seconds later. served: who answers, at random as a gateway would."""

    def __init__(self, late):
        self.source = {}
        self.late = late
        self.there = frozenset()
        self.routed = ()
        self.turn = 0
        self.changed = threading.Condition()

    def host(self, service):
        return service

    def prepare(self, service):
        self.there, self.routed = frozenset(), ()

    def add(self, service, workload):
        self.change(self.there | {workload})

    def remove(self, service, workload):
        self.change(self.there - {workload})

    def change(self, there):
        with self.changed:
            self.there = there
            self.changed.notify_all()
        threading.Timer(self.late, setattr, (self, "routed", tuple(sorted(there)))).start()

    def known(self, service):
        return self.there, None

    def wait(self, service, state):
        with self.changed:
            self.changed.wait_for(lambda: self.there != state[0])
            return self.there, None

    def answers(self):
        if not self.routed:
            return ""
        self.turn += 1
        return self.routed[self.turn % len(self.routed)]


@contextlib.contextmanager
def serving(both):
    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            who = both.answers()
            self.send_response(200 if who else 502)
            if who:
                self.send_header("x-served-by", who)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.address, server.mesh = server.server_address
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_round_measures_what_the_gateway_is_late_by():
    both = Both(0.08)
    with serving(both) as gateway:
        made = discovery._round(both, gateway, "s")
    assert set(made) == set(discovery.CASES)
    assert all(0.06 < seconds < 0.8 for seconds in made.values()), made


@pytest.mark.slow
def test_a_change_that_never_comes_is_an_error_that_says_which(monkeypatch):
    monkeypatch.setattr(discovery, "_PATIENCE_S", 0.5)
    both = Both(60)
    both.change = lambda there: None
    began = time.monotonic()
    with serving(both) as gateway, pytest.raises(RuntimeError, match=r"waiting for s to have \['old'\]"):
        discovery._round(both, gateway, "s")
    assert time.monotonic() - began < 10


def test_figures():
    assert discovery._figures([n / 1000 for n in range(1, 101)]) == {
        "p50_ms": 50.5,
        "p99_ms": 100.0,
        "worst_ms": 100.0,
        "count": 100,
    }
    assert discovery._figures([0.001, 0.003])["p99_ms"] == 3.0


def test_the_table_says_what_is_above_the_aim():
    figures = {"p50_ms": 1.0, "p99_ms": 2.0, "worst_ms": 3.0, "count": 10}
    slow = figures | {"p99_ms": 150.0}
    result = {"aim_ms": 100.0, "registries": {"nomad": {"service": figures, "removal": slow}}, "broken": {"kubernetes": "no etcd"}}
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(discovery.table(result))
    console.file.close()
    lines = console.export_text().splitlines()
    assert [("above the aim" in line) for line in lines if "nomad" in line] == [False, True]
    assert any("no etcd" in line for line in lines)


def test_nothing_to_measure_is_an_error(monkeypatch):
    monkeypatch.setattr(registries, "missing", lambda name: "not here")
    with pytest.raises(tools.Missing):
        discovery.measure(["nomad"], rounds=1, console=Console(quiet=True))
