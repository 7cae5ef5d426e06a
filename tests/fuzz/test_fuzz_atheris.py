"""The targets of fuzz_targets.py under atheris, each for a few seconds: no crash, no hang, no growth.

FUZZ_SECONDS sets how long: `FUZZ_SECONDS=600 pytest tests/fuzz/test_fuzz_atheris.py -k requests` goes deeper. What broke a promise is
printed as bytes; put it into the target's good inputs when it is mended.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
from fuzz_targets import TARGETS

pytest.importorskip("atheris", reason="atheris is not installed (it has no wheel for this Python or platform)")

SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))
LONGEST_INPUT_S = 5  # a single input that takes longer hangs
MEMORY_MB = 1024  # atheris itself and its coverage need about 150
WORKER = pathlib.Path(__file__).with_name("fuzz_worker.py")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2 + 60)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_a_promise(name, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(TARGETS[name][1]):
        (corpus / str(number)).write_bytes(seed)
    bounds = [f"-max_total_time={SECONDS}", f"-timeout={LONGEST_INPUT_S}", f"-rss_limit_mb={MEMORY_MB}", "-max_len=4096"]
    command = [
        sys.executable,
        str(WORKER),
        name,
        str(corpus),
        *bounds,
        f"-artifact_prefix={tmp_path}/found-",
        "-print_final_stats=1",
    ]
    root = str(pathlib.Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))}
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS + 60, env=environment)
    found = [path.read_bytes() for path in tmp_path.glob("found-*")]
    assert not found, f"{found}\n{ran.stderr[-6000:]}"
    assert ran.returncode == 0, ran.stderr[-6000:]
    assert "number_of_executed_units" in ran.stderr, ran.stderr[-2000:]
