"""Counts of relayed connections: when they are taken over, and under which labels."""

from types import SimpleNamespace

import pytest
from native_engine import backend, endpoint

from gateway.native.accesslog import Stamps
from gateway.native.connection import ConnectionContext
from gateway.native.host import Host
from gateway.native.observe_tcp import TcpObserver
from gateway.native.tunnel import Counts
from gateway.snapshot import Listener, ListenerKind, Node


class Connection(SimpleNamespace):
    """What an observer reads of one."""

    __hash__ = object.__hash__


@pytest.fixture
def observer():
    def sources(node, reporter, identity):
        return (("reporter", reporter), ("source", identity or node.name))

    def destinations(node, backend, host, reporter):
        return (("destination", backend.host if backend else "unknown"),)

    observer = TcpObserver(Stamps(lambda: 0.0), sources, destinations)
    observer.configure(Node("gw", "east"))
    return observer


def connection(kind=ListenerKind.GATEWAY, identity="", *, host=True):
    state = SimpleNamespace(backend=backend("outbound|1||a.test"))
    return Connection(
        context=ConnectionContext(Listener("127.0.0.1", 1, kind), identity=identity, peer="c:1", local="l:1", sni="s"),
        counts=Counts(),
        counted=(0, 0),
        flag=b"-",
        backend_name="outbound|1||a.test",
        state=state,
        host=Host("outbound|1||a.test", endpoint(9), 0.0) if host else None,
        began=0.0,
        ended=1.5,
        termination=b"-",
        transport_failure=b"-",
        local=b"",
    )


def reading(observer):
    return {dict(s.labels)["response_flags"]: (s.opened, s.closed, s.sent_bytes, s.received_bytes) for s in observer.statistics()}


def test_bytes_are_exact_at_every_reading_and_counted_once(observer):
    c = connection()
    observer.opened(c)
    c.counts.sent, c.counts.received = 100, 10
    assert reading(observer) == {"-": (1, 0, 100, 10)}
    assert reading(observer) == {"-": (1, 0, 100, 10)}
    c.counts.sent = 150
    observer.configure(Node("gw", "east"))  # a new Snapshot in between
    assert reading(observer) == {"-": (1, 0, 150, 10)}
    c.counts.received, c.flag = 11, b"UC"
    observer.closed(c)
    assert reading(observer) == {"-": (1, 0, 150, 10), "UC": (0, 1, 0, 1)}


def test_one_that_never_connected_was_opened_and_closed(observer):
    c = connection(host=False)
    c.flag = b"UH"
    observer.closed(c)
    assert reading(observer) == {"UH": (1, 1, 0, 0)}


def test_labels(observer):
    observer.opened(connection(ListenerKind.EAST_WEST, "spiffe://west/gw"))
    observer.opened(connection(ListenerKind.EAST_WEST))
    observer.opened(connection())
    found = [dict(s.labels) for s in observer.statistics()]
    assert [(each["reporter"], each["source"], each["connection_security_policy"]) for each in found] == [
        ("destination", "spiffe://west/gw", "mutual_tls"),
        ("destination", "gw", "unknown"),
        ("source", "gw", "unknown"),
    ]
    assert {each["request_protocol"] for each in found} == {"tcp"}
    assert {each["destination"] for each in found} == {"a.test"}


def test_without_a_log_nothing_is_kept(observer):
    c = connection()
    observer.closed(c)
    assert observer.over == [c]
    observer.record(None, json=False)
    assert observer.over == []
