"""HTTP/2 carrying messages: both ends joined without a socket."""

import h2.config
import h2.connection
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.peering import carrier as c
from federation.peering.carrier import Carrier
from federation.peering.wire import Ack, Refused, WireError, encode


def pair():
    return Carrier(client=True, authority="peering.west.example.com"), Carrier(client=False)


def pump(client, server, size=1 << 30):
    """Carry bytes both ways until none are left; events by side."""
    found = {"client": [], "server": []}
    while True:
        there, back = client.pending(), server.pending()
        if not there and not back:
            return found
        for data, end, name in ((there, server, "server"), (back, client, "client")):
            for at in range(0, len(data), size):
                found[name] += end.receive(data[at : at + size])


def test_messages_both_ways():
    client, server = pair()
    client.send(Ack(1))
    found = pump(client, server)
    assert found == {"server": [c.Opened(), c.Heard(Ack(1))], "client": [c.Opened()]}
    server.send(Refused("no"))
    client.send(Ack(2))
    assert pump(client, server) == {"server": [c.Heard(Ack(2))], "client": [c.Heard(Refused("no"))]}


@given(st.integers(1, 50))
def test_cut_anywhere(size):
    client, server = pair()
    client.send(Ack(1))
    client.ping(b"12345678")
    found = pump(client, server, size)
    assert found["server"] == [c.Opened(), c.Heard(Ack(1))]
    assert c.Opened() in found["client"]
    assert c.Pong(b"12345678") in found["client"]


def test_what_the_server_says_early_waits_for_the_stream():
    client, server = pair()
    server.send(Ack(1))
    assert c.Heard(Ack(1)) in pump(client, server)["client"]


def test_more_than_the_window_goes_through_and_is_held_here_meanwhile():
    client, server = pair()
    pump(client, server)
    big = Refused("x" * 1000)
    for _ in range(5000):
        server.send(big)
    held = len(server._waiting)
    assert held > 3 << 20  # what the window does not let out
    assert pump(client, server)["client"] == [c.Heard(big)] * 5000
    assert not server._waiting


def test_who_does_not_read_is_not_remembered_for_without_bound(monkeypatch):
    monkeypatch.setattr(c, "MAX_WAITING", 2 << 20)
    client, server = pair()
    pump(client, server)
    for _ in range(2900):
        server.send(Refused("x" * 1000))
    with pytest.raises(WireError, match="does not read"):
        server.send(Refused("x" * 1_000_000))


@pytest.mark.parametrize(
    ("client", "data", "says"),
    [
        (True, b"", "closed the connection"),
        (False, b"", "closed the connection"),
        (True, b"\x00" * 100, "broke HTTP/2"),
        (False, b"\x00" * 100, "broke HTTP/2"),
        (False, b"\xff" * 100, "broke HTTP/2"),
        (False, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "broke HTTP/2"),
    ],
)
def test_rubbish_ends_it(client, data, says):
    end = Carrier(client=client, authority="x")
    [event] = end.receive(data)
    assert says in event.reason
    assert end.receive(b"more") == []
    end.ping(b"12345678")  # nothing happens


def test_bad_messages_end_it():
    client, server = pair()
    pump(client, server)
    client._waiting += b"\xff\xff\xff\xff"
    client._flush()
    [event] = pump(client, server)["server"]
    assert "the peer sent a message of 4294967295 bytes" in event.reason


def test_another_path_is_told_no():
    server = Carrier(client=False)
    other = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    other.initiate_connection()
    other.send_headers(1, [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")], end_stream=True)
    events = server.receive(other.data_to_send())
    assert "asked for GET /" in events[-1].reason
    statuses = [dict(e.headers)[":status"] for e in other.receive_data(server.pending()) if hasattr(e, "headers")]
    assert statuses == ["404"]


def test_goodbye():
    client, server = pair()
    client.send(Refused("bye"))
    client.close()
    found = pump(client, server)["server"]
    assert c.Heard(Refused("bye")) in found
    assert isinstance(found[-1], c.Ended)


def test_a_message_cut_by_the_end_is_said():
    client, server = pair()
    pump(client, server)
    client._waiting += encode(Ack(1))[:-1]
    client._flush()
    client._h2.end_stream(client._stream)
    assert pump(client, server)["server"] == [c.Ended("the peer ended the session in the middle of a message")]
