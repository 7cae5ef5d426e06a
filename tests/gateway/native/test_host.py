"""host: what it says about itself."""

import pytest

from discovery.model import Health
from gateway.native.host import Host
from gateway.snapshot import LbEndpoint
from gateway.verdicts import Verdict


@pytest.mark.parametrize(
    ("attributes", "state", "out"),
    [
        ({}, "healthy", False),
        ({"verdict": Verdict(Health.UNKNOWN)}, "healthy", False),
        ({"verdict": Verdict(Health.DEGRADED)}, "degraded", False),
        ({"verdict": Verdict(Health.UNHEALTHY)}, "unhealthy", True),
        ({"verdict": Verdict(Health.DRAINING)}, "draining", True),
        ({"half_open": True, "reason": "silence"}, "half-open", True),
        ({"ejected": True, "reason": "silence", "half_open": True}, "ejected", True),
        ({"down": True, "ejected": True}, "down", True),
    ],
)
def test_state(attributes, state, out):
    host = Host("b", LbEndpoint("a", "10.0.0.1", 80), 0.0)
    for name, value in attributes.items():
        setattr(host, name, value)
    assert (host.state, host.out) == (state, out)
    assert f"p0 {state}" in repr(host)
    assert ("by silence" in repr(host)) == ("reason" in attributes)


def test_an_observed_latency_is_kept_as_a_peak_that_decays():
    host = Host("b", LbEndpoint("a", "10.0.0.1", 80), 100.0)
    host.observe(0.5, 100.0)
    assert (host.ewma, host.ewma_at) == (0.5, 100.0)
    host.observe(0.1, 110.0)
    assert 0.1 < host.ewma < 0.3
    host.observe(0.7, 110.0)
    assert host.ewma == 0.7
