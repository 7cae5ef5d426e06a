"""What an exposed process loads: nothing that reads registries or documents, and no control plane."""

import subprocess
import sys

import pytest

FOREIGN = ("federation", "pydantic", "starlette", "hypercorn", "typer", "prometheus_client", "h2", "dns", "httpx2", "yaml")


@pytest.mark.slow
def test_a_worker_loads_its_engine_and_nothing_of_the_control_plane():
    code = (
        "import sys, appliance.worker, gateway.native.engine, appliance.__main__\n"
        f"found = [n for n in sys.modules if n.split('.')[0] in {FOREIGN!r}]\n"
        "found += [n for n in sys.modules if n.startswith(('discovery.sources', 'discovery.documents', 'discovery.catalog'))]\n"
        "print(found)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
