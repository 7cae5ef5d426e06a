"""What the Node says of its nameserver, as the engine is told it."""

import pytest
from compiling import compiled

from federation.compile.credentials import FileContent
from federation.compile.inputs import RESOLV_CONF
from gateway.snapshot import Listener, ListenerKind

NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw}
spec: {cluster: east, trustDomain: east.example.com%s}
"""


def dns(spec="", resolv_conf=None, **changes):
    files = {} if resolv_conf is None else {RESOLV_CONF: FileContent(resolv_conf.encode())}
    return compiled(NODE % spec, files=files, **changes).snapshot.node.dns


def test_by_default_private_networks_are_answered_and_the_machines_nameservers_asked():
    found = dns(resolv_conf="# made by dhcp\nsearch corp\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver nonsense\n")
    assert found.upstreams == (("10.0.0.2", 53),)
    assert found.zones == ("cluster.local", "clusterset.local", "global")
    assert "10.0.0.0/8" in found.allow
    assert "0.0.0.0/0" not in found.allow
    assert (found.ttl, found.synced) == (30, True)


def test_what_is_written_holds():
    found = dns(
        ", clusterDomain: Corp.Local, dns: {allow: [0.0.0.0/0], ttl: 5,"
        " upstreams: [192.0.2.1, '192.0.2.2:5300', '2001:db8::1', '[2001:db8::2]:54']}",
        resolv_conf="nameserver 10.0.0.2\n",
        synced=False,
    )
    assert found.upstreams == (("192.0.2.1", 53), ("192.0.2.2", 5300), ("2001:db8::1", 53), ("2001:db8::2", 54))
    assert (found.zones[0], found.allow, found.ttl, found.synced) == ("corp.local", ("0.0.0.0/0",), 5, False)


def test_without_any_upstream_nobody_is_asked():
    assert dns().upstreams == dns(resolv_conf="options edns0\n").upstreams == ()


@pytest.mark.parametrize(("listen", "left"), [("127.0.0.53:53", ()), ("0.0.0.0:53", ()), ("127.0.0.1:53", (("127.0.0.53", 53),))])
def test_a_nameserver_that_is_this_one_is_not_asked(listen, left):
    assert dns(f", listen: {{dns: '{listen}'}}", resolv_conf="nameserver 127.0.0.53\n").upstreams == left


def test_the_listener_is_where_the_node_says():
    parts = compiled(NODE % ", listen: {dns: '127.0.0.9:5353'}").snapshot.parts
    assert parts["listener/127.0.0.9:5353"] == Listener("127.0.0.9", 5353, ListenerKind.DNS)
