"""A connection that a packet filter sent here: where it was meant for. In a network namespace of its own."""

import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import socket
from gateway.native.meant import redirected
listener = socket.create_server(("0.0.0.0", 8888))
for where in (("127.27.9.9", 9999), ("127.0.0.1", 8888)):
    client = socket.create_connection(where)
    print(redirected(listener.accept()[0]) or "as it came")
"""
RULE = "iptables -t nat -A OUTPUT -p tcp -d 127.27.9.9 --dport 9999 -j REDIRECT --to-ports 8888"


@pytest.mark.slow
def test_what_iptables_redirected_is_known():
    for tool in ("unshare", "ip", "iptables"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    shell = f"ip link set lo up && {RULE} && exec '{sys.executable}' -c '{SCRIPT}'"
    done = subprocess.run(["unshare", "-n", "sh", "-c", shell], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode and "ermitted" in done.stderr + done.stdout:
        pytest.skip(f"no network namespace, or no packet filter, may be made here: {done.stderr.strip()[:200]}")
    assert done.stdout.split("\n")[:2] == ["127.27.9.9:9999", "as it came"], done.stderr
