"""The benchmarks' own arithmetic, and how they read what others print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import contest, dns, loads, soak, tools, workers
from bench.contest import Contest, Contestant, Reading, summarised
from bench.peers import Ports

H2LOAD = """starting benchmark...
spawning thread #0: 16 total client(s). 160 total requests
Application protocol: h2c
progress: 10% done

finished in 1.01s, 12345.60 req/s, 1.20MB/s
requests: 12500 total, 12500 started, 12469 done, 12468 succeeded, 1 failed, 1 errored, 0 timeout
status codes: 12460 2xx, 0 3xx, 0 4xx, 9 5xx
traffic: 1.21MB (1270000) total, 300KB (307200) headers (space savings 60.00%), 800KB (819200) data
                     min         max         mean         sd        +/- sd
time for request:      612us     20.11ms     12.95ms      1.02ms    80.11%
time for connect:      100us       300us       200us        50us    62.50%
"""


def test_what_h2load_prints():
    found = loads.parsed_h2load(H2LOAD)
    assert found == {"rps": 12345.6, "total": 12500, "done": 12469, "good": 12460, "mean_ms": 12.95}


def test_what_h2load_does_not_print():
    with pytest.raises(RuntimeError, match="unable to connect"):
        loads.parsed_h2load("unable to connect\n")


DNSPERF = """
Statistics:

  Queries sent:         100000
  Queries completed:    99990 (99.99%)
  Queries lost:         10 (0.01%)

  Response codes:       NOERROR 99990 (100.00%)
  Average packet size:  request 45, response 61
  Run time (s):         2.000000
  Queries per second:   49995.000000

  Average Latency (s):  0.001900 (min 0.000100, max 0.020000)
"""


def test_what_dnsperf_prints():
    assert dns.figures(DNSPERF) == {"rate": 49995.0, "lost": 10.0, "latency_ms": pytest.approx(1.9)}
    with pytest.raises(RuntimeError, match="no such file"):
        dns.figures("", "Error: no such file")


def test_each_name_has_an_address_of_its_own():
    assert len({dns.address(number) for number in range(dns.NAMES)}) == dns.NAMES
    assert sum(entry.count("hosts: [") for entry in dns._entries()) == dns.NAMES


def reading(rps, cpu=10.0, errors=""):
    return Reading({"rps": rps, "cpu_us": cpu}, errors)


def test_medians_and_ratios():
    readings = {
        "small": {"fedgate": [reading(30.0), reading(90.0, errors="1 failed"), reading(60.0)], "envoy": [reading(40.0, 20.0)]}
    }
    found = summarised(readings, primary="rps")
    assert found["ratio"] == found["ratios"]["small"] == {"envoy": 1.5}
    assert found["cpu_ratios"]["small"] == {"envoy": 0.5}
    mine = found["cases"]["small"]["fedgate"]
    assert (mine["rps"], mine["rps_all"], mine["errors"]) == (60.0, [30.0, 90.0, 60.0], ["1 failed"])


def test_a_case_that_only_some_have_has_ratios_to_those():
    readings = {
        "a": {"fedgate": [reading(2.0)], "envoy": [reading(1.0)]},
        "b": {"envoy": [reading(1.0)]},
        "c": {"fedgate": [reading(1.0)]},
    }
    assert summarised(readings, primary="rps")["ratios"] == {"a": {"envoy": 2.0}, "b": {}, "c": {}}


def contestant(name):
    return Contestant(name, (), Ports(1, 2, 3, ()))


class NoProcesses(Contestant, frozen=True):
    """largest_mb of nothing."""

    def largest_mb(self):
        return 1.0


def test_who_breaks_is_left_out_and_the_others_stand(tmp_path):
    quiet = Console(quiet=True)
    made = Contest("title", primary="rps", unit="requests/s", console=quiet)

    def missing(folder):
        raise tools.Missing("not on PATH")

    def broken(folder):
        raise RuntimeError("does not listen")

    starters = {
        "fedgate": lambda folder: NoProcesses("fedgate", (), Ports(1, 2, 3, ())),
        "envoy": lambda folder: NoProcesses("envoy", (), Ports(1, 2, 3, ())),
        "nginx": missing,
        "haproxy": broken,
    }
    entered = made.enter(starters, tmp_path, [])
    asked = []

    def sometimes(one):
        asked.append(one.name)
        if one.name == "fedgate":
            raise RuntimeError("[answers] nothing")
        return reading(5.0)

    made.run(entered, {"works": lambda one: reading(7.0), "breaks": sometimes}, rounds=2)
    found = made.summary()
    assert found["broken"] == {"haproxy": {"start": "does not listen"}, "fedgate": {"breaks": "[answers] nothing"}}
    assert found["ratios"] == {"works": {"envoy": 1.0}, "breaks": {}}
    assert asked.count("fedgate") == 1, "it is not asked again"
    contest.table(found)


@given(st.floats(-50, 50), st.floats(-1000, 1000), st.integers(2, 40))
def test_slope_of_a_line(rise, start, count):
    assert soak.slope([start + rise * index for index in range(count)]) == pytest.approx(rise, abs=1e-6)


def test_slope_of_too_little():
    assert soak.slope([]) == soak.slope([5.0]) == 0.0


@pytest.mark.parametrize(
    ("name", "output", "expected"),
    [
        ("http1", '{"sent": 100, "failed": 3, "rps": 1}', True),
        ("http1", '{"sent": 100, "failed": 100, "rps": 1}', False),
        ("tcp", '{"done": 8, "failed": 0}', True),
        ("tcp", '{"done": 0, "failed": 8}', False),
        ("tcp", "Segmentation fault", False),
        ("tls", "  8000 requests in 1.00s, 1.10MB read\n", True),
        ("tls", "  0 requests in 1.00s, 0.00B read\n", False),
        ("http2", H2LOAD, True),
        ("http2", H2LOAD.replace("12460 2xx", "0 2xx"), False),
    ],
)
def test_whether_a_load_was_answered(name, output, expected):
    assert soak.good(name, output) is expected


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C002 06 00000000:00000000 00:00000000 00000000     0        0 33 1 0 100 0 0 10 0
   3: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 44 1 0 100 0 0 10 0
"""


def test_established_sockets_of_a_port():
    assert workers.accepted(TCP.splitlines(), 8080) == {"22"}


def test_the_busier_share():
    assert workers.busier_share([30, 70]) == 70.0
    assert workers.busier_share([]) == workers.busier_share([0, 0]) == 0.0
