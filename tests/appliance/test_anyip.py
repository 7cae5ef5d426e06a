"""Which addresses are this machine's own; a range that is made so, in a network namespace of its own."""

import ipaddress
import os
import subprocess
import sys

import pytest

from appliance.anyip import AnyIp, is_local


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("127.26.200.3", True), ("240.240.0.1", False), ("192.0.2.1", False), ("2001:2::1", False)],
)
def test_the_kernel_says_what_is_local(address, local):
    assert is_local(ipaddress.ip_address(address)) is local


def test_a_range_that_is_local_is_claimed_and_nothing_is_added():
    anyip = AnyIp()
    assert anyip.claim("127.26.0.0/16", add_route=True)
    assert anyip.has("127.26.0.9")


def test_what_is_no_address_is_not_local():
    assert not AnyIp().has("db.example.com")
    assert not AnyIp().has("")


def test_a_range_that_is_not_is_said_once_with_what_to_do(capsys):
    anyip = AnyIp()
    assert not anyip.claim("192.0.2.0/24")
    assert not anyip.claim("192.0.2.0/24")
    said = capsys.readouterr().out
    assert said.count("vips.not_local") == 1
    assert "ip route add local 192.0.2.0/24 dev lo" in said


IN_NAMESPACE = """
import sys
from appliance.anyip import AnyIp
anyip = AnyIp()
anyip.claim(sys.argv[2])  # looked at before: the Node asks for the route later
print(anyip.claim(sys.argv[2], add_route=sys.argv[1] == "add"))
"""


def in_namespace(*arguments, wrap=()):
    command = ["unshare", "--net", *wrap, sys.executable, "-c", IN_NAMESPACE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def can_unshare():
    try:
        return subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except FileNotFoundError:
        return False


namespaces = pytest.mark.skipif(os.geteuid() != 0 or not can_unshare(), reason="needs root, and `unshare` for a network namespace")


@namespaces
@pytest.mark.slow
@pytest.mark.parametrize("network", ["10.78.0.0/16", "fd00:78::/64"])
def test_the_route_is_added_where_that_is_asked_for(network):
    up = ["sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"]
    assert "True" in in_namespace("add", network, wrap=up).stdout
    assert "False" in in_namespace("look", network, wrap=up).stdout


@namespaces
@pytest.mark.slow
def test_without_the_capability_it_says_what_to_do():
    bounded = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    said = in_namespace("add", "10.78.0.0/16", wrap=bounded)
    if "setpriv" in said.stderr:
        pytest.skip(f"setpriv cannot drop the capability: {said.stderr.strip()}")
    assert "False" in said.stdout
    assert "without CAP_NET_ADMIN" in said.stdout
    assert "ip route add local 10.78.0.0/16 dev lo" in said.stdout
