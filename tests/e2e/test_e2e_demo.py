"""`fedgate demo --json`, as a user runs it: the figures that it must print, and what they must not exceed."""

import json
import os
import sys

import pytest
import trio

# Fixed addresses: only one demo may run at a time.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]

PHASES = ["steady", "region-down", "region-back", "gateway-down"]


@pytest.mark.parametrize("how", [[], ["--blackhole"]], ids=["kill", "blackhole"])
async def test_the_demo_moves_traffic_loses_almost_none_and_leaves_no_process(how, tmp_path):
    command = [sys.executable, "-P", "-m", "appliance", "demo", "--json", "--seconds", "20", *how]
    run = await trio.run_process(
        command, capture_stdout=True, capture_stderr=True, check=False, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert run.returncode == 0, (run.stdout + run.stderr).decode()
    result = json.loads(run.stdout)
    assert result["requests"] >= 20 * 50
    assert result["failed"] <= result["requests"] / 100
    assert [phase["name"] for phase in result["phases"]] == PHASES
    for phase in result["phases"]:
        assert phase.keys() >= {"name", "requests", "failed", "last_failed_ms", "moved_ms", "p50_ms", "p99_ms", "share"}
        assert phase["last_failed_ms"] is None or phase["last_failed_ms"] <= 2000, phase
        assert phase["moved_ms"] is not None, phase
        assert abs(sum(phase["share"].values()) - 1) < 0.01
    steady, down, back, gone = (phase["share"] for phase in result["phases"])
    assert sum(share for cluster, share in steady.items() if cluster.startswith("east")) > 0.9
    assert down.get("west-1", 0) > 0.9
    assert all(abs(back.get(cluster, 0) - share) <= 0.1 for cluster, share in steady.items())
    assert gone.get("east-2", 0) <= 0.05
    # The gateways' command lines name the folder that it made under TMPDIR.
    left = await trio.run_process(["ps", "-eo", "args"], capture_stdout=True)
    assert str(tmp_path) not in left.stdout.decode()
